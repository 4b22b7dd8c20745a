"""Appending: atomic, ordered, checked, and the same twice."""

import asyncio

from holdfast.journal.errors import DuplicateKey, VersionConflict
from holdfast.journal.records import Appended, StoredReply, StreamId

ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")


async def ids(scribe, stream=ALICE):
    return [event.command_id for event in await scribe.store.read_stream(stream)]


async def test_versions_of_a_stream_are_contiguous_from_one(journal):
    """Event n of a stream has version n, however the events were grouped into appends."""
    async with journal() as scribe:
        assert await scribe.append("c1", "c2", at=0) == Appended(version=2, position=2)
        assert await scribe.append("c3", at=2) == Appended(version=3, position=3)
        assert [event.version for event in await scribe.store.read_stream(ALICE)] == [1, 2, 3]


async def test_positions_are_gapless_over_refused_appends(journal):
    """An append that is refused uses no position up."""
    async with journal() as scribe:
        await scribe.append("c1", at=0)
        await scribe.append("c2", at=7)
        await scribe.store.append(
            [scribe.build("c3", at=9), scribe.build("c4", at=1), scribe.build("c5", at=0, stream=BOB)]
        )
        assert [(e.position, e.command_id) for e in await scribe.store.read_all()] == [
            (1, "c1"),
            (2, "c4"),
            (3, "c5"),
        ]
        assert await scribe.store.head() == 3


async def test_everything_of_an_event_comes_back(journal):
    """Type, payload, command id, time, metadata and reply are read as they were written."""
    async with journal() as scribe:
        event = scribe.event("c1", reply=b"\xc0", payload=b"\x81\xa1a\x01", metadata=b"\x80", recorded_at=7, type="t")
        await scribe.append(event, at=0)
        (read,) = await scribe.store.read_stream(ALICE)
        assert (read.stream, read.version, read.position) == (ALICE, 1, 1)
        assert all(getattr(read, field) == getattr(event, field) for field in event.__struct_fields__)


async def test_an_empty_reply_is_not_a_missing_one(journal):
    """`reply=b""` and `reply=None` stay apart."""
    async with journal() as scribe:
        await scribe.append(scribe.event("c1", reply=b""), scribe.event("c2", reply=None), at=0)
        assert [event.reply for event in await scribe.store.read_stream(ALICE)] == [b"", None]


async def test_an_append_is_written_whole_or_not_at_all(journal):
    """A second key that is taken keeps the events and the first key out."""
    async with journal() as scribe:
        await scribe.append("c1", at=0, keys=[scribe.key("taken", 1)])
        refused = await scribe.append("c2", "c3", at=1, keys=[scribe.key("new", 3), scribe.key("taken", 3)])
        assert refused.args == DuplicateKey(str(ALICE), "taken").args
        assert await ids(scribe) == ["c1"]
        assert await scribe.store.find_keyed(ALICE, ["new"]) == {}


async def test_a_refused_append_leaves_its_neighbours_alone(journal):
    """The results of a batch stand in its order, errors in their places."""
    async with journal() as scribe:
        results = await scribe.store.append(
            [
                scribe.build("a1", at=0),
                scribe.build("b1", at=5, stream=BOB),
                scribe.build("a2", at=1),
                scribe.build("b2", at=0, stream=BOB),
            ]
        )
        assert results[0] == Appended(version=1, position=1)
        assert isinstance(results[1], VersionConflict)
        assert results[1].args == (str(BOB), 5, 0)
        assert results[2:] == [Appended(version=2, position=2), Appended(version=1, position=3)]


async def test_checks_see_the_appends_before_them_in_the_batch(journal):
    """Two appends at one version in one batch: the first wins, the second is told the new version."""
    async with journal() as scribe:
        first, second = await scribe.store.append([scribe.build("c1", at=0), scribe.build("c2", at=0)])
        assert first == Appended(version=1, position=1)
        assert (second.expected, second.actual) == (0, 1)


async def test_an_empty_batch_writes_nothing(journal):
    """No appends, no results, no error."""
    async with journal() as scribe:
        assert await scribe.store.append([]) == []
        assert await scribe.store.load([]) == []
        await scribe.store.save_snapshots([])
        assert await scribe.store.head() == 0


async def test_an_append_of_nothing_is_only_a_check(journal):
    """Without events and keys the version is checked, and no stream comes to be."""
    async with journal() as scribe:
        assert await scribe.append(at=0) == Appended(version=0, position=0)
        assert isinstance(await scribe.append(at=1), VersionConflict)
        assert await scribe.store.list_streams() == []


async def test_a_version_that_is_not_reached_is_a_conflict(journal):
    """Neither the past, the future nor a negative version is written to."""
    async with journal() as scribe:
        await scribe.fill(2)
        for at in (-1, 0, 1, 3, 99):
            refused = await scribe.append("other", at=at)
            assert refused.args == (str(ALICE), at, 2)
        assert await ids(scribe) == ["c1", "c2"]


async def test_of_two_writers_at_one_version_exactly_one_succeeds(journal):
    """The essay's case: two writers append events 2 and 3, a third appends 4. One of each version exists."""
    async with journal() as scribe:
        await scribe.append("first", at=0)
        two = await asyncio.gather(scribe.append("left-2", "left-3", at=1), scribe.append("right-2", "right-3", at=1))
        assert sorted(type(result).__name__ for result in two) == ["Appended", "VersionConflict"]
        assert await scribe.append("third", at=3) == Appended(version=4, position=4)
        winner = "left" if isinstance(two[0], Appended) else "right"
        events = await scribe.store.read_stream(ALICE)
        assert [(e.version, e.command_id) for e in events] == [
            (1, "first"),
            (2, f"{winner}-2"),
            (3, f"{winner}-3"),
            (4, "third"),
        ]


async def test_concurrent_appends_keep_versions_and_positions_whole(journal):
    """Twenty streams are written at once: each has its versions, and all positions exist once."""
    async with journal() as scribe:

        async def write(stream):
            for version in range(5):
                assert isinstance(await scribe.append(f"c{version}", at=version, stream=stream), Appended)

        streams = [StreamId("Account", f"a{number}") for number in range(20)]
        await asyncio.gather(*(write(stream) for stream in streams))
        events = await scribe.store.read_all()
        assert [event.position for event in events] == list(range(1, 101))
        for stream in streams:
            assert [event.version for event in events if event.stream == stream] == [1, 2, 3, 4, 5]


async def test_the_same_append_sent_again_is_answered_the_same_and_writes_nothing(journal):
    """A lost acknowledgement is cured by sending the append again."""
    async with journal() as scribe:
        await scribe.append("c1", at=0)
        append = scribe.build("c2", "c3", at=1, keys=[scribe.key("k", 3)])
        (first,) = await scribe.store.append([append])
        assert first == Appended(version=3, position=3)
        assert await scribe.store.append([append]) == [first]
        assert await ids(scribe) == ["c1", "c2", "c3"]


async def test_a_resend_is_recognised_after_later_appends(journal):
    """The answer is that of the first time, not the present version."""
    async with journal() as scribe:
        append = scribe.build("c1", "c2", at=0)
        await scribe.store.append([append])
        await scribe.append("later", at=0, stream=BOB)
        await scribe.append("c3", at=2)
        assert await scribe.store.append([append]) == [Appended(version=2, position=2)]


async def test_the_same_command_with_another_outcome_is_no_resend(journal):
    """A command that ran twice may have decided twice: the second owner must hear that the first one's events stand."""
    async with journal() as scribe:
        await scribe.append(scribe.event("c1", payload=b"\x01"), at=0)
        second = await scribe.append(scribe.event("c1", payload=b"\x02"), at=0)
        assert isinstance(second, VersionConflict)
        assert [event.payload for event in await scribe.store.read_stream(ALICE)] == [b"\x01"]


async def test_an_append_twice_in_one_batch_is_written_once(journal):
    """The second of the two is a resend like any other."""
    async with journal() as scribe:
        append = scribe.build("c1", at=0, keys=[scribe.key("k", 1)])
        answer = Appended(version=1, position=1)
        assert await scribe.store.append([append, append]) == [answer, answer]
        assert await scribe.store.head() == 1


async def test_an_append_that_matches_only_in_part_is_a_conflict(journal):
    """Other ids, more events than there are, or a key that is not recorded: that is not the same append."""
    async with journal() as scribe:
        await scribe.append("c1", "c2", "c3", at=0)
        parts = [
            scribe.build("c1", "other", "c3", at=0),
            scribe.build("c2", "c3", "c4", at=1),
            scribe.build("c1", "c2", at=0, keys=[scribe.key("k", 2)]),
            scribe.build("c2", at=2),
        ]
        results = await scribe.store.append(parts)
        assert [type(result) for result in results] == [VersionConflict] * 4
        assert {result.actual for result in results} == {3}
        assert await ids(scribe) == ["c1", "c2", "c3"]


async def test_a_keyed_command_without_events_is_remembered(journal):
    """No event, no new version, yet the key answers from now on."""
    async with journal() as scribe:
        await scribe.fill(2)
        assert await scribe.append(at=2, keys=[scribe.key("k", 2)]) == Appended(version=2, position=0)
        known = await scribe.store.find_keyed(ALICE, ["k", "unknown"])
        assert known == {"k": StoredReply(version=2, reply=b"\x01", fingerprint=b"deposit")}
        assert await scribe.store.head() == 2


async def test_a_keyed_append_without_events_is_answered_the_same_twice(journal):
    """Also after later events, and also on a stream that has none."""
    async with journal() as scribe:
        append = scribe.build(at=0, keys=[scribe.key("k", 0)])
        for _ in range(2):
            assert await scribe.store.append([append]) == [Appended(version=0, position=0)]
        assert await scribe.store.list_streams() == [(ALICE, 0)]
        await scribe.fill(3)
        assert await scribe.store.append([append]) == [Appended(version=0, position=0)]


async def test_a_key_is_recorded_once_in_a_stream(journal):
    """Another append with that key, before or after, in one batch or twice in one append, is told so."""
    async with journal() as scribe:
        batch = [
            scribe.build("c1", at=0, keys=[scribe.key("k", 1)]),
            scribe.build("c2", at=1, keys=[scribe.key("k", 2)]),
            scribe.build("c3", at=1, keys=[scribe.key("twice", 2), scribe.key("twice", 2, reply=b"\x02")]),
        ]
        first, second, third = await scribe.store.append(batch)
        assert first == Appended(version=1, position=1)
        assert isinstance(second, DuplicateKey)
        assert (second.stream, second.key) == (str(ALICE), "k")
        assert isinstance(third, DuplicateKey)
        later = await scribe.append("c4", at=1, keys=[scribe.key("k", 2)])
        assert isinstance(later, DuplicateKey)
        assert await scribe.append("c5", at=1) == Appended(version=2, position=2)


async def test_a_key_used_for_something_else_is_a_duplicate(journal):
    """A keyed append without events and with another fingerprint or reply is not a resend."""
    async with journal() as scribe:
        await scribe.append(at=0, keys=[scribe.key("k", 0)])
        for other in (scribe.key("k", 0, fingerprint=b"withdraw"), scribe.key("k", 0, reply=b"\x02")):
            assert isinstance(await scribe.append(at=0, keys=[other]), DuplicateKey)


async def test_a_version_conflict_is_told_before_a_duplicate_key(journal):
    """Checks run in the order epoch, version, key."""
    async with journal() as scribe:
        await scribe.append("c1", at=0, keys=[scribe.key("k", 1)])
        assert isinstance(await scribe.append("c2", at=0, keys=[scribe.key("k", 1)]), VersionConflict)


async def test_the_same_key_in_another_stream_is_another_key(journal):
    """Keys belong to their stream."""
    async with journal() as scribe:
        for stream in (ALICE, BOB):
            result = await scribe.append("c1", at=0, stream=stream, keys=[scribe.key("k", 1)])
            assert isinstance(result, Appended)


async def test_ids_may_hold_any_text(journal):
    """Unicode, slashes, quotes, NUL and 255 bytes are ids like any other, each its own stream."""
    async with journal() as scribe:
        names = ["ключ/鍵/🔑", "a/b", "a'\"b", "\0", "a\0b", "é", "e\u0301", "x" * 255, "ü" * 127, " ", "%_"]
        streams = [StreamId("Счёт", name) for name in names]
        results = await scribe.store.append(
            [scribe.build(stream.id, at=0, stream=stream, keys=[scribe.key(stream.id, 1)]) for stream in streams]
        )
        assert [result.position for result in results] == list(range(1, len(names) + 1))
        for stream in streams:
            assert await ids(scribe, stream) == [stream.id]
            assert list(await scribe.store.find_keyed(stream, [stream.id])) == [stream.id]
        assert [stream for stream, _ in await scribe.store.list_streams()] == sorted(streams)


async def test_a_category_and_an_id_do_not_run_together(journal):
    """`A/BC` and `AB/C` are two streams."""
    async with journal() as scribe:
        await scribe.append("c1", at=0, stream=StreamId("A", "BC"))
        assert await ids(scribe, StreamId("AB", "C")) == []


async def test_payloads_of_megabytes_come_back_whole(journal):
    """Four mebibytes of payload, metadata and reply survive the way there and back."""
    async with journal() as scribe:
        big = bytes(range(256)) * 4096 * 4
        await scribe.append(scribe.event("c1", payload=big, metadata=big[::-1], reply=big[1:]), at=0)
        (event,) = await scribe.store.read_stream(ALICE)
        assert (event.payload, event.metadata, event.reply) == (big, big[::-1], big[1:])


async def test_an_append_of_thousands_of_events_is_one_append(journal):
    """Five thousand events of one append stand at five thousand versions."""
    async with journal() as scribe:
        await scribe.fill(5000)
        events = await scribe.store.read_stream(ALICE, after=4990)
        assert [event.command_id for event in events] == [f"c{number}" for number in range(4991, 5001)]


async def test_what_was_acknowledged_stays_after_closing_and_opening(journal):
    """Events, keys, snapshots, claims and registrations are there again, and numbering goes on."""
    async with journal() as scribe:
        await scribe.append("c1", at=0, keys=[scribe.key("k", 1)])
        saved = await scribe.snapshot(1)
        registered = await scribe.store.register("Account", "dedicated", "v1")
        await scribe.store.close()
        await scribe.store.close()
        await scribe.store.open()
        assert await ids(scribe) == ["c1"]
        assert list(await scribe.store.find_keyed(ALICE, ["k"])) == ["k"]
        assert await scribe.store.list_snapshots(ALICE) == [saved]
        assert await scribe.store.register("Account", "dedicated", "v1") == registered
        await scribe.store.confirm(scribe.owner, scribe.epoch)
        assert await scribe.append("c2", at=1) == Appended(version=2, position=2)


async def test_statistics_count_what_is_stored_and_what_was_done(journal):
    """Resends and refusals are no appends, and a batch is one commit."""
    async with journal() as scribe:
        first = scribe.build("c1", "c2", at=0)
        await scribe.store.append([first, scribe.build("b1", at=0, stream=BOB), scribe.build("c9", at=9)])
        await scribe.store.append([first])
        await scribe.snapshot(2)
        newer = await scribe.successor()
        await scribe.append("c3", at=2)
        await newer.load(schema="s1")
        counts = await scribe.store.statistics()
        assert (counts.streams, counts.events, counts.snapshots) == (2, 3, 1)
        assert (counts.appends, counts.commits, counts.conflicts, counts.fenced) == (2, 1, 1, 1)
        assert counts.rows_read == 1
