"""What happens in a golden journal, and what is there to be seen of it: told by the release that writes it, and
compared with what later releases see."""

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

from holdfast.journal.records import StreamId
from holdfast.journal.url import open_store
from holdfast.runtime import Runtime, Sharded

from .domain import Account, Order

ACCOUNTS, ORDERS = ("alice", "Zoë / 猫", "nobody"), ("o-1",)


async def happen(url: str) -> None:
    """Commands, some with a caller's key and metadata; snapshots, over a reopening; a reminder, where there are any."""
    for part in range(2):
        async with Runtime.local(url, placement=Sharded(1)) as runtime:
            for n, id in enumerate(ACCOUNTS[:2]):
                account = runtime.get(Account, id, metadata={"clerk": "eve", "n": n})
                if not part:
                    await account.open(f"{id} & sons")
                for amount in range(4):
                    await account.deposit(Decimal(amount) + Decimal("0.10"), f"note {amount}" if amount % 2 else None)
            keyed = runtime.get(Account, "alice", idempotency_key=f"order-{part}")
            assert await keyed.deposit(Decimal(1)) == await keyed.deposit(Decimal(1))
            await runtime.get(Order, ORDERS[0]).order("a", "b")
            if hasattr(Order, "remind"):
                await runtime.get(Order, ORDERS[0]).expire_later()
            for id in ACCOUNTS[:2]:
                await runtime.passivate(Account, id)  # its snapshot is written when this returns


async def told(url: str) -> dict[str, Any]:
    """All that is there, as JSON has it: each event whole, the state at each version, and the replies by key."""
    streams: dict[str, Any] = {}
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        for cls, ids in ((Account, ACCOUNTS), (Order, ORDERS)):
            for id in ids:
                events = [each async for each in runtime.read(cls, id)]
                states = [await runtime.state_at(cls, id, version=version) for version in range(len(events) + 1)]
                streams[str(_stream(cls, id))] = {
                    "version": len(events),
                    "events": [_told_event(each) for each in events],
                    "states": [_told_state(cls, each) for each in states],
                }
    return {"streams": streams, **await _stored(url)}


async def _stored(url: str) -> dict[str, Any]:
    """What the store says, below all classes: digests of whole records, and replies."""
    store = open_store(url)
    await store.open()
    try:
        records = await store.read_all(limit=1000)
        replies = await store.find_keyed(_stream(Account, "alice"), ["order-0", "order-1", "order-2"])
        return {
            "head": await store.head(),
            "records": [_digest(each) for each in records],
            "replies": {
                key: [found.version, found.reply.hex(), found.fingerprint.hex()] for key, found in replies.items()
            },
        }
    finally:
        await store.close()


def _digest(record: Any) -> str:
    parts = (
        record.position,
        *record.stream,
        record.version,
        record.type,
        record.payload,
        record.command_id,
        record.recorded_at,
        record.metadata,
        record.reply,
    )
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).hexdigest()


def _stream(cls: Any, id: str) -> StreamId:
    return StreamId(cls.__holdfast_options__.category, id)


def _told_event(event: Any) -> dict[str, Any]:
    context = event.context
    return {
        "position": event.position,
        "version": event.version,
        "type": event.type,
        "event": repr(event.event),
        "command_id": context.command_id,
        "correlation_id": context.correlation_id,
        "recorded_at": event.recorded_at.isoformat(),
        "metadata": dict(event.metadata),
    }


def _told_state(cls: Any, state: Any) -> dict[str, str]:
    fields = sorted(cls.__holdfast_fields__)
    return {name: repr(sorted(v) if isinstance(v := getattr(state, name), set) else v) for name in fields}
