"""Notes: the files in which callers write what they do, and the history that all of them make together.

One line when a call is made, one when it is answered, each written to the system at once: a caller that is killed
keeps what it was told, and what it had asked for stands there as asked. A last line cut short is no line.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.checkers import Operation

from .workload import PATIENCE_S, Plan

__all__ = ["Histories", "Note", "Notes"]


class Notes:
    """One process's file, written to as it goes."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._calls = 0

    def called(self, client: str, plan: Plan) -> int:
        """Note a call about to be made; its number here."""
        self._calls += 1
        told = {
            "client": client,
            "aggregate": plan.aggregate,
            "kind": "query" if plan.is_query else "command",
            "name": plan.method,
            "argument": plan.argument,
            "token": plan.token,
            "keyed": plan.keyed,
            "sure": plan.linearizable or not plan.is_query,
            "patient": plan.cancel_s is None and plan.timeout_s >= PATIENCE_S,
        }
        self._write({"call": self._calls, "at": time.monotonic(), **told})
        return self._calls

    def returned(self, call: int, outcome: str, value: Any = None, why: str = "") -> None:
        """Note what the caller was told."""
        self._write({"return": call, "at": time.monotonic(), "outcome": outcome, "value": value, "why": why})

    def problem(self, text: str) -> None:
        """Something that must not be."""
        self._write({"problem": text})

    def says(self, what: str) -> None:
        """Something that the conductor waits for."""
        self._write({"says": what})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


@dataclass(slots=True)
class Note:
    """One call, as far as it is known. `sure`: its answer is bound by time, not only by its version: all commands,
    and the queries that ask for it. `patient`: its caller waited a minute."""

    line: dict[str, Any]
    outcome: str = "unknown"
    returned: float | None = None
    value: Any = None
    why: str = ""

    @property
    def called(self) -> float:
        called: float = self.line["at"]
        return called

    @property
    def done(self) -> bool:
        return self.outcome == "done"

    def operation(self) -> Operation:
        """For the judges. A query that settles for a paused owner's answer may be as old as it likes."""
        named = {key: self.line[key] for key in ("client", "aggregate", "kind", "name", "argument", "token")}
        returned = None if self.outcome == "unknown" else self.returned
        called = self.called if self.line["sure"] else 0.0
        return Operation(**named, called=called, returned=returned, outcome=self.outcome, value=self.value)  # type: ignore[arg-type]


@dataclass(slots=True)
class _Reader:
    """What was read of one file so far."""

    path: Path
    offset: int = 0
    rest: bytes = b""
    calls: dict[int, Note] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class Histories:
    """All files of a folder, read as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._readers: dict[Path, _Reader] = {}

    def fresh(self) -> list[Note]:
        """Calls answered since the last time."""
        found: list[Note] = []
        for path in self.folder.glob("*.jsonl"):
            reader = self._readers.setdefault(path, _Reader(path))
            for line in _lines(reader):
                if "call" in line:
                    reader.calls[line["call"]] = Note(line)
                elif "return" in line:
                    note = reader.calls[line["return"]]
                    note.outcome, note.value, note.returned = line["outcome"], line["value"], line["at"]
                    note.why = line["why"]
                    found.append(note)
                elif "says" in line:
                    reader.said.append(line["says"])
                else:
                    self.problems.append(f"{path.stem}: {line['problem']}")
        return found

    def said(self, name: str) -> list[str]:
        """What the process that writes the file `name` has said."""
        reader = self._readers.get(self.folder / f"{name}.jsonl")
        return reader.said if reader else []

    def notes(self) -> Iterable[Note]:
        """Every call of every file."""
        return (note for reader in self._readers.values() for note in reader.calls.values())

    @staticmethod
    def unanswered(path: Path) -> list[dict[str, Any]]:
        """The keyed commands that the writer of a file had made, and had no answer to."""
        reader, answered, called = _Reader(path), set[str](), dict[str, dict[str, Any]]()
        tokens: dict[int, str] = {}
        for line in _lines(reader):
            if "call" in line and line["keyed"]:
                tokens[line["call"]] = line["token"]
                called[line["token"]] = line
            elif "return" in line and line["return"] in tokens and line["outcome"] == "done":
                answered.add(tokens[line["return"]])
        return [line for token, line in called.items() if token not in answered]


def _lines(reader: _Reader) -> Iterable[dict[str, Any]]:
    with reader.path.open("rb") as file:
        file.seek(reader.offset)
        read = file.read()
    reader.offset += len(read)
    *whole, reader.rest = (reader.rest + read).split(b"\n")
    return [json.loads(line) for line in whole]
