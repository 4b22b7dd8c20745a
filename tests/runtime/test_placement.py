"""Placements and the configuration: values that are checked when they are made."""

import pickle
from dataclasses import fields
from typing import Any

import pytest

from holdfast.runtime import Config, Dedicated, HostLimits, Sharded
from holdfast.runtime.placement import Placement, Placements


def test_a_dedicated_placement_names_each_aggregate() -> None:
    """One host for each, one aggregate in each."""
    placement = Dedicated(live_max=7)
    assert placement.owner("Account", "a/b") == "Account/a/b"
    assert (placement.hosts_max, placement.live_max_per_host(), placement.recorded_as) == (7, 1, "dedicated")


def test_a_sharded_placement_spreads_evenly_and_for_ever() -> None:
    """The same owner in every process and release: these names are in journals."""
    placement = Sharded(4, live_max=10)
    assert [placement.owner("Account", id) for id in ("alice", "bob", "é")] == ["Account#3", "Account#0", "Account#2"]
    owners = [placement.owner("Account", f"a{n}") for n in range(4000)]
    assert all(800 < owners.count(f"Account#{n}") < 1200 for n in range(4))
    assert (placement.hosts_max, placement.live_max_per_host(), placement.recorded_as) == (None, 3, "sharded(4)")


def test_what_is_recorded_does_not_depend_on_bounds() -> None:
    """They may be changed between runs."""
    assert Sharded(2, live_max=5, idle_s=1).recorded_as == Sharded(2).recorded_as
    assert Dedicated(live_max=5).recorded_as == Dedicated().recorded_as


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sharded(0),
        lambda: Sharded(-1),
        lambda: Sharded(2, live_max=0),
        lambda: Dedicated(live_max=0),
        lambda: Dedicated(idle_s=0),
        lambda: Config(timeout_s=0),
        lambda: Config(batch_max=-1),
        lambda: Config(suspect_s=float("nan")),
        lambda: HostLimits(live_max=0),
    ],
)
def test_bounds_are_above_zero(make: Any) -> None:
    """Told where it is written."""
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        make()


def test_placements_are_by_category_with_a_default() -> None:
    """And they travel to hosts."""
    placements = Placements(Dedicated(), {"Account": Sharded(2)})
    assert placements.of("Account") == Sharded(2)
    assert placements.of("Teller") == Dedicated()
    assert pickle.loads(pickle.dumps(placements)) == placements
    assert isinstance(Sharded(2), Placement)


def test_every_setting_is_documented() -> None:
    """The docstring is the documentation."""
    for cls in (Config, HostLimits):
        for field in fields(cls):
            assert f"`{field.name}`" in (cls.__doc__ or "")
