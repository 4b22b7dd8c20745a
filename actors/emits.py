"""Emits: which event classes a method's code emits, as far as that can be told without running it.

Read from the bytecode, not the source: it is there at a prompt, in a notebook and in a process that got the
class by value, and it is never a newer edit of the file. `self.emit(Deposited(…))` and
`self.emit(events.Deposited(…))` are seen; an event that is made elsewhere is not, and is told at run time by
`UnhandledEvent`.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dis
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

__all__ = ["emitted_classes"]


def emitted_classes(function: FunctionType) -> Iterator[type]:
    """The classes whose instances the function hands to `self.emit` right where it makes them."""
    code = function.__code__
    if "emit" not in code.co_names or not code.co_varnames:
        return
    reads = [i for i in dis.get_instructions(code) if i.opname not in ("PUSH_NULL", "CACHE", "NOP")]
    for index, instruction in enumerate(reads):
        if instruction.argval == "emit" and index and _is_self(reads[index - 1], code):
            thing = _named(reads[index + 1 :], function)
            if isinstance(thing, type):
                yield thing


def _is_self(instruction: dis.Instruction, code: CodeType) -> bool:
    """Python 3.13 loads two variables at once; the last of them is on top."""
    if not instruction.opname.startswith(("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_DEREF")):
        return False
    loaded = instruction.argval[-1] if isinstance(instruction.argval, tuple) else instruction.argval
    return bool(loaded == code.co_varnames[0])


def _named(reads: list[dis.Instruction], function: FunctionType) -> Any:
    """What the name, or the name with dots, at the head of these instructions means; None if that is no class."""
    thing = _variable(reads[0], function) if reads else None
    for instruction in reads[1:]:
        if instruction.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        thing = inspect.getattr_static(thing, instruction.argval, None)
    return thing


def _variable(instruction: dis.Instruction, function: FunctionType) -> Any:
    if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
        return function.__globals__.get(instruction.argval)
    if instruction.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        try:
            return cells[instruction.argval].cell_contents
        except (KeyError, ValueError):  # bound later, or a variable of the function itself
            return None
    return None
