"""What a host has done since it started, counted by all its cells."""

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Each only ever grows, but `last_hydration_rows`: snapshot and event rows that the latest one read.

    `expired`: calls whose deadline passed before they were done. `replays`: calls answered with the reply of an
    earlier copy. `recoveries`: times that tentative state was forgotten. `failures`: calls that raised; `rejections`:
    those of them that raised a `Rejected`. `slow_commands`: that ran longer than their limit.
    """

    commands: int = 0
    events: int = 0
    expired: int = 0
    failures: int = 0
    hydration_rows: int = 0
    hydrations: int = 0
    last_hydration_rows: int = 0
    passivations: int = 0
    queries: int = 0
    recoveries: int = 0
    rejections: int = 0
    replays: int = 0
    slow_commands: int = 0
