"""Figures: medians, ratios of rounds, targets."""

import math

import pytest

from benchmarks.harness import Comparison, at_least, at_most, below, percentile
from benchmarks.harness.units import told


def compared(ours: tuple[float, ...], theirs: tuple[float, ...] = (), **more) -> Comparison:
    return Comparison(figure="commands", unit="/s", ours=ours, theirs=theirs, compared="theirs", **more)


def test_the_ratio_is_the_median_of_the_ratios_of_each_round():
    """Not the ratio of the medians: that one pairs samples of different moments."""
    comparison = compared((10.0, 40.0, 90.0), (10.0, 10.0, 90.0))
    assert comparison.ratios == (1.0, 4.0, 1.0)
    assert comparison.ratio == 1.0
    assert comparison.median / comparison.compared_median == 4.0


def test_a_slow_machine_in_one_round_cancels_out():
    """Both systems at a tenth of their speed leave the ratio where it was."""
    steady = compared((200.0, 200.0, 200.0), (100.0, 100.0, 100.0))
    slowed = compared((200.0, 20.0, 200.0), (100.0, 10.0, 100.0))
    assert steady.ratio == slowed.ratio == 2.0


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    """Of both the figures and the ratios."""
    comparison = compared((1.0, 2.0, 3.0, 10.0), (1.0, 1.0, 1.0, 1.0))
    assert comparison.median == comparison.ratio == 2.5


def test_rounds_are_pairs():
    """A sample without its counterpart is refused, and so is no sample at all."""
    with pytest.raises(ValueError, match="rounds are pairs"):
        compared((1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="no samples"):
        compared(())


@pytest.mark.parametrize(
    ("target", "met", "missed"),
    [(at_least(2), 2.0, 1.99), (at_most(2), 2.0, 2.01), (below(2), 1.99, 2.0)],
)
def test_a_target_is_met_on_its_own_side(target, met, missed):
    """Exactly on the mark counts, except where it says "below"."""
    assert compared((met,), (1.0,), target=target).met is True
    assert compared((missed,), (1.0,), target=target).met is False


def test_a_target_in_a_unit_judges_the_figure_and_not_the_ratio():
    """2,048 bytes are about bytes, whatever they are compared with."""
    assert compared((100.0,), (1.0,), target=at_most(2048, "bytes")).judged == 100.0
    assert compared((100.0,), (1.0,), target=at_most(2048)).judged == 100.0
    assert compared((100.0,), (50.0,), target=at_most(2048)).judged == 2.0


def test_without_a_target_nothing_is_met_or_missed():
    """It is reported, and nothing more."""
    comparison = compared((3.0,), (1.0,))
    assert comparison.met is None
    assert "no target" in comparison.verdict()


def test_the_last_line_names_ratio_target_and_outcome():
    """Scripts read it."""
    assert compared((30.0,), (1.0,), target=at_least(25)).verdict() == "30 x theirs, target ≥ 25 x: met"
    assert compared((20.0,), (1.0,), target=at_least(25)).verdict() == "20 x theirs, target ≥ 25 x: missed"


def test_a_percentile_is_a_sample_that_occurred():
    """The smallest one that the share of all does not exceed."""
    samples = [float(n) for n in range(100, 0, -1)]
    assert [percentile(samples, share) for share in (0.01, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_numbers_are_told_in_the_size_that_fits():
    """Rates, times and sizes of any magnitude."""
    assert told(12345.6, "/s") == "12,346 /s"
    assert [told(value, "s") for value in (1.5, 0.0015, 0.0000015)] == ["1.5 s", "1.5 ms", "1.5 µs"]
    assert [told(value, "bytes") for value in (1 << 31, 1536, 12)] == ["2 GiB", "1.5 KiB", "12 bytes"]
    assert told(None, "s") == "-"
    assert not math.isnan(float(told(0.0, "x").split()[0]))
