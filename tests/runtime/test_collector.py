"""The collector: looks at what is new, and at everything when as much has come as there was."""

import gc
import weakref

import pytest

from holdfast.runtime import collector
from holdfast.runtime.collector import Collector


class Heap:
    """Stands in for the module `gc`: `young` objects are looked at, `aside` ones are not."""

    def __init__(self, young):
        self.callbacks, self.young, self.aside, self.seen = [], young, 0, []

    def freeze(self):
        self.aside, self.young = self.aside + self.young, 0

    def unfreeze(self):
        self.aside, self.young = 0, self.aside + self.young

    def get_objects(self, generation=None):
        return [None] * self.young

    def collect(self, new, generation=2):
        """`new` objects have come; a collection looks at them, and at all others that are not set aside."""
        self.young += new
        self.seen.append(self.young)
        for phase in ("start", "stop"):
            for callback in self.callbacks:
                callback(phase, {"generation": generation})


class Ring:
    """Garbage, once nobody else knows it, that only a look finds: it knows itself."""

    def __init__(self):
        self.ring = self


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(collector, "WHOLE_LOOK_MIN", 50)


def test_each_object_is_looked_at_once_while_others_come():
    """Until as many have come as there were at the last look at everything; then comes the next one."""
    heap = Heap(100)
    Collector(heap).start()
    for _ in range(9):
        heap.collect(20)
    assert heap.seen == [120, 20, 20, 20, 20, 20, 20, 260, 20]


def test_a_small_heap_is_not_looked_at_again_and_again():
    """Everything is looked at after fifty objects, however few there were before."""
    heap = Heap(0)
    Collector(heap).start()
    for _ in range(7):
        heap.collect(10)
    assert heap.seen == [10, 10, 10, 10, 10, 10, 70]


def test_collections_of_the_young_generations_set_nothing_aside():
    """Most of what they meet is about to go by itself."""
    heap = Heap(100)
    Collector(heap).start()
    for generation in (0, 1):
        heap.collect(20, generation)
    assert (heap.young, heap.aside) == (140, 0)


def test_garbage_that_was_set_aside_is_found_at_the_next_look_at_everything():
    """By Python's own collector: not before, and then for certain."""
    others = list(gc.callbacks)
    Collector().start()
    try:
        ring = Ring()
        seen = weakref.ref(ring)
        gc.collect()
        del ring
        gc.collect()
        assert seen() is not None
        new = [[] for _ in range(len(gc.get_objects()) + gc.get_freeze_count())]
        gc.collect()  # as much has come as there was
        gc.collect()
        assert seen() is None
        del new
    finally:
        gc.callbacks[:] = others
        gc.unfreeze()
