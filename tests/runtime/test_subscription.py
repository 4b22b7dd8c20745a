"""Subscriptions: from any position on, each event of the filter once and in order, live without a gap at the switch."""

import asyncio
import gc
import random
from typing import Any

import pytest
from hf_bank import Account, Deposited, Teller
from hf_support import eventually

from holdfast.actors import Aggregate, command, event, on
from holdfast.journal.codec import CodecError
from holdfast.journal.positions import Positions
from holdfast.runtime import AheadOfJournal, Config, HostLimits, Runtime, RuntimeClosed, Sharded
from holdfast.runtime import feed as feed_module

SMALL = Config(host=HostLimits(page=4))


async def deposits(runtime: Any, count: int, id: str = "a") -> None:
    account = runtime.get(Account, id)
    await asyncio.gather(*(account.deposit(1) for _ in range(count)))


async def taken(events: Any, count: int) -> list[Any]:
    """The next so many events."""
    return [await anext(events) for _ in range(count)]


def places(events: list[Any]) -> list[int]:
    return [event.position for event in events]


async def test_a_subscription_goes_from_what_was_to_what_comes() -> None:
    """One iteration over both, whichever came when."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        await deposits(runtime, 10)
        events = runtime.subscribe()
        assert places(await taken(events, 10)) == list(range(1, 11))
        waiting = asyncio.ensure_future(taken(events, 5))
        await deposits(runtime, 5)
        assert places(await waiting) == list(range(11, 16))


async def test_a_subscription_starts_after_a_position_or_with_what_comes() -> None:
    """`after` is a checkpoint, and `head` leaves out what has been."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        await deposits(runtime, 10)
        old, new = runtime.subscribe(after=7), runtime.subscribe(after=await runtime.head())
        waiting = asyncio.ensure_future(taken(new, 1))
        assert places(await taken(old, 3)) == [8, 9, 10]
        await deposits(runtime, 1)
        assert places(await waiting) == [11]


async def test_a_subscription_goes_on_where_another_one_was_left() -> None:
    """Its `position` is what to go on after, at any moment."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        await deposits(runtime, 20)
        seen, at = [], 0
        while len(seen) < 20:
            events = runtime.subscribe(after=at)
            seen += places(await taken(events, 3 if len(seen) < 18 else 20 - len(seen)))
            at = events.position
            assert at == seen[-1]
        assert seen == list(range(1, 21))


async def test_a_subscription_of_categories_types_or_a_stream_gets_these_alone() -> None:
    """Filters by class or by name, one or several."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        await deposits(runtime, 3)
        await runtime.get(Teller, "t").transfer("a", "b", 1)
        await deposits(runtime, 3, "c")
        everything = [event async for event in runtime.read()]

        async def are(count: int, **how: Any) -> list[int]:
            events = runtime.subscribe(**how)
            found = places(await taken(events, count))
            async for batch in events.batches():
                assert not batch.events
                break
            return found

        def those(**what: Any) -> list[int]:
            return places([e for e in everything if all(getattr(e, k) in v for k, v in what.items())])

        for categories in ([Account], ["Account"], [Teller], [Account, Teller], ["Account", "Teller", "Nobody"]):
            names = [c if isinstance(c, str) else c.__name__ for c in categories]
            expected = those(category=names)
            assert await are(len(expected), categories=categories) == expected
        expected = those(type=["hf_bank.deposited"])
        assert await are(len(expected), types=[Deposited]) == expected
        assert await are(len(expected), types="hf_bank.deposited") == expected
        expected = those(category=["Account"], id=["a"])
        assert await are(len(expected), stream=(Account, "a")) == expected
        assert await are(len(expected), stream=("Account", "a"), types=[Deposited]) == expected


async def test_a_subscription_tells_when_it_has_caught_up() -> None:
    """Also when there is nothing to be had, or nothing of its filter."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        for count, categories in ((0, None), (10, [Teller]), (0, [Account])):
            await deposits(runtime, count)
            events = runtime.subscribe(categories=categories)
            assert not events.caught_up
            async for batch in events.batches():
                if batch.caught_up:
                    break
            assert events.caught_up
            assert events.position == await runtime.head()


async def test_batches_of_a_subscription_hold_what_its_events_are() -> None:
    """The same events in portions, each with the position to go on after."""
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        await deposits(runtime, 10)
        seen: list[int] = []
        async for batch in runtime.subscribe().batches():
            assert len(batch.events) <= 4
            seen += places(list(batch.events))
            assert batch.position == seen[-1]
            if batch.caught_up:
                break
        assert seen == list(range(1, 11))


async def test_events_of_a_subscription_are_instances_of_the_users_classes() -> None:
    """Of those that were named, or that the runtime knows; of others the fields, and the bytes."""

    @event("hf.unknown")
    class Unknown:
        what: str

    class Other(Aggregate):
        @command
        def say(self, what: str) -> None:
            self.emit(Unknown(what))

        @on(Unknown)
        def _said(self, event: Unknown) -> None:
            pass

    async with Runtime.local(placement=Sharded(1)) as writer:
        await writer.get(Other, "o").say("hello")
        (typed,) = await taken(writer.subscribe(), 1)
        assert typed.event == Unknown("hello")
        writer._dispatcher._types.clear()  # as another program sees it
        (plain,) = await taken(writer.subscribe(), 1)
        assert plain.event == {"what": "hello"}
        assert (plain.type, plain.payload) == ("hf.unknown", b"\x81\xa4what\xa5hello")
        (named,) = await taken(writer.subscribe(types=[Unknown]), 1)
        assert named.event == Unknown("hello")


async def test_an_event_that_its_class_cannot_take_does_not_end_the_subscription() -> None:
    """It is a problem of whoever looks into it; the next one comes all the same."""

    @event("hf.grew")
    class Grew:
        by: int

    class Plant(Aggregate):
        @command
        def grow(self, by: int) -> None:
            self.emit(Grew(by))

        @on(Grew)
        def _grew(self, event: Grew) -> None:
            pass

    class Later:
        @event("hf.grew")
        class Grew:
            how_much: str

    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.get(Plant, "p").grow(1)
        await runtime.get(Plant, "p").grow(2)
        events = runtime.subscribe(types=[Later.Grew])
        first, second = await taken(events, 2)
        with pytest.raises(CodecError):
            _ = first.event
        assert (second.version, second.id) == (2, "p")


async def test_a_thousand_subscriptions_cost_one_read_of_the_journal() -> None:
    """All that have caught up are fed from one request."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 5)
        everything = [runtime.subscribe() for _ in range(1000)]
        assert all(places(each) == [1, 2, 3, 4, 5] for each in await asyncio.gather(*(taken(e, 5) for e in everything)))
        waiting = [asyncio.ensure_future(taken(each, 1)) for each in everything]
        feeds = runtime._feeds._feeds
        while not feeds or len(next(iter(feeds.values()))._waiting) < 1000:
            await asyncio.sleep(0)
        before = (await runtime.statistics()).journal.rows_read
        await deposits(runtime, 1)
        assert {tuple(places(each)) for each in await asyncio.gather(*waiting)} == {(6,)}
        assert (await runtime.statistics()).journal.rows_read - before <= 3
        assert len(runtime._feeds._feeds) == 1


async def test_subscriptions_of_single_aggregates_are_woken_by_their_own_alone() -> None:
    """A thousand screens that each show one aggregate do not all wake up for every event."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        each = [runtime.subscribe(stream=(Account, f"a{n}")) for n in range(50)]
        waiting = [asyncio.ensure_future(taken(events, 1)) for events in each]
        feeds = runtime._feeds._feeds
        while not feeds or len(next(iter(feeds.values()))._waiting_for) < 50:
            await asyncio.sleep(0)
        await deposits(runtime, 20, "a7")
        assert places(await waiting[7]) == [1]
        assert [n for n, task in enumerate(waiting) if task.done()] == [7]
        assert len(next(iter(feeds.values()))._waiting_for) == 49
        assert places(await taken(each[7], 19)) == list(range(2, 21))
        for task in waiting:
            task.cancel()


async def test_a_slow_subscription_keeps_no_more_in_memory_than_a_few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads in the journal what the feed has forgotten, and is live again afterwards; nothing is missing."""
    monkeypatch.setattr(feed_module, "EVENTS_KEPT", 8)
    async with Runtime.local(config=SMALL, placement=Sharded(1)) as runtime:
        slow, quick = runtime.subscribe(), runtime.subscribe()
        one = runtime.subscribe(stream=(Account, "a"))
        first = asyncio.gather(taken(slow, 1), taken(quick, 1), taken(one, 1))
        await deposits(runtime, 1)
        await first
        for _ in range(10):
            behind = asyncio.ensure_future(taken(quick, 5))
            await deposits(runtime, 5)
            await behind
            (feed,) = [feed for (_, category), feed in runtime._feeds._feeds.items() if category is None]
            assert feed._events <= 8 + 4
        assert places(await taken(slow, 50)) == list(range(2, 52))
        assert [e.version for e in await taken(one, 50)] == list(range(2, 52))
        again = asyncio.gather(taken(slow, 1), taken(quick, 1), taken(one, 1))
        await deposits(runtime, 1)
        assert [places(each) for each in await again] == [[52]] * 3


async def test_a_cancelled_reader_of_a_subscription_loses_nothing() -> None:
    """A timeout around the next event is a common thing to write."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        events = runtime.subscribe()
        for n in range(1, 6):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.001)
            await deposits(runtime, 1)
            assert places(await taken(events, 1)) == [n]


async def test_a_subscription_of_a_journal_in_partitions_has_each_in_order() -> None:
    """Each partition in the order of its positions; the position is a vector, and good to go on after."""
    async with Runtime.local("memory://?partitions=3", config=SMALL, placement=Sharded(2)) as runtime:
        await asyncio.gather(*(deposits(runtime, 4, f"a{n}") for n in range(12)))
        events = runtime.subscribe()
        seen = await taken(events, 20)
        again = runtime.subscribe(after=events.position)
        await asyncio.gather(*(deposits(runtime, 4, f"a{n}") for n in range(12)))
        seen += await taken(again, 76)
        assert again.position == await runtime.head()
        for partition in range(3):
            mine = [e.position for e in seen if e.partition == partition]
            assert mine == list(range(1, len(mine) + 1))
        one = runtime.subscribe(stream=(Account, "a3"))
        assert [e.version for e in await taken(one, 8)] == list(range(1, 9))
        with pytest.raises(ValueError, match="partitions"):
            runtime.subscribe(after=7)


async def test_a_subscription_beyond_the_end_of_the_journal_is_refused() -> None:
    """The journal was restored from an older copy: nobody may go on as if nothing had been."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 3)
        for how in ({}, {"stream": (Account, "a")}, {"categories": [Teller]}):
            with pytest.raises(AheadOfJournal, match="ends at position 3, before 9"):
                await anext(runtime.subscribe(after=9, **how))


async def test_a_live_subscription_is_told_when_its_journal_is_replaced_by_a_shorter_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits at the end is ahead of it all at once. It is told, and the journal is not asked again and again."""

    async def shorter() -> int:
        return 1

    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 3)
        for how in ({}, {"stream": (Account, "a")}):
            waiting = asyncio.ensure_future(taken(runtime.subscribe(**how), 4))
            await eventually(lambda: any(feed._waiting or feed._waiting_for for feed in feeds_of(runtime)))
            tail = runtime._cluster._journals[0].resident.target._tail  # type: ignore[attr-defined]
            with monkeypatch.context() as replaced:
                replaced.setattr(tail._store, "head", shorter)
                replaced.setattr(tail, "_head", 1)
                tail._wake()
                with pytest.raises(AheadOfJournal, match="ends at position 1, before 3"):
                    await asyncio.wait_for(waiting, 30)


async def test_a_feed_that_is_over_keeps_no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be one for each category of the journal."""
    monkeypatch.setattr(feed_module, "WAIT_S", 0.01)
    monkeypatch.setattr(feed_module, "LINGER_S", 0.01)
    async with Runtime.local(placement=Sharded(1)) as runtime:
        events = runtime.subscribe()
        waiting = asyncio.ensure_future(taken(events, 3))
        await eventually(lambda: any(feed._waiting for feed in feeds_of(runtime)))
        await deposits(runtime, 3)
        await waiting
        (feed,) = feeds_of(runtime)
        await eventually(lambda: feed.over)
        assert not feed._pages
        await deposits(runtime, 1)
        assert places(await taken(events, 1)) == [4]


def feeds_of(runtime: Any) -> list[Any]:
    return list(runtime._feeds._feeds.values())


async def test_what_is_no_filter_of_a_subscription_is_refused() -> None:
    """At the call, and by type."""
    async with Runtime.local() as runtime:
        with pytest.raises(TypeError, match="no event"):
            runtime.subscribe(types=[int])
        with pytest.raises(TypeError, match="lists of classes"):
            runtime.subscribe(categories=7)  # type: ignore[arg-type]


async def test_a_subscription_that_was_left_says_nothing_when_its_runtime_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be left at any time: what it had asked for is of no interest to anybody."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        events = runtime.subscribe()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
        await eventually(lambda: any(feed._waiting for feed in feeds_of(runtime)))
    await asyncio.sleep(0)  # what it asked for comes to its end
    del events
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_subscriptions_of_a_closed_runtime_end_with_an_error() -> None:
    """Those who wait are told; they do not wait for ever."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 1)
        waiting = [asyncio.ensure_future(taken(runtime.subscribe(), 2)) for _ in range(3)]
        one = asyncio.ensure_future(taken(runtime.subscribe(stream=(Account, "a")), 2))
        while not runtime._feeds._feeds:
            await asyncio.sleep(0)
    for task in (*waiting, one):
        with pytest.raises(RuntimeClosed):
            await task


async def test_the_blocking_twin_has_a_subscription_too() -> None:
    """A plain iterator, for scripts."""

    def script() -> list[int]:
        with Runtime.local(placement=Sharded(1)) as runtime:
            for _ in range(3):
                runtime.get(Account, "a").deposit(1)
            found = runtime.subscribe(after=1)
            return [next(found).position for _ in range(2)]

    assert await asyncio.to_thread(script) == [2, 3]


async def test_watching_an_aggregate_gives_its_state_now_and_after_each_change() -> None:
    """Detached copies: what is done to one shows in no other. The newest comes, however many changes there were."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 3)
        states = runtime.watch(Account, "a")
        first = await anext(states)
        assert (first.balance, first.version) == (3, 3)
        waiting = asyncio.ensure_future(anext(states))
        await deposits(runtime, 1)
        second = await waiting
        assert (second.balance, second.version, first.balance) == (4, 4, 3)
        await deposits(runtime, 20)
        async for state in states:
            assert state.balance == state.version
            if state.version == 24:
                break
        new = runtime.watch(Account, "nobody yet")
        assert (await anext(new)).version == 0
        waiting = asyncio.ensure_future(anext(new))
        await deposits(runtime, 1, "nobody yet")
        assert (await waiting).version == 1


async def test_random_readers_and_writers_agree_on_every_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any filter, any start, any pace, with feeds that forget at once: what is seen is what the journal holds."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setattr(feed_module, "EVENTS_KEPT", 6)
    partitions = chance.choice([1, 1, 3])
    async with Runtime.local(f"memory://?partitions={partitions}", config=SMALL, placement=Sharded(2)) as runtime:
        await deposits(runtime, 5, "a2")  # one reader starts after these

        async def write(id: str) -> None:
            for _ in range(25):
                await deposits(runtime, chance.randint(1, 3), id)
                for _ in range(chance.randint(0, 20)):
                    await asyncio.sleep(0)

        filters: list[dict[str, Any]] = [
            {},
            {"categories": [Account]},
            {"types": [Deposited]},
            {"stream": (Account, "a1")},
            {"stream": (Account, "a2"), "after": 5} if partitions == 1 else {},
        ]

        async def wanted(how: dict[str, Any]) -> list[tuple[int, int]]:
            stream, after = how.get("stream"), how.get("after", 0)
            return [
                (e.partition, e.position)
                async for e in runtime.read()
                if (stream is None or (e.category, e.id) == (stream[0].__name__, stream[1])) and e.position > after
            ]

        async def read(how: dict[str, Any]) -> None:
            events = runtime.subscribe(**how)
            seen: list[Any] = []
            while True:
                if chance.random() < 0.1:
                    events = runtime.subscribe(**{**how, "after": events.position})
                for _ in range(chance.randint(0, 30)):
                    await asyncio.sleep(0)
                try:
                    seen.append(await asyncio.wait_for(anext(events), 0.2))
                except TimeoutError:
                    if writing.done() and len(seen) >= len(expected := await wanted(how)):
                        break
            assert sorted((e.partition, e.position) for e in seen) == sorted(expected)
            for partition in range(partitions):
                mine = [e.position for e in seen if e.partition == partition]
                assert mine == sorted(mine)

        writing = asyncio.ensure_future(asyncio.gather(*(write(f"a{n}") for n in range(4))))
        await asyncio.gather(*(read(how) for how in filters))


@pytest.mark.ray
async def test_a_subscription_survives_the_death_of_the_journal(world: Any) -> None:
    """Its process is killed again and again, under load: every event once, in order."""
    async with world.open(placement=Sharded(1)) as runtime:
        events = runtime.subscribe()
        one = runtime.subscribe(stream=(Account, "a"))
        reading = asyncio.gather(taken(events, 300), taken(one, 150))
        for _ in range(3):
            await asyncio.gather(deposits(runtime, 25), deposits(runtime, 25, "b"))
            world.kill_journal()
            await asyncio.gather(deposits(runtime, 25), deposits(runtime, 25, "b"))
        everything, of_one = await reading
        assert places(everything) == list(range(1, 301))
        assert [e.version for e in of_one] == list(range(1, 151))


def test_positions_of_a_subscription_print_and_come_back() -> None:
    """A checkpoint is kept as text."""
    assert Positions.parse(str(Positions((3, 0, 7)))) == Positions((3, 0, 7))
