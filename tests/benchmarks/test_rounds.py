"""Rounds: who runs when, and what counts."""

from benchmarks.harness import alternate, order


def recording(log: list[str], name: str):
    async def once() -> float:
        log.append(name)
        return float(len(log))

    return once


def test_the_order_is_swapped_each_round():
    """A B, B A, A B: neither always runs in what the other one left behind."""
    assert [order(["a", "b"], number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert order(["a", "b", "c"], 1) == ["c", "b", "a"]


async def test_systems_take_turns_after_a_warm_up_that_does_not_count():
    """One run of each first, then the rounds; the samples stand in the order of the rounds."""
    log: list[str] = []
    samples = await alternate({"a": recording(log, "a"), "b": recording(log, "b")}, 3)
    assert log == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert samples == {"a": (3.0, 6.0, 7.0), "b": (4.0, 5.0, 8.0)}


async def test_without_a_warm_up_the_first_run_counts():
    """As a question asks that brings its own."""
    log: list[str] = []
    samples = await alternate({"a": recording(log, "a")}, 2, warm_up=False)
    assert samples == {"a": (1.0, 2.0)}


async def test_each_sample_that_counts_is_told_once():
    """The progress bar ends where it should."""
    told: list[tuple[str, float]] = []
    log: list[str] = []
    systems = {"a": recording(log, "a"), "b": recording(log, "b")}
    await alternate(systems, 2, after=lambda name, sample: told.append((name, sample)))
    assert told == [("a", 3.0), ("b", 4.0), ("b", 5.0), ("a", 6.0)]
