"""What do compression and personal data cost, against encoding the same event with neither?

An order with as many lines as make it about 4 KiB, in one process, without a disk, by the CPU that it takes:
compressing and expanding it with zstd; sealing one field of it under a key, and opening it; and looking for marks of
either, which is all that an event without them pays. Compared with encoding its fields as MessagePack, which every
event costs.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from benchmarks.harness import Question, Run, at_most
from holdfast.journal.compression import compressed, expanded
from holdfast.journal.keys import Key
from holdfast.journal.marked import has_mark
from holdfast.journal.opening import field_place
from holdfast.journal.records import StreamId
from holdfast.journal.sealed import opened, parsed_fields, seal, unparsed

QUESTION = Question(
    name="payloads",
    asks="what do compression and personal data cost, by event?",
    compared="encoding the same event as MessagePack",
    target=None,
)
STREETS = ("Baker Street", "Rue de Rivoli", "Unter den Linden", "Gran Via", "Via Appia")


def order(size: int, seed: int) -> bytes:
    """An order with as many lines as make it about so large: names, numbers, identifiers, amounts, times."""
    chance, lines, made = random.Random(seed), [], b""
    while len(made) < size:
        lines.append(
            {
                "sku": f"{chance.randrange(16**8):08x}",
                "name": f"item {chance.randrange(500)} of the catalogue",
                "quantity": chance.randrange(1, 20),
                "price": f"{chance.randrange(100, 99999) / 100:.2f}",
            }
        )
        made = msgspec.msgpack.encode(
            {
                "order_id": f"{chance.randrange(16**16):016x}",
                "placed_at": f"2026-11-{chance.randrange(1, 29):02d}T10:{chance.randrange(60):02d}:00Z",
                "address": f"{chance.randrange(200)} {chance.choice(STREETS)}",
                "lines": lines,
            }
        )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`bytes`: of the event. `calls`: of each round."""

    rounds: int
    bytes: int
    calls: int


FULL = Sizes(rounds=7, bytes=4096, calls=5000)
QUICK = Sizes(rounds=3, bytes=4096, calls=500)


async def measure(run: Run, sizes: Sizes) -> None:
    payload = order(sizes.bytes, run.seed)
    plain, small = msgspec.msgpack.decode(payload), compressed(payload, 1)
    key = Key(kind="customer", id="42", generation=1, secret=bytes(32))
    place = field_place(StreamId("Order", "1"), 1, "order.placed", "address")
    fields, _ = parsed_fields(payload)
    sealed = unparsed({**fields, "address": seal(key, bytes(fields["address"]), place)})

    def sealing() -> bytes:
        raw, _ = parsed_fields(payload)
        return unparsed({**raw, "address": seal(key, bytes(raw["address"]), place)})

    def opening() -> bytes:
        raw, found = parsed_fields(sealed)
        return unparsed({**raw, "address": msgspec.Raw(opened(found["address"], key.secret, place))})

    assert (opening(), expanded(small)) == (payload, payload), "what comes out is not what went in"
    cases: dict[str, Callable[[], object]] = {
        "compressed": lambda: compressed(payload, 1),
        "expanded": lambda: expanded(small),
        "one field sealed": sealing,
        "one field opened": opening,
        "looked at for marks": lambda: has_mark(payload),
    }
    for name, work in cases.items():

        async def ours(work: Callable[[], object] = work) -> float:
            return cpu_s(work, sizes.calls)

        async def theirs() -> float:
            return cpu_s(lambda: msgspec.msgpack.encode(plain), sizes.calls)

        samples = await run.alternate(name, sizes.rounds, {"ours": ours, "theirs": theirs})
        marks = name == "looked at for marks"
        run.compare(
            "CPU of an event",
            "s",
            samples["ours"],
            samples["theirs"],
            of=name,
            target=at_most(0.5) if marks else None,
            has_target=marks,
        )
    run.details["compressed to"] = round(len(small) / len(payload), 3)


def cpu_s(work: Callable[[], object], calls: int) -> float:
    """Of one call."""
    started = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - started) / calls
