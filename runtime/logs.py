"""Logs: what Holdfast says, in Python's own `logging`, under the logger `holdfast`. One subject to a line.

    Account<alice@17>: an append failed, reading the journal again: …        aggregate alice, at version 17
    host<Account#0@3>: fenced: …                                              a host, of epoch 3

What a line is about also comes as plain fields, `record.holdfast`. Holdfast configures no logging unless it is asked:
by `configure`, here, or for the processes that a runtime starts by `Config.log_level` and `Config.log_json`.
"""

import json as jsonlib
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["LEVELS", "JsonFormatter", "configure"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object to a line: `time` (UTC), `level`, `logger`, `message`, `process`, what the line is about
    (`category`, `id`, `version` or `epoch`, …), and `traceback` if there is one. Works for anybody's records."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        told |= {name: value for name, value in getattr(record, "holdfast", {}).items() if name not in told}
        if record.exc_info and record.exc_info[0] is not None:
            told["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return jsonlib.dumps(told, ensure_ascii=False, default=str)


class _Ours(logging.StreamHandler[TextIO]):
    """The handler that `configure` puts in place, so that a second call replaces it."""


def configure(*, level: str = "INFO", json: bool = False, stream: TextIO | None = None) -> None:
    """Have Holdfast's logger write to `stream` (None: stderr) from this level on, as lines or as JSON. Its records then
    go nowhere else: the root logger, which is yours, is left alone. A second call replaces the first. Raises
    `ValueError`."""
    if level not in LEVELS:
        raise ValueError(f"level is one of {', '.join(LEVELS)}, not {level!r}")
    handler = _Ours(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else logging.Formatter(LINE))
    logger = logging.getLogger("holdfast")
    for former in [each for each in logger.handlers if isinstance(each, _Ours)]:
        logger.removeHandler(former)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
