"""Whereabouts: on which machine a journal may be started, and with what.

A journal in a file belongs to the machine that has the file: the same path elsewhere is another file, and would be
another, empty journal. So the first runtime that starts it notes its own machine and the URL where the whole cluster
sees it, and whoever finds the journal missing later, a host too, starts it again there. One in memory is started once,
by a runtime that was opened: started again it would be empty. A database is reached from anywhere.

Before this: no journal was found under its name. After this: the cluster starts it as it is told here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from holdfast.journal.url import JournalUrl

from .cluster import JournalSpec, PeerGone, journal_name
from .directory import Notes

__all__ = ["FileNotes", "Node", "Start", "Whereabouts"]


class FileNotes(Notes, Protocol):
    """Notes that can be replaced too."""

    def put(self, key: str, value: str) -> None:
        """Give the key this value, whatever it had."""
        ...


class Node(NamedTuple):
    """A node of the cluster, and the machine that it is on."""

    id: str
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start a partition. `restarts`: the cluster starts it again when it dies. `node`: the only one that will
    do; "": any."""

    spec: JournalSpec
    restarts: bool
    node: str = ""


class Whereabouts:
    """Of one journal, as one process knows them."""

    def __init__(
        self,
        spec: JournalSpec,
        *,
        notes: FileNotes,
        key: str,
        machine: str,
        nodes: Callable[[], list[Node]],
        may_start: bool,
    ) -> None:
        """`key`: what the note of its file is called. `machine`: this one. `nodes`: gives those that are alive, this
        process's own first; blocks. `may_start`: only a runtime that was opened says where the journal is, if nobody
        has yet."""
        self._spec, self._notes, self._key = spec, notes, key
        self._machine, self._nodes, self._may_start = machine, nodes, may_start
        self._in_memory: set[int] = set()  # partitions that this runtime has started

    async def start_of(self, partition: int) -> Start:
        """For a partition that does not run. Raises `PeerGone` if it must not, or cannot, be started from here."""
        spec = self._spec
        if self._may_start and spec.volatile and partition not in self._in_memory:
            self._in_memory.add(partition)
            return Start(spec=spec, restarts=False)
        if self._may_start and not spec.volatile and not JournalUrl.parse(spec.url).is_local_file:
            return Start(spec=spec, restarts=True)
        found = None if spec.volatile else await asyncio.to_thread(self._file)
        if found is None:
            why = "it kept its events in memory" if spec.volatile else "no runtime has opened it"
            raise PeerGone(journal_name(partition), f"it does not run; {why}")
        machine, url, keys = found
        node = next((node for node in await asyncio.to_thread(self._nodes) if node.machine == machine), None)
        if node is None:
            raise PeerGone("the journal", f"its file is on the machine {machine}, which has no node in the cluster now")
        return Start(spec=replace(spec, url=url, keys=keys or spec.keys), restarts=True, node=node.id)

    def failed(self, partition: int) -> None:
        """It was not started after all: one in memory may be."""
        self._in_memory.discard(partition)

    def _file(self) -> tuple[str, str, str] | None:
        """The machine that has the journal's file, its URL, and that of its key store, if one was named."""
        found, url, keys = self._noted(), self._spec.url, self._spec.keys
        if self._may_start and (found is None or found[1] != url or (keys and found[2] != keys)):
            note = "\n".join(filter(None, (self._machine, url, keys)))
            if found is None:
                self._notes.add(self._key, note)  # of two that start it at once, one says where it is
            else:
                self._notes.put(self._key, note)
            found = self._noted()
        return found

    def _noted(self) -> tuple[str, str, str] | None:
        note = self._notes.get(self._key)
        if note is None:
            return None
        machine, url, keys, *_ = f"{note}\n\n".split("\n")
        return machine, url, keys
