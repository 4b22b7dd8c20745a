"""Types of events, as the journal stores them: a name, and from its second version on the version behind it.

    account.deposited       version 1, and whatever was written before events had versions
    account.deposited@2     version 2

The name that a user gives never ends like that (`VERSIONED`), so each stored type is read in one way only.
"""

import re

__all__ = ["VERSIONED", "name_and_version", "typed_name"]

VERSIONED = re.compile(r"(.*)@([0-9]+)", re.DOTALL)
"""A name that ends in an `@` and digits."""

_STORED = re.compile(r"(.+)@([2-9]|[1-9][0-9]{1,8})", re.DOTALL)


def typed_name(name: str, version: int = 1) -> str:
    """What the journal stores as the type of an event of this name and version."""
    return name if version == 1 else f"{name}@{version}"


def name_and_version(stored: str) -> tuple[str, int]:
    """The other way round, for any text: what is no version that `typed_name` writes is a part of the name."""
    found = _STORED.fullmatch(stored) if "@" in stored else None
    return (found[1], int(found[2])) if found else (stored, 1)
