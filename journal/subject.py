"""Subjects: what a line of the log is about, written and handed on the same way everywhere.

log = Log(__name__)
log.warning(cell.subject, "an append failed, reading the journal again: %s", error)

    Account<alice@17>: an append failed, reading the journal again: …
"""

import logging
from typing import Any

__all__ = ["Log", "Subject"]


class Subject:
    """`Account<alice@17>`: a category, which of it, and its version, or the epoch of what claims its name. `more`: what
    else whoever reads the fields may want to know."""

    __slots__ = ("fields",)

    def __init__(self, category: str, id: str = "", **more: Any) -> None:
        self.fields: dict[str, Any] = {"category": category, "id": id, **more}

    def __str__(self) -> str:
        fields = self.fields
        at = fields.get("version", fields.get("epoch"))
        name = f"{fields['id']}" if at is None else f"{fields['id']}@{at}"
        return f"{fields['category']}<{name}>" if name else str(fields["category"])


class Log:
    """A logger of the standard library whose lines begin with their subject."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, subject: Subject, text: str, *args: Any, exc_info: Any = None) -> None:
        """For those who look for a fault."""
        self._tell(logging.DEBUG, subject, text, args, exc_info)

    def info(self, subject: Subject, text: str, *args: Any, exc_info: Any = None) -> None:
        """What happens, and is as it should be."""
        self._tell(logging.INFO, subject, text, args, exc_info)

    def warning(self, subject: Subject, text: str, *args: Any, exc_info: Any = None) -> None:
        """What mends itself, and should not happen often."""
        self._tell(logging.WARNING, subject, text, args, exc_info)

    def error(self, subject: Subject, text: str, *args: Any, exc_info: Any = None) -> None:
        """What needs somebody to look."""
        self._tell(logging.ERROR, subject, text, args, exc_info)

    def _tell(self, level: int, subject: Subject, text: str, args: tuple[Any, ...], exc_info: Any) -> None:
        if not self._logger.isEnabledFor(level):
            return
        errors = [type(each).__name__ for each in (*args, exc_info) if isinstance(each, BaseException)]
        fields = subject.fields | ({"error": errors[0]} if errors else {})
        # Two frames up: whoever wrote the line.
        self._logger.log(
            level, f"%s: {text}", subject, *args, exc_info=exc_info, extra={"holdfast": fields}, stacklevel=3
        )
