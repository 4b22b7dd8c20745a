"""Rounds: the compared systems take turns, in an order that is swapped each time.

A B, B A, A B, …: whatever drifts during a run (a disk that fills its cache, a clock that is throttled, a neighbour on
the machine) meets both alike, and neither always runs in what the other one left behind.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["System", "alternate", "order"]

System = Callable[[], Awaitable[float]]
"""Runs one system once, and says what was measured."""


def order(systems: Sequence[str], number: int) -> list[str]:
    """Whose turn it is, in round `number` (from 0)."""
    return list(systems) if number % 2 == 0 else list(reversed(systems))


async def alternate(
    systems: Mapping[str, System],
    rounds: int,
    *,
    warm_up: bool = True,
    after: Callable[[str, float], None] = lambda name, sample: None,
) -> dict[str, tuple[float, ...]]:
    """The samples of each system, one per round. `warm_up`: run each once before, which does not count. `after`: is
    told of each sample that counts."""
    samples: dict[str, list[float]] = {name: [] for name in systems}
    if warm_up:
        for system in systems.values():
            await system()
    for number in range(rounds):
        for name in order(list(systems), number):
            samples[name].append(await systems[name]())
            after(name, samples[name][-1])
    return {name: tuple(taken) for name, taken in samples.items()}
