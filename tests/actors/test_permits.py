"""Permits: as many at once as there are, in order, and none lost."""

from holdfast.actors.permits import Permits


class Queue:
    """Whoever asks for a permit, and is in when it is granted."""

    def __init__(self, count):
        self.permits, self.entered, self._ways = Permits(count), [], {}

    def ask(self, *names):
        for name in names:
            way = self._ways[name] = lambda name=name: self.entered.append(name)
            self.permits.ask(way)

    def withdraw(self, name):
        return self.permits.withdraw(self._ways[name])


def test_no_more_enter_than_there_are_permits_and_in_order():
    """The next one as soon as one is given back."""
    queue = Queue(2)
    queue.ask(*"abcd")
    assert queue.entered == ["a", "b"]
    assert queue.permits.locked()
    queue.permits.give_back()
    assert queue.entered == ["a", "b", "c"]
    queue.permits.give_back()
    assert queue.entered == ["a", "b", "c", "d"]


def test_one_that_stops_waiting_is_passed_over():
    """Its turn goes to the next one."""
    queue = Queue(1)
    queue.ask(*"abc")
    assert queue.withdraw("b")
    queue.permits.give_back()
    assert queue.entered == ["a", "c"]


def test_one_that_has_a_permit_cannot_withdraw():
    """It has to give it back: it would be missing for ever, or be there twice."""
    queue = Queue(1)
    queue.ask(*"ab")
    assert not queue.withdraw("a")
    queue.permits.give_back()
    assert not queue.withdraw("b")
    assert queue.entered == ["a", "b"]


def test_all_that_were_given_back_are_there_again():
    """None is lost, whether anybody waited when it came back or not."""
    queue = Queue(2)
    queue.ask(*"abc")
    for _ in "abc":
        queue.permits.give_back()
    assert not queue.permits.locked()
    queue.ask(*"def")
    assert queue.entered == list("abcde")
