"""Derived ids: those of the commands that a command sends, equal whenever that one runs again, so they act once."""

from collections.abc import Mapping, Sequence
from typing import Any

from .fingerprint import fingerprint
from .reacting import REACT
from .unit import Unit

__all__ = ["derived_id"]


def derived_id(
    caller: Unit, category: str, id: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """The id of the next command that `caller` sends to an aggregate.

    It follows from the caller's own id, from what is sent, and from how many times the same was sent before; not from
    the order of different ones: an async command may send several at once.

    Of a reaction, whose caller's id is the place of an event, it follows from whom it is sent to and how many were sent
    there before, whatever they say. A handler that runs again and sends another amount, or another command, than the
    first time is refused by the receiver (`KeyReused`); an id made from what is sent would let both have their effect.
    """
    what = place = f"{category}/{id}"
    if caller.command.name != REACT:
        what = fingerprint(f"{place}.{method}", args, kwargs).hex()
    nth = caller.sent[what] = caller.sent.get(what, 0) + 1
    context = caller.context
    return fingerprint(context.sends_as or context.command_id, (*context.chain, what, nth), {}).hex()
