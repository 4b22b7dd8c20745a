"""Positions: a checkpoint of one number for each partition."""

import msgspec
import pytest

from holdfast.journal.positions import Positions


def test_positions_print_and_come_back():
    """As text, and as MessagePack."""
    at = Positions((17, 4, 0))
    assert str(at) == "17,4,0"
    assert Positions.parse(str(at)) == at
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(at), type=Positions) == at
    assert (len(at), list(at), at[1]) == (3, [17, 4, 0], 4)
    assert len({at, Positions((17, 4, 0))}) == 1


@pytest.mark.parametrize("text", ["", "1,", "a", "-1,2", "1 ,2", "²"])
def test_what_is_no_text_of_positions_is_refused(text):
    """Rather than read from the beginning."""
    with pytest.raises(ValueError, match="positions are written"):
        Positions.parse(text)


@pytest.mark.parametrize("each", [(), (-1,), (1.5,), ("1",)])
def test_positions_are_whole_numbers_from_0_on(each):
    """One for each partition, so at least one."""
    with pytest.raises(ValueError, match="whole numbers"):
        Positions(each)


def test_positions_have_a_partial_order():
    """One is before another if it is nowhere ahead; of two that are ahead of each other, neither is."""
    low, high, aside = Positions((1, 2)), Positions((1, 3)), Positions((2, 1))
    assert low <= low <= high
    assert low < high > low
    assert high >= low
    assert not low < low
    assert not low <= aside
    assert not aside <= low
    with pytest.raises(ValueError, match="longer"):
        assert low < Positions((1, 2, 3))
