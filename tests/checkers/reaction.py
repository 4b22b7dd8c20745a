"""What a reaction has done, by the events that it left: for each event that it reacts to, once.

An effect is an event of some stream, together with what caused it: the key of a delivery, as the effect's own record
tells. So two deliveries that do the same are told apart, and whoever did what nobody wanted is found.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["Effect", "effects_once"]

Effect = tuple[str, str, str]
"""Its cause, its stream, and its type."""


def effects_once(name: str, wanted: Mapping[Effect, int], found: Iterable[Effect]) -> int:
    """`wanted`: what follows from the journal's events, and how often. `found`: all effects that there are. Returns how
    many. Raises AssertionError for one that is missing, done too often, or that nothing asked for."""
    counted = Counter(found)
    strange = [effect for effect in counted if effect not in wanted]
    assert not strange, f"{name}: {len(strange)} effects that no event asked for: {strange[:5]}"
    often = [(effect, counted[effect], times) for effect, times in wanted.items() if counted[effect] > times]
    assert not often, f"{name}: {len(often)} effects came too often (effect, found, wanted): {often[:5]}"
    missing = [(effect, counted[effect], times) for effect, times in wanted.items() if counted[effect] < times]
    assert not missing, f"{name}: {len(missing)} effects are missing (effect, found, wanted): {missing[:5]}"
    return counted.total()
