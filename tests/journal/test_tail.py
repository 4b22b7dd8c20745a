"""The tail of the journal: followers are woken by commits, get each event once, and share the pages they read."""

import asyncio
import random

import pytest

from holdfast.journal import wire
from holdfast.journal.errors import JournalFailed, JournalUnavailable
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore


class Book:
    """A server, and one stream of each category to write to."""

    def __init__(self):
        self.store = FaultyStore(MemoryStore())
        self.server = JournalServer(self.store)
        self.versions = {}

    async def open(self):
        await self.server.start()
        await self.server.claim("host", "first")
        return self

    async def write(self, count=1, category="Account"):
        at = self.versions.get(category, 0)
        events = tuple(
            NewEvent(type="t", payload=b"\x80", command_id=f"{category}{at + n}", recorded_at=0) for n in range(count)
        )
        append = Append(stream=StreamId(category, "a"), owner="host", epoch=1, expected_version=at, events=events)
        (answer,) = wire.decode_appended(await self.server.append(wire.encode([append])))
        self.versions[category] = at + count
        return answer

    async def follow(self, after, **how):
        return wire.decode_followed(await self.server.follow(after, **how))

    async def until_one_waits(self):
        """A follower has come to the end."""
        while self.server._tail._more is None:
            await asyncio.sleep(0)

    @property
    def pages_read(self):
        return self.server._tail.pages_read


def positions(page):
    return [event.position for event in page.events]


async def test_what_is_there_is_answered_at_once():
    """In pages; each says how far it reaches and where the end is."""
    book = await Book().open()
    await book.write(5)
    page = await book.follow(1, limit=2, wait_s=60)
    assert (positions(page), page.reached, page.head) == ([2, 3], 3, 5)
    page = await book.follow(3, wait_s=60)
    assert (positions(page), page.reached, page.head) == ([4, 5], 5, 5)


async def test_a_follower_at_the_end_is_woken_by_the_next_commit():
    """No timer and no poll: the request stays until there is something."""
    book = await Book().open()
    await book.write(2)
    waiting = asyncio.ensure_future(book.follow(2, wait_s=60))
    await book.until_one_waits()
    assert not waiting.done()
    await book.write(3)
    assert positions(await waiting) == [3, 4, 5]


async def test_one_that_is_cancelled_as_a_commit_wakes_it_is_cancelled():
    """In one turn of the loop. Who has cancelled it waits for its end, and would for ever if it went on."""
    book = await Book().open()
    await book.write(2)
    waiting = asyncio.ensure_future(book.follow(2, wait_s=60))
    await book.until_one_waits()
    book.server._tail._wake()
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=5)
    assert waiting.cancelled()


async def test_one_that_waited_in_vain_is_told_where_it_stands():
    """An empty page, at the end."""
    book = await Book().open()
    await book.write(2)
    page = await book.follow(2, wait_s=0.001)
    assert (positions(page), page.reached, page.head) == ([], 2, 2)


async def test_a_category_is_past_what_others_wrote():
    """Its checkpoint moves on over events of others: they are not read again and again."""
    book = await Book().open()
    await book.write(3)
    await book.write(1, "Teller")
    await book.write(2)
    page = await book.follow(0, category="Teller")
    assert (positions(page), page.reached) == ([4], 4)
    page = await book.follow(4, category="Teller")
    assert (positions(page), page.reached, page.head) == ([], 6, 6)
    page = await book.follow(0, category="Nobody")
    assert (positions(page), page.reached) == ([], 6)


async def test_a_position_beyond_the_end_is_answered_without_waiting():
    """Whoever is further than the journal has to hear that: it was restored from an older copy."""
    book = await Book().open()
    await book.write(2)
    page = await book.follow(9, wait_s=60)
    assert (positions(page), page.reached, page.head) == ([], 9, 2)


async def test_a_thousand_followers_at_one_place_cost_one_read():
    """They get the very bytes of one page."""
    book = await Book().open()
    await book.write(2)
    waiting = [asyncio.ensure_future(book.follow(2, wait_s=60)) for _ in range(1000)]
    await book.until_one_waits()
    await book.write(3)
    before = book.pages_read
    assert {tuple(positions(page)) for page in await asyncio.gather(*waiting)} == {(3, 4, 5)}
    assert book.pages_read - before <= 1
    assert await book.server.follow(2) is await book.server.follow(2)


async def test_what_was_just_committed_is_told_from_memory_just_as_the_store_would_tell_it():
    """While somebody follows; every column of it, with an append that came a second time among them."""
    book = await Book().open()
    await book.follow(0)
    for count, category in ((2, "Account"), (1, "Teller"), (3, "Account")):
        before = book.pages_read
        await book.write(count, category)
        again = NewEvent(type="t", payload=b"\x80", command_id="Account0", recorded_at=0)
        first = Append(stream=StreamId("Account", "a"), owner="host", epoch=1, expected_version=0, events=(again,))
        (answer,) = wire.decode_appended(await book.server.append(wire.encode([first])))
        assert answer.version == 1
    page = await book.follow(0)
    assert book.pages_read == before
    assert list(page.events) == await book.store.read_all()
    assert list((await book.follow(2, category="Account")).events) == await book.store.read_all(
        after=2, category="Account"
    )
    assert positions(await book.follow(1, limit=3)) == [2, 3, 4]
    assert book.pages_read == before


async def test_commits_are_remembered_while_somebody_follows_and_not_for_long():
    """In number and in bytes; nothing, where nobody does."""
    book = await Book().open()
    await book.write(5)
    assert not book.server._tail._commits
    await book.follow(0)
    for _ in range(200):
        await book.write(1)
    assert len(book.server._tail._commits) <= 64
    assert positions(await book.follow(0, limit=3)) == [1, 2, 3]


async def test_a_page_that_ended_at_the_end_is_read_again_when_the_journal_has_grown():
    """A kept one would tell late followers that they had caught up."""
    book = await Book().open()
    await book.write(2)
    assert positions(await book.follow(0)) == [1, 2]
    await book.write(1)
    page = await book.follow(0)
    assert (positions(page), page.head) == ([1, 2, 3], 3)


async def test_pages_that_are_kept_have_a_bound():
    """In number and in bytes, however many followers stand wherever."""
    book = await Book().open()
    await book.write(200)
    for after in range(200):
        await book.follow(after, limit=1)
    tail = book.server._tail
    assert len(tail._pages) <= 32
    assert 0 < tail._bytes == sum(len(page.result().wire) for page in tail._pages.values())


async def test_a_read_that_fails_is_told_and_tried_again():
    """An error is not kept as if it were a page."""
    book = await Book().open()
    await book.write(2)
    reading, book.store.read_all = book.store.read_all, _fail
    with pytest.raises(JournalFailed):
        await book.follow(0)
    book.store.read_all = reading
    assert positions(await book.follow(0)) == [1, 2]


async def _fail(**_):
    raise JournalFailed("on purpose")


async def test_a_transaction_in_doubt_is_looked_for():
    """It was reported as failed, and may be there all the same: those who wait find it."""
    book = await Book().open()
    await book.write(1)
    waiting = asyncio.ensure_future(book.follow(1, wait_s=60))
    await book.until_one_waits()
    appending = book.store.append

    async def written_all_the_same(batch):
        await appending(batch)
        raise JournalUnavailable("no answer")

    book.store.append = written_all_the_same
    with pytest.raises(JournalUnavailable):
        await book.write(1)
    assert positions(await waiting) == [2]


async def test_a_commit_that_can_be_read_before_it_was_heard_of_is_no_end_before_its_readers_place():
    """Whoever got it goes on after it, and must not be told that the journal ends before: it would stop for good."""
    book = await Book().open()
    await book.write(2)
    reading, writing = book.store.read_all, asyncio.Event()

    async def read_behind_a_commit(**how):
        if how["after"] == 0:
            await book.store.append([_one_more(at=2)])  # durable, and its writer has not been heard of
            writing.set()
        return await reading(**how)

    book.store.read_all = read_behind_a_commit
    page = await book.follow(0)
    assert (positions(page), page.reached, page.head) == ([1, 2, 3], 3, 3)
    assert (await book.follow(page.reached)).head == 3
    assert writing.is_set()


async def test_a_commit_while_the_end_is_looked_for_is_not_forgotten():
    """The look began before it, and says less. A follower that believed it would wait for the next commit, in vain."""
    book = await Book().open()
    await book.write(1)
    book.server._tail.lost_touch()
    looking = book.store.head

    async def look_before_a_commit():
        found = await looking()
        await book.write(1)
        return found

    book.store.head = look_before_a_commit
    page = await book.follow(1, wait_s=60)
    assert (positions(page), page.head) == ([2], 2)


async def test_a_doubt_that_comes_while_the_end_is_looked_for_is_looked_into():
    """The look began before the transaction that ended in doubt: it says nothing about that one."""
    book = await Book().open()
    await book.write(1)
    book.server._tail.lost_touch()
    looking = book.store.head

    async def look_before_a_doubt():
        found = await looking()
        book.store.head = looking
        await book.store.append([_one_more(at=1)])
        book.server._tail.lost_touch()
        return found

    book.store.head = look_before_a_doubt
    assert positions(await asyncio.wait_for(book.follow(1, wait_s=60), 30)) == [2]


def _one_more(at):
    event = NewEvent(type="t", payload=b"\x80", command_id=f"more{at}", recorded_at=0)
    return Append(stream=StreamId("Account", "a"), owner="host", epoch=1, expected_version=at, events=(event,))


async def test_followers_of_a_journal_that_stops_are_told():
    """At once, and by a retryable error: another one may open it."""
    book = await Book().open()
    waiting = asyncio.ensure_future(book.follow(0, wait_s=60))
    await book.until_one_waits()
    await book.server.stop()
    with pytest.raises(JournalUnavailable):
        await waiting
    with pytest.raises(JournalUnavailable):
        await book.follow(0)
    await book.server.start()
    assert (await book.follow(0)).head == 0


async def test_followers_that_come_and_go_at_random_miss_nothing_and_see_nothing_twice():
    """Any page size, any category, writers at work, followers cancelled while they wait; against the journal itself."""
    book = await Book().open()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def write():
        for _ in range(60):
            await book.write(chance.randint(1, 4), chance.choice(["Account", "Teller"]))
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)

    async def read(category):
        seen, after = [], 0
        while not writing.done() or after < (await book.follow(after)).head:
            asking = asyncio.ensure_future(
                book.follow(after, limit=chance.randint(1, 7), category=category, wait_s=0.01)
            )
            if chance.random() < 0.2:
                await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait({asking})
                continue
            page = await asking
            assert page.reached >= after
            seen += page.events
            after = page.reached
        return category, seen

    writing = asyncio.ensure_future(write())
    for category, seen in await asyncio.gather(*(read(c) for c in [None, "Account", "Teller", None])):
        assert seen == await book.store.read_all(limit=10_000, category=category)
    assert book.pages_read < 400, "most pages are made of what was just committed"


async def test_a_follower_that_has_read_what_its_writer_was_not_told_of_yet_is_no_further_than_the_journal():
    """A commit can be seen before it is heard of: the end is not before what somebody has read."""
    book = await Book().open()
    await book.write(1)
    assert (await book.follow(0)).head == 1
    held = book.store.hold("append", after=True)
    writing = asyncio.ensure_future(book.write(2))
    await held.reached.wait()
    assert positions(await book.follow(0, category="Account", limit=9)) == [1, 2, 3]
    page = await book.follow(3)
    assert (positions(page), page.reached, page.head) == ([], 3, 3)
    held.release()
    await writing


async def test_an_end_that_was_read_before_others_were_written_is_not_believed():
    """Whoever asks first, or after a transaction that ended in doubt, would wait beside what has come meanwhile."""
    for in_doubt in (False, True):
        book = await Book().open()
        held = book.store.hold("head", after=True)
        asking = asyncio.ensure_future(book.follow(0, wait_s=60))
        await held.reached.wait()  # the end was read, and is 0
        if in_doubt:
            book.store.lose("append")
        await asyncio.gather(book.write(1), return_exceptions=True)
        held.release()
        page = await asyncio.wait_for(asking, 5.0)
        assert (positions(page), page.reached, page.head) == ([1], 1, 1)


async def test_who_has_read_elsewhere_what_was_not_heard_of_yet_is_no_further_than_the_journal():
    """A reader of one stream sees a commit before its writer is told: when it then follows, the store is asked."""
    book = await Book().open()
    await book.write(1)
    assert (await book.follow(0)).head == 1
    held = book.store.hold("append", after=True)
    writing = asyncio.ensure_future(book.write(1))
    await held.reached.wait()
    assert [event.version for event in await book.store.read_stream(StreamId("Account", "a"))] == [1, 2]
    page = await book.follow(2)
    assert (positions(page), page.reached, page.head) == ([], 2, 2)
    held.release()
    await writing


async def test_while_one_that_is_behind_has_a_page_the_next_one_is_read_for_it():
    """One page ahead of what was asked for, not the whole journal; and never twice."""
    book = await Book().open()
    await book.write(9)
    for after, read in ((0, 2), (2, 3), (4, 4)):
        page = await book.follow(after, limit=2)
        assert positions(page) == [after + 1, after + 2]
        await asyncio.gather(*book.server._tail._pages.values())
        assert book.pages_read == read
