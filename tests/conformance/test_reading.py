"""Reading: hydration, paging, replies, snapshots, catalogue."""

import pytest

from holdfast.journal.records import Load, Loaded, Snapshot, StoredReply, StreamId

ALICE, BOB, CART = StreamId("Account", "alice"), StreamId("Account", "bob"), StreamId("Cart", "1")


def versions(events):
    return [event.version for event in events]


async def test_a_stream_that_nobody_wrote_loads_as_nothing(journal):
    """No snapshot, no events, head 0; reading it is empty, not an error."""
    async with journal() as scribe:
        assert await scribe.load(schema="s1") == Loaded(snapshot=None, events=(), head=0)
        assert await scribe.store.read_stream(ALICE) == []
        assert await scribe.store.find_replies(ALICE, ["c1"], window=10) == {}
        assert await scribe.store.find_keyed(ALICE, ["k"]) == {}
        assert await scribe.store.list_snapshots(ALICE) == []


async def test_loads_are_answered_in_the_order_of_the_batch(journal):
    """The same stream twice and an unknown one between are no trouble."""
    async with journal() as scribe:
        await scribe.fill(2)
        await scribe.fill(1, stream=BOB)
        loads = [Load(stream=stream) for stream in (BOB, CART, ALICE, BOB)]
        assert [loaded.head for loaded in await scribe.store.load(loads)] == [1, 0, 2, 1]


async def test_a_load_without_a_snapshot_starts_at_version_one(journal):
    """And ends at the page's limit; the head tells how far there is to go."""
    async with journal() as scribe:
        await scribe.fill(5)
        loaded = await scribe.load(limit=3)
        assert (versions(loaded.events), loaded.head, loaded.snapshot) == ([1, 2, 3], 5, None)


async def test_a_load_after_a_version_is_the_page_that_follows_it(journal):
    """Without a snapshot, whatever there is: the reader has what comes before."""
    async with journal() as scribe:
        await scribe.fill(5)
        await scribe.snapshot(4)
        for after, found in ((1, [2, 3, 4]), (3, [4, 5]), (5, []), (9, []), (1 << 70, [])):
            loaded = await scribe.load(schema="s1", after=after, limit=3)
            assert (versions(loaded.events), loaded.head, loaded.snapshot) == (found, 5, None)


async def test_a_load_starts_right_after_the_newest_snapshot(journal):
    """Events before it are not read at all."""
    async with journal() as scribe:
        await scribe.fill(5)
        await scribe.snapshot(2)
        saved = await scribe.snapshot(3)
        before = (await scribe.store.statistics()).rows_read
        loaded = await scribe.load(schema="s1")
        assert (loaded.snapshot, versions(loaded.events), loaded.head) == (saved, [4, 5], 5)
        assert (await scribe.store.statistics()).rows_read - before == 3


async def test_a_snapshot_at_the_head_leaves_no_events(journal):
    """One row is read, however long the history is."""
    async with journal() as scribe:
        await scribe.fill(500)
        await scribe.snapshot(500)
        before = (await scribe.store.statistics()).rows_read
        loaded = await scribe.load(schema="s1")
        assert (loaded.snapshot.version, loaded.events, loaded.head) == (500, (), 500)
        assert (await scribe.store.statistics()).rows_read - before == 1


async def test_a_snapshot_of_another_schema_is_ignored(journal):
    """The newest of our own schema is taken, or the events from the start."""
    async with journal() as scribe:
        await scribe.fill(5)
        own = await scribe.snapshot(2, schema="ours")
        await scribe.snapshot(4, schema="theirs")
        assert (await scribe.load(schema="ours")).snapshot == own
        assert versions((await scribe.load(schema="third")).events) == [1, 2, 3, 4, 5]
        assert (await scribe.load(schema="")).snapshot is None


async def test_a_snapshot_above_snapshot_max_is_ignored(journal):
    """At or below counts; 0 means none."""
    async with journal() as scribe:
        await scribe.fill(6)
        two, four = await scribe.snapshot(2), await scribe.snapshot(4)
        for newest, expected in ((None, four), (6, four), (4, four), (3, two), (2, two), (1, None), (0, None)):
            assert (await scribe.load(schema="s1", snapshot_max=newest)).snapshot == expected


async def test_the_newest_snapshots_are_kept(journal):
    """`keep` counts for each stream by itself, whatever the order of saving."""
    async with journal() as scribe:
        await scribe.fill(9)
        await scribe.fill(9, stream=BOB)
        await scribe.snapshot(1, stream=BOB)
        for version in (3, 7, 5, 1, 9):
            await scribe.snapshot(version, keep=3)
        assert versions(await scribe.store.list_snapshots(ALICE)) == [9, 7, 5]
        assert versions(await scribe.store.list_snapshots(BOB)) == [1]


async def test_a_batch_of_snapshots_keeps_its_newest(journal):
    """Many of one stream at once are trimmed like those that come one by one."""
    async with journal() as scribe:
        await scribe.fill(4)
        batch = [Snapshot(stream=ALICE, version=v, schema="s1", payload=b"\x80") for v in (1, 2, 3, 4)]
        await scribe.store.save_snapshots(batch, keep=2)
        assert versions(await scribe.store.list_snapshots(ALICE)) == [4, 3]


async def test_a_snapshot_ahead_of_its_stream_is_passed_over(journal):
    """Nobody may start from a state that no event led to."""
    async with journal() as scribe:
        await scribe.fill(2)
        await scribe.snapshot(3)
        await scribe.snapshot(1, stream=BOB)
        assert await scribe.store.list_snapshots(ALICE) == []
        assert await scribe.store.list_snapshots(BOB) == []
        assert (await scribe.store.statistics()).snapshots == 0


async def test_a_snapshot_that_is_there_is_passed_over(journal):
    """The first of its version and schema stays; another schema at that version is another snapshot."""
    async with journal() as scribe:
        await scribe.fill(2)
        first = await scribe.snapshot(2, payload=b"\x01")
        await scribe.snapshot(2, payload=b"\x02")
        assert await scribe.store.list_snapshots(ALICE) == [first]
        other = await scribe.snapshot(2, schema="s2")
        assert await scribe.store.list_snapshots(ALICE) == [other, first]
        assert (await scribe.load(schema="s1")).snapshot == first


async def test_a_stream_is_read_forward_from_an_offset(journal):
    """Pages follow one another without gap or overlap, and the last is short."""
    async with journal() as scribe:
        await scribe.fill(7)
        pages, after = [], 0
        while page := await scribe.store.read_stream(ALICE, after=after, limit=3):
            pages.append(versions(page))
            after = page[-1].version
        assert pages == [[1, 2, 3], [4, 5, 6], [7]]
        assert await scribe.store.read_stream(ALICE, after=99) == []


async def test_a_stream_is_read_backward_from_an_offset(journal):
    """From the newest when no offset is given; below the offset when one is."""
    async with journal() as scribe:
        await scribe.fill(7)
        pages, after = [], 0
        while page := await scribe.store.read_stream(ALICE, after=after, limit=3, backward=True):
            pages.append(versions(page))
            after = page[-1].version
        assert pages == [[7, 6, 5], [4, 3, 2], [1]]
        assert await scribe.store.read_stream(ALICE, after=1, backward=True) == []
        assert versions(await scribe.store.read_stream(ALICE, after=99, limit=2, backward=True)) == [7, 6]


@pytest.mark.parametrize("backward", [False, True])
async def test_a_page_of_none_is_empty(journal, backward):
    """`limit=0` reads nothing."""
    async with journal() as scribe:
        await scribe.fill(3)
        assert await scribe.store.read_stream(ALICE, limit=0, backward=backward) == []
        assert await scribe.store.read_all(limit=0) == []
        assert await scribe.store.list_streams(limit=0) == []


async def test_the_whole_journal_is_read_in_the_order_of_positions(journal):
    """Streams interleave as they were written."""
    async with journal() as scribe:
        for version in range(3):
            for stream in (ALICE, CART, BOB):
                await scribe.append(f"{stream.id}{version}", at=version, stream=stream)
        events = await scribe.store.read_all(after=2, limit=5)
        assert [(e.position, e.stream, e.version) for e in events] == [
            (3, BOB, 1),
            (4, ALICE, 2),
            (5, CART, 2),
            (6, BOB, 2),
            (7, ALICE, 3),
        ]
        assert await scribe.store.read_all(after=9) == []


async def test_the_journal_is_read_by_category(journal):
    """Only that category, with the positions of the whole; an unknown category is empty."""
    async with journal() as scribe:
        for version in range(3):
            for stream in (ALICE, CART, BOB):
                await scribe.append(f"{stream.id}{version}", at=version, stream=stream)
        carts = await scribe.store.read_all(category="Cart", after=2, limit=9)
        assert [(e.position, e.stream) for e in carts] == [(5, CART), (8, CART)]
        accounts = await scribe.store.read_all(category="Account", limit=3)
        assert [e.position for e in accounts] == [1, 3, 4]
        assert await scribe.store.read_all(category="account") == []


async def test_replies_of_generated_ids_are_found_on_the_last_event(journal):
    """A command that left no reply there is not among them."""
    async with journal() as scribe:
        await scribe.append(scribe.event("c1"), scribe.event("c1", reply=b"\x01"), scribe.event("keyed"), at=0)
        found = await scribe.store.find_replies(ALICE, ["c1", "keyed", "unknown", "c1"], window=100)
        assert found == {"c1": StoredReply(version=2, reply=b"\x01")}
        assert await scribe.store.find_replies(ALICE, [], window=100) == {}
        assert await scribe.store.find_replies(BOB, ["c1"], window=100) == {}


async def test_replies_are_looked_for_in_the_newest_versions_only(journal):
    """The window counts back from the head, the head included."""
    async with journal() as scribe:
        await scribe.append(*(scribe.event(f"c{n}", reply=b"\x01") for n in range(1, 6)), at=0)
        ids = [f"c{n}" for n in range(1, 6)]
        for window in (0, 1, 3, 5, 99):
            found = await scribe.store.find_replies(ALICE, ids, window=window)
            assert sorted(found) == ids[max(5 - window, 0) :]


async def test_many_ids_are_looked_up_at_once(journal):
    """Three thousand ids and keys in one question."""
    async with journal() as scribe:
        await scribe.append(scribe.event("id2999", reply=b"\x01"), at=0, keys=[scribe.key("id0", 1)])
        ids = [f"id{number}" for number in range(3000)]
        assert list(await scribe.store.find_replies(ALICE, ids, window=10)) == ["id2999"]
        assert list(await scribe.store.find_keyed(ALICE, ids)) == ["id0"]


async def test_keyed_replies_have_no_window(journal):
    """A key is remembered as long as the stream is."""
    async with journal() as scribe:
        await scribe.append("c1", at=0, keys=[scribe.key("k", 1, fingerprint=b"f", reply=b"r")])
        await scribe.append(*(f"later{n}" for n in range(1000)), at=1)
        assert await scribe.store.find_keyed(ALICE, ["k"]) == {
            "k": StoredReply(version=1, reply=b"r", fingerprint=b"f")
        }


async def test_streams_are_listed_by_category_and_id(journal):
    """In order, with their versions, page after page."""
    async with journal() as scribe:
        names = [StreamId(c, i) for c in ("B", "A", "C") for i in ("z", "a", "é", "m")]
        for length, name in enumerate(names, 1):
            await scribe.fill(length, stream=name)
        expected = sorted((name, length) for length, name in enumerate(names, 1))
        assert await scribe.store.list_streams() == expected
        listed, after = [], None
        while page := await scribe.store.list_streams(after=after, limit=5):
            listed += page
            after = page[-1][0]
        assert listed == expected


async def test_streams_of_one_category_are_listed(journal):
    """After a given stream, too, whether or not that one exists."""
    async with journal() as scribe:
        for name in (ALICE, BOB, CART):
            await scribe.fill(1, stream=name)
        listed = await scribe.store.list_streams(category="Account", after=StreamId("Account", "az"))
        assert listed == [(BOB, 1)]
        assert await scribe.store.list_streams(category="Account", after=CART) == []
        assert await scribe.store.list_streams(category="Cart", after=BOB) == [(CART, 1)]
        assert await scribe.store.list_streams(category="unknown") == []
