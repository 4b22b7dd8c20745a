"""Forgotten: the event that tells whoever lives from the journal that a data subject was forgotten.

    @on(Forgotten)                        in a projection: blank or remove the rows that it made of that subject
    def forgotten(self, event: Forgotten) -> None: ...

It stands in a stream of its own for each subject, of a category that no aggregate has, after all events whose personal
fields it has made blank. What is sealed in the journal needs no such event; rows that were made from it do.
"""

from holdfast.journal.reminders import RESERVED_PREFIX

from .events import system_event

__all__ = ["FORGOTTEN", "PRIVACY", "Forgotten"]

PRIVACY = f"{RESERVED_PREFIX}privacy"
"""The category of the streams with these events."""

FORGOTTEN = f"{RESERVED_PREFIX}forgotten"


@system_event(FORGOTTEN)
class Forgotten:
    """The key of this subject was destroyed. `generation`: of the newest key that was; 0, if there never was one."""

    kind: str
    id: str
    generation: int = 0
