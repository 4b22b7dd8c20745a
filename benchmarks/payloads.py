"""What compression and sealing cost, and save: on a realistic event of about 4 KiB, in one process, without a disk.

python -m benchmarks.payloads
"""

import json
import random
import time
from collections.abc import Callable

import msgspec

from holdfast.journal.compression import compressed, expanded
from holdfast.journal.keys import Key
from holdfast.journal.marked import has_mark
from holdfast.journal.opening import field_place
from holdfast.journal.records import StreamId
from holdfast.journal.sealed import opened, parsed_fields, seal, unparsed

SIZES = (256, 512, 1024, 2048, 4096, 16384, 262144)
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


def microseconds(work: Callable[[], object], rounds: int = 5, seconds: float = 0.1) -> float:
    """Of one call, of CPU: the best of a few rounds, so that a busy machine changes little."""
    best = float("inf")
    for _ in range(rounds):
        count, start = 0, time.process_time()
        while (taken := time.process_time() - start) < seconds / rounds:
            work()
            count += 1
        best = min(best, taken / count)
    return best * 1e6


def main() -> None:
    """One JSON object for each size."""
    key = Key(kind="customer", id="42", generation=1, secret=bytes(32))
    stream = StreamId("Order", "1")
    place = field_place(stream, 1, "order.placed", "address")
    for size in SIZES:
        payload = order(size, 1)
        small = compressed(payload, 1)
        fields, _ = parsed_fields(payload)
        address = bytes(fields["address"])
        sealed = unparsed({**fields, "address": seal(key, address, place)})

        def sealing(
            fields: dict[str, msgspec.Raw] = fields, payload: bytes = payload, address: bytes = address
        ) -> bytes:
            raw, _ = parsed_fields(payload)
            return unparsed({**raw, "address": seal(key, address, place)})

        def opening(sealed: bytes = sealed) -> bytes:
            raw, found = parsed_fields(sealed)
            return unparsed({**raw, "address": msgspec.Raw(opened(found["address"], key.secret, place))})

        told = {
            "bytes": len(payload),
            "ratio": round(len(payload) / len(small), 2),
            "compress_us": round(microseconds(lambda payload=payload: compressed(payload, 1)), 1),
            "expand_us": round(microseconds(lambda small=small: expanded(small)), 1),
            "seal_field_us": round(microseconds(sealing), 1),
            "open_field_us": round(microseconds(opening), 1),
            "look_for_marks_us": round(microseconds(lambda payload=payload: has_mark(payload)), 2),
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()
