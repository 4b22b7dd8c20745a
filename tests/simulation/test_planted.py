"""The simulation notices what it is there to notice: every planted defect is found, within the seeds stated for it."""

import pytest

from tests.simulation.planted import DEFECTS, Defect, planted
from tests.simulation.planted_readers import READ_DEFECTS
from tests.simulation.run import Failure, simulate


@pytest.mark.parametrize("defect", [*DEFECTS, *READ_DEFECTS], ids=lambda defect: defect.name)
def test_a_planted_defect_is_found(defect: Defect) -> None:
    """One of `within` seeds goes wrong with the defect in place, and right without it."""
    seeds = range(defect.first, defect.first + defect.within)
    with planted(defect):
        found = next(filter(None, (_failure(seed, defect) for seed in seeds)), None)
    assert found is not None, f"{defect.name} went unnoticed for {seeds}"
    assert _failure(found.seed, defect) is None


def test_planted_defects_leave_nothing_behind() -> None:
    """Outside its block a defect is gone: the run that it broke is right."""
    defect = next(each for each in DEFECTS if each.name == "replies_go_out_before_they_are_durable")
    with planted(defect), pytest.raises(Failure):
        simulate(0, parts=())
    assert simulate(0, parts=()).done > 0


def _failure(seed: int, defect: Defect) -> Failure | None:
    try:
        simulate(seed, None, defect.focus, defect.partitions, defect.parts)
    except Failure as failure:
        return failure
    return None
