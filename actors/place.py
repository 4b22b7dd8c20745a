"""Places: file and line of what a definition error is about."""

import inspect
import linecache
import re
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["defining_frame", "place_of", "place_of_field", "visible_names"]


def defining_frame(cls: type) -> FrameType | None:
    """The frame that is executing the class statement, seen from a hook that the statement has called."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != cls.__module__:
        frame = frame.f_back
    return frame


def visible_names(frame: FrameType | None, cls: type | None = None) -> dict[str, Any]:
    """What annotations given as text may refer to: at this place, or, later, where the methods of the class were
    written. (A class typed at a prompt, or made by exec, need not be in the module that it names.)"""
    if frame is not None:
        return {**frame.f_globals, **frame.f_locals}
    names: dict[str, Any] = {}
    for thing in vars(cls).values() if cls is not None else ():
        names.update(getattr(getattr(thing, "__wrapped__", thing), "__globals__", {}))
    return names


def place_of(thing: type | Callable[..., Any], frame: FrameType | None = None) -> str:
    """`file:line` of a function or a class; empty when nothing is known."""
    code = getattr(thing, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    if frame is not None:
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):  # typed at a prompt, or made by exec
        return ""


def place_of_field(cls: type, field: str, frame: FrameType | None = None) -> str:
    """`file:line` of a field's annotation, else of the class."""
    place = place_of(cls, frame)
    path, _, line = place.rpartition(":")
    if not line.isdigit():
        return place
    lines = linecache.getlines(path)[int(line) - 1 :]
    indent = _indent(lines[0]) if lines else 0
    for number, text in enumerate(lines[1:], int(line) + 1):
        if re.match(rf"\s+{re.escape(field)}\s*[:=]", text):
            return f"{path}:{number}"
        if text.strip() and _indent(text) <= indent:
            break  # the class ends here
    return place


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
