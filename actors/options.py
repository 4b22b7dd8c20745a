"""Options: what a class statement says about its aggregate beside its fields.

class Account(Aggregate, category="account", snapshot_every=500): ...
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

__all__ = ["ClassKeywords", "Options"]

CATEGORY_BYTES_MAX = 255


class ClassKeywords(TypedDict, total=False):
    """What may stand beside `Aggregate` in a class statement: the fields of `Options`."""

    category: str
    snapshot_every: int
    snapshots_kept: int
    snapshot_version: int
    snapshot_on_passivate: bool
    idle_s: float | None
    slow_command_s: float | None
    abstract: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Plain and picklable; it hangs on the class and travels with it.

    `category`: the first half of the stream's name; the class's name if not given. It stays for ever.
    `snapshot_every`: events between snapshots. A smaller number hydrates faster and writes more.
    `snapshots_kept`: the newest ones that stay, per aggregate.
    `snapshot_version`: another one throws away the snapshots that there are: for a change of what events mean to the
    state that the code of handlers, events and upcasters does not show, in a library that they call, say.
    `snapshot_on_passivate`: take one when leaving memory, if there are newer events.
    `idle_s`: seconds without a call after which it leaves memory; None: as the host says.
    `slow_command_s`: seconds that a command may run before the watchdog reports it; None: as the runtime says.
    `abstract`: only a base for others; it cannot be used itself, and its events may be applied further down.
    """

    category: str = ""
    snapshot_every: int = 100
    snapshots_kept: int = 2
    snapshot_version: int = 1
    snapshot_on_passivate: bool = True
    idle_s: float | None = None
    slow_command_s: float | None = None
    abstract: bool = False

    def derive(self, name: str, given: ClassKeywords) -> "Options":
        """The options of a subclass called `name`: inherited, except its category and whether it is abstract.

        Raises `ValueError` naming the option that cannot be."""
        unknown = given.keys() - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"unknown class keyword {sorted(unknown)[0]!r}")
        start: ClassKeywords = {"category": name, "abstract": False}
        options = replace(self, **(start | given))
        options.check()
        return options

    def check(self) -> None:
        """Raise `ValueError` if these cannot be the options of an aggregate."""
        _check_category(self.category)
        for name in ("snapshot_every", "snapshots_kept", "snapshot_version"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number from 1, not {value!r}")
        for name in ("snapshot_on_passivate", "abstract"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is True or False, not {getattr(self, name)!r}")
        for name in ("idle_s", "slow_command_s"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise ValueError(f"{name} is a number of seconds above 0, or None, not {value!r}")


def _check_category(category: Any) -> None:
    if not isinstance(category, str) or not category or not category.isprintable() or "/" in category:
        raise ValueError(f"category is non-empty printable text without '/', not {category!r}")
    if len(category.encode()) > CATEGORY_BYTES_MAX:
        raise ValueError(f"category is at most {CATEGORY_BYTES_MAX} bytes, not {len(category.encode())}")
