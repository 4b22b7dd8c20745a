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


def visible_names(frame: FrameType | None) -> dict[str, Any]:
    """What annotations given as text may refer to at this place."""
    return {} if frame is None else {**frame.f_globals, **frame.f_locals}


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
    annotation = re.compile(rf"\s+{re.escape(field)}\s*:")
    for number, text in enumerate(linecache.getlines(path)[int(line) :], int(line) + 1):
        if annotation.match(text):
            return f"{path}:{number}"
    return place
