"""The stores that must keep the contract, and a scribe to write to them with.

A new store is held to every test here by one line in `STORES`.
"""

import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, KeyedReply, Load, NewEvent, Snapshot, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.store import Store

if (TESTS := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(TESTS)

import postgres_server

# What Hypothesis remembers of failures lies with pytest's cache: its own folder in the root of the repository
# makes pytest warn, and here a warning is an error.
set_hypothesis_home_dir(Path(__file__).parents[2] / ".pytest_cache" / "hypothesis")

STORES = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "journal.db"),
    "postgres": lambda folder: postgres_server.server().store(),
}

ALICE = StreamId("Account", "alice")


@dataclass(frozen=True)
class Scribe:
    """One owner at one store: builds the records of the contract with everything that a test leaves out."""

    store: Store
    owner: str
    epoch: int

    async def successor(self, incarnation="second"):
        """The same owner, claimed anew."""
        return replace(self, epoch=await self.store.claim(self.owner, incarnation))

    def event(self, command_id, *, reply=None, payload=b"\x80", **fields):
        """An event of a command."""
        defaults = {"type": "account.deposited", "recorded_at": 1_700_000_000_000_000}
        return NewEvent(command_id=command_id, reply=reply, payload=payload, **{**defaults, **fields})

    def key(self, key, version, *, fingerprint=b"deposit", reply=b"\x01"):
        """A reply recorded by key."""
        return KeyedReply(key=key, fingerprint=fingerprint, version=version, reply=reply)

    def build(self, *events, at, stream=ALICE, keys=()):
        """An append of these events, or of one event for each command id, after version `at`."""
        built = tuple(self.event(event) if isinstance(event, str) else event for event in events)
        return Append(
            stream=stream, owner=self.owner, epoch=self.epoch, expected_version=at, events=built, keys=tuple(keys)
        )

    async def append(self, *events, at, stream=ALICE, keys=()):
        """Append alone, and return the one result."""
        (result,) = await self.store.append([self.build(*events, at=at, stream=stream, keys=keys)])
        return result

    async def fill(self, count, *, stream=ALICE, prefix="c"):
        """Append `count` events to a stream that nobody has written, in one append."""
        await self.append(*(f"{prefix}{number}" for number in range(1, count + 1)), at=0, stream=stream)

    async def load(self, stream=ALICE, **fields):
        """Load one stream as a bystander, unless an owner is given."""
        (result,) = await self.store.load([Load(stream=stream, **fields)])
        return result

    async def snapshot(self, version, *, stream=ALICE, schema="s1", payload=b"\x80", keep=2):
        """Save one snapshot."""
        saved = Snapshot(stream=stream, version=version, schema=schema, payload=payload)
        await self.store.save_snapshots([saved], keep=keep)
        return saved


@pytest.fixture(params=STORES)
def journal(request):
    """A function that opens a new, empty store for `async with`, and hands out a scribe."""

    @asynccontextmanager
    async def opened(owner="host-1"):
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            store = STORES[request.param](Path(folder))
            await store.open()
            try:
                yield Scribe(store, owner, await store.claim(owner, "first"))
            finally:
                await store.close()

    return opened
