"""Archives: what goes in comes out, wherever it came from; and what is not what was written is found, and named."""

import asyncio
import io
import random
import zlib
from itertools import pairwise

import msgpack
import msgspec
import pytest
from archive_stories import KINDS, chained, event, everything, frames_of, header, journals, place, story, write
from hypothesis import HealthCheck, given, settings

from holdfast.journal.archive_errors import ArchiveDamaged, ArchiveTooNew, ArchiveTorn, NotAnArchive
from holdfast.journal.archive_frames import BLOCK_BYTES_MAX, array_of
from holdfast.journal.archive_reader import ArchiveReader

thorough = settings(
    max_examples=15,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
few = settings(thorough, max_examples=3)
"""Where each example makes databases on a server."""

each_kind = pytest.mark.parametrize("kind", KINDS)
PAIRS = [(a, b) for a in KINDS for b in KINDS]


def read(archive):
    """All of it."""
    reader = ArchiveReader(io.BytesIO(archive), "the file")
    reader.open()
    return reader, list(reader.blocks())


@pytest.mark.parametrize(("kind", "other"), [pair for pair in PAIRS if "postgres" not in pair])
@thorough
@given(steps=journals)
def test_an_import_of_an_export_is_an_equal_journal(kind, other, steps):
    """Events, keyed replies and pending reminders; positions and digests; and its own export has the same bytes."""
    survives(kind, other, steps)


@pytest.mark.parametrize(("kind", "other"), [pair for pair in PAIRS if "postgres" in pair])
@few
@given(steps=journals)
def test_an_import_of_an_export_is_an_equal_journal_out_of_postgres_and_into_it(kind, other, steps):
    """The same."""
    survives(kind, other, steps)


def survives(kind, other, steps):
    """What these steps write in one place is equal in another, by way of an archive."""

    async def run():
        async with place(kind) as here, place(other) as there:
            async with here.stores() as stores:
                await write(stores, steps)
                held = await everything(stores)
            archive, contents = await here.export(snapshots=True)
            imported = await there.take(archive)
            assert imported.contents == contents
            assert imported.positions_kept
            async with there.stores() as stores:
                assert await everything(stores) == held
            assert await there.export(snapshots=True) == (archive, contents)

    asyncio.run(run())


@few
@given(steps=journals)
def test_from_sqlite_through_postgres_and_back_it_is_the_same_archive(steps):
    """Byte for byte, deflated or not."""

    async def run():
        async with place("sqlite") as first, place("postgres") as between, place("sqlite") as last:
            async with first.stores() as stores:
                await write(stores, steps)
            archive, contents = await first.export(compress=True)
            await between.take(archive)
            again, _ = await between.export(compress=True)
            await last.take(again)
            assert archive == again == (await last.export(compress=True))[0]
            assert (await last.export())[1] == contents

    asyncio.run(run())


@thorough
@given(steps=journals)
def test_an_import_into_other_partitions_keeps_each_stream_and_the_digests_of_contents(steps):
    """Three partitions into one, into two, and back into three: streams are the same, positions are new."""

    async def run():
        async with (
            place("sqlite", 3) as three,
            place("memory") as one,
            place("sqlite", 2) as two,
            place("sqlite", 3) as last,
        ):
            async with three.stores() as stores:
                await write(stores, steps)
                held = await everything(stores)
            at, (archive, contents) = three, await three.export()
            for to in (one, two, last):
                archive, _ = await at.export()
                imported = await to.take(archive)
                assert not imported.checkpoints or imported.positions_kept
                async with to.stores() as stores:
                    assert await everything(stores) == held
                found = (await to.export())[1]
                assert (found.digest, found.categories) == (contents.digest, contents.categories)
                at = to
            # What one partition held in its order it holds in that order again.
            assert found.partitions == contents.partitions

    asyncio.run(run())


async def test_an_export_of_a_category_holds_nothing_else():
    """And is imported beside what is there."""
    async with place("sqlite") as here, place("sqlite") as there:
        async with here.stores() as stores:
            await write(stores, story(1))
            held = await everything(stores)
        archive, contents = await here.export(categories=["Loan"])
        assert [each.category for each in contents.categories] == ["Loan"]
        async with there.stores() as stores:
            await write(stores, [(("Other", "1"), 2, False, None, False, b"")])
        imported = await there.take(archive)
        assert not imported.positions_kept
        again = await there.take(archive)
        assert (again.events_written, again.events_found) == (0, imported.events_written)
        async with there.stores() as stores:
            found = await everything(stores)
        assert {stream: what for stream, what in found.items() if stream.category == "Loan"} == {
            stream: what for stream, what in held.items() if stream.category == "Loan"
        }
        assert (await here.export(categories=["Loan", "Account"]))[1].digest == (await here.export())[1].digest


async def test_an_archive_torn_at_any_block_or_inside_one_says_where():
    """`ArchiveTorn` with the block and the byte at which it begins; the blocks before it were handed out."""
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(2, length=60))
        archive, _ = await here.export(snapshots=True)
    frames = frames_of(archive)
    assert len(frames) == 6, "each section has one"
    for number, (start, _) in enumerate(frames):
        end = frames[number + 1][0] if number + 1 < len(frames) else len(archive)
        for cut in {start, start + 1, (start + end) // 2, end - 1} - {0}:
            with pytest.raises(ArchiveTorn) as torn:
                read(archive[:cut])
            assert (torn.value.block, torn.value.offset) == (number, start), cut
    with pytest.raises(NotAnArchive, match="it is empty"):
        read(b"")


async def test_a_byte_that_was_changed_is_found_wherever_it_is():
    """Any byte, to any value: nothing of the block that it is in, or of those after it, is handed out."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rnd = random.Random(seed)
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(3, length=40))
        archives = [(await here.export(snapshots=True, compress=compress))[0] for compress in (False, True)]
    for archive in archives:
        starts = [start for start, _ in frames_of(archive)]
        for _ in range(1500):
            at, changed = rnd.randrange(len(archive)), bytearray(archive)
            changed[at] ^= rnd.randrange(1, 256)
            with pytest.raises((ArchiveDamaged, NotAnArchive)) as found:
                read(bytes(changed))
            if isinstance(found.value, ArchiveDamaged):
                assert found.value.offset == max(start for start in starts if start <= at), (at, changed[at])


async def test_blocks_that_are_missing_doubled_or_exchanged_are_found():
    """Each digest vouches for all that came before it."""
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(4, length=60))
        archive, _ = await here.export(snapshots=True)
    starts = [start for start, _ in frames_of(archive)] + [len(archive)]
    blocks = [archive[a:b] for a, b in pairwise(starts)]
    for number in range(1, len(blocks)):
        for damaged in (
            blocks[:number] + blocks[number + 1 :],
            blocks[: number + 1] + blocks[number:],
            [*blocks[:number], *reversed(blocks[number:])] if number < len(blocks) - 1 else [*blocks, b"\x00"],
        ):
            with pytest.raises(ArchiveDamaged):
                read(b"".join(damaged))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([header(), ("events", array_of([event(2, 1)]))], "position 1 is missing"),
        ([header(), ("events", array_of([event(1, 1), event(1, 2)]))], "position 1 comes after 1"),
        ([header(upto=(1,)), ("events", array_of([event(1, 1), event(2, 2)]))], "position 2 comes after 1"),
        ([header(), ("events", array_of([event(1, 0)]))], "Expected `int` >= 1"),
        ([header(), ("events", array_of([event(1, 1, category="A/B")]))], "no category has the name"),
        ([header(categories=("B",)), ("events", array_of([event(1, 1)]))], "which the header does not name"),
        ([header(), ("events", array_of([event(1, 1)]), 2)], "holds 1 records and says 2"),
        ([header(), ("events", b"\x90", 1)], "holds 0 records and says 1"),
        ([header(), ("events", b"\xc1" * 40, 1)], "malformed"),
        ([header(), ("events", b"\xdd\xff\xff\xff\xff", 1)], "truncated"),
        ([header(), ("events", array_of([event(1, 1)]), 1, 5)], "and not 5"),
        ([header(), ("events", b"\x90", 0)], "says that it is"),
        ([header(), ("events", b"\x90", 1 << 20)], "says that it is"),
        ([header(), ("events", b"\x90", 1, BLOCK_BYTES_MAX + 1)], "says that it is"),
        ([header(), ("optional.snapshots", array_of([b"\x90"])), ("keys", b"\x90", 1)], "Expected `array`"),
        ([header(), ("events", array_of([event(1, 1)])), ("keys", b"\x90", 1)], "comes after 'events'"),
        ([header(), header()], "comes after"),
        ([header(), ("keys", msgpack.packb([["A", "1", "k", 0, b"", b""]] * 2))], "out of order, or doubled"),
        ([header(), ("optional.checkpoints", msgpack.packb([[0, "mail", 4]]))], "beyond its end"),
        ([header(), ("optional.checkpoints", msgpack.packb([[1, "mail", 1]]))], "beyond its end"),
        ([header(), ("end", b"\x91\x80")], "its totals cannot be read"),
        ([header(), ("end", msgpack.packb([{"keyed_replies": 0, "events": 1, "checkpoints": 0, "snapshots": 0,
                                            "digest": ""}]))], "what came is"),
    ],
)  # fmt: skip
def test_an_archive_that_somebody_made_up_is_refused_with_what_is_wrong(parts, said):
    """Its digests are right, and what it says cannot be."""
    with pytest.raises(ArchiveDamaged, match=said):
        read(chained(parts))


def test_a_bomb_is_not_unpacked():
    """A block becomes no more than it says, and it may not say more than a block may be."""
    bomb = zlib.compress(bytes(1 << 26))
    with pytest.raises(ArchiveDamaged, match="what is deflated is not 1000 bytes"):
        read(chained([header(compression="zlib"), ("events", bomb, 1, 1000)]))
    for claim in (b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises((ArchiveDamaged, NotAnArchive)):
            read(claim + bytes(1000))
        with pytest.raises(ArchiveDamaged):
            read(chained([header()]) + claim + bytes(1000))
    with pytest.raises((ArchiveDamaged, NotAnArchive)):
        read(b"\x91" * 100_000)


@pytest.mark.parametrize(
    "other", [b"hello", b"SQLite format 3\0" + bytes(100), b"\x93", b"\x80", b"\x93\xc0\xc0\xc0", b"\x00" * 50]
)
def test_what_is_no_archive_is_told_before_anything_is_made(other):
    """By its first block."""
    with pytest.raises((NotAnArchive, ArchiveTorn)):
        ArchiveReader(io.BytesIO(other)).open()
    with pytest.raises(NotAnArchive, match="begins with 'end'"):
        read(chained([("end", b"\x91\x80")]))


def test_an_archive_of_a_newer_release_is_not_guessed_at():
    """A newer format, another compression, a section that is unknown and not optional."""
    with pytest.raises(ArchiveTooNew, match="format 2"):
        read(chained([("holdfast-archive", msgpack.packb([{"format": 2, "new": "field"}]))]))
    with pytest.raises(ArchiveTooNew, match="zstd"):
        read(chained([header(compression="zstd")]))
    with pytest.raises(ArchiveTooNew, match="section 'secrets'"):
        read(chained([header(), ("secrets", b"\x91\x01")]))


async def test_sections_that_are_optional_and_unknown_are_passed_over():
    """Wherever they stand; their bytes are digested with the rest."""
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(5, length=20))
        archive, contents = await here.export()
    parts = []
    for _, (packed, data, _) in frames_of(archive):
        meta = msgspec.msgpack.decode(packed)
        parts += [(meta[0], data, meta[2]), ("optional.of-tomorrow", b"\x91\x01")]
    reader, _ = read(chained(parts[:-1]))
    assert reader.contents == contents


SMALL = [(("Account", "alice"), 2, True, None, True, b"\x81\xa6amount\x07"), (("Loan", "1"), 1, False, 5, False, b"")]
PINNED = """
93c41594b0686f6c64666173742d61726368697665000135c4359185a6666f726d617401a47570746f9103aa63617465676f7269657390a9736e
617073686f7473c3ab636f6d7072657373696f6ea0c420ea9efbcfa8e1051ed7e6f7eebceda15cad06c24e9afd4b0a0c28c317748a034e93c409
94a46b657973010127c4279196a74163636f756e74a5616c696365a56b6579203102c40981a6616d6f756e7407c403a26f6bc420a139ee03b6a6
d40142ec5f36473535343aa48d70714d2a98033dbfb02873e2ae93c40c94a66576656e74730203ccdfc4df93920199a74163636f756e74a5616c
69636501ac62616e6b2e7468696e674031a9636f6d6d616e642030cf00060a24181e4000c40f81a26f66c40981a6616d6f756e7407c40381a661
c0920299a74163636f756e74a5616c69636502ac62616e6b2e7468696e674032a9636f6d6d616e642030cf00060a24181e4000c40f81a26f66c4
0981a6616d6f756e7407c40381a661c0920399a44c6f616ea13101b5686f6c64666173742e72656d696e6465722e736574a9636f6d6d616e6420
31cf00060a24181e4001c41182a364756505a46e616d65a572656e6577c400c40107c420d0fa1ca1f975bba52d14284c82c889b6657ed503dda3
d67faff6e1775cd739e593c41994b46f7074696f6e616c2e636865636b706f696e747303010bc40b919300a66d61696c2d3001c420cd7b28db21
a8b3dcaa502c0288c7339303ce768bd5fcd1c9d6897cf8818ca24b93c41794b26f7074696f6e616c2e736e617073686f747304011fc41f9195a7
4163636f756e74a5616c69636502a27331c40981a6616d6f756e7407c4206e4a0636945af38e012af515a6a060c4b4ab7ce13d89723d35401877
32dab81893c40894a3656e6405017ac47a9185ad6b657965645f7265706c69657301a66576656e747303ab636865636b706f696e747301a9736e
617073686f747301a6646967657374d9403066643739613733653339373662663635373634653033643035353561623533613137376265393861
3762383135396136303465633833326562363538653433c420c5e5471728c424620f56e2f5cdf8ef6e112815535f03583c37a869c4bedfa58d
"""


async def test_the_bytes_of_an_archive_are_pinned():
    """The same journal is written as these bytes for ever, and they are read by every later release."""
    async with place("memory") as here, place("memory") as there:
        async with here.stores() as stores:
            await write(stores, SMALL)
            held = await everything(stores)
        archive, _ = await here.export(snapshots=True)
        assert archive.hex() == "".join(PINNED.split()), (
            "the format has changed: give it a number, and read the old one"
        )
        await there.take(bytes.fromhex(PINNED))
        async with there.stores() as stores:
            assert await everything(stores) == held
