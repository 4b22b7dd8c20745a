"""The index of pending reminders: at every moment what a fold over the events says, and found without a scan."""

import asyncio

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reminder_fold import EVER, folded, indexed

from holdfast.journal.errors import Fenced, Unstorable, VersionConflict
from holdfast.journal.records import Appended, NewEvent, Reminder, StreamId
from holdfast.journal.reminders import CANCELLED, FIRED, NAME_OF_REMINDER_BYTES_MAX, REMINDER_TYPES, SET

ALICE, BOB, ORDER = StreamId("Account", "alice"), StreamId("Account", "bob"), StreamId("Order", "1")


def reminder(type, name, due=None, *, id="c", **more):
    """An event of a reminder; `due` is left out of the payload where it is None."""
    fields = {"name": name, **more, **({} if due is None else {"due": due})}
    return NewEvent(type=type, payload=msgspec.msgpack.encode(fields), command_id=id, recorded_at=0)


def set_(name, due, **more):
    return reminder(SET, name, due, **more)


async def pending(scribe, category="Account", until=EVER, **how):
    return [
        (r.due, r.stream.id, r.name) for r in await scribe.store.due_reminders(category=category, until=until, **how)
    ]


async def test_a_reminder_is_found_when_it_is_due(journal):
    """From its very microsecond on, not before."""
    async with journal() as scribe:
        await scribe.append(set_("expire", 100), at=0)
        assert await scribe.store.due_reminders(category="Account", until=99) == []
        expected = [Reminder(stream=ALICE, name="expire", due=100)]
        assert await scribe.store.due_reminders(category="Account", until=100) == expected


async def test_reminders_come_in_the_order_of_their_time(journal):
    """Over all streams of the category, and of no other; times before 1970 are times."""
    async with journal() as scribe:
        await scribe.append(set_("b", 20), set_("a", 40), at=0)
        await scribe.append(set_("b", 30), set_("c", -5), at=0, stream=BOB)
        await scribe.append(set_("b", 10), at=0, stream=ORDER)
        assert await pending(scribe) == [(-5, "bob", "c"), (20, "alice", "b"), (30, "bob", "b"), (40, "alice", "a")]
        assert await pending(scribe, "Order") == [(10, "1", "b")]
        assert await pending(scribe, "Nothing") == []


async def test_pages_of_reminders_meet_each_of_them_once(journal):
    """`limit` and `after`, over many of one moment; also when the one that `after` names has gone meanwhile."""
    async with journal() as scribe:
        for stream in (ALICE, BOB):
            await scribe.append(*(set_(f"r{n}", n // 3) for n in range(10)), at=0, stream=stream)
        everything = await scribe.store.due_reminders(category="Account", until=EVER)
        paged, after = [], None
        while page := await scribe.store.due_reminders(category="Account", until=EVER, limit=3, after=after):
            paged += page
            after = page[-1]
            assert len(paged) <= 20, "a page begins where the one before it did"
        assert paged == everything
        assert len(set(paged)) == 20
        middle = everything[7]
        await scribe.append(reminder(FIRED, middle.name), at=10, stream=middle.stream)
        assert await scribe.store.due_reminders(category="Account", until=EVER, after=middle) == everything[8:]
        assert await scribe.store.due_reminders(category="Account", until=EVER, limit=0) == []


async def test_after_a_reminder_of_an_unknown_stream_comes_what_is_due_later(journal):
    """The place is told by the time alone then; nothing raises."""
    async with journal() as scribe:
        await scribe.append(set_("a", 10), set_("b", 30), at=0)
        stranger = Reminder(stream=StreamId("Account", "nobody"), name="x", due=20)
        assert [r.name for r in await scribe.store.due_reminders(category="Account", until=EVER, after=stranger)] == [
            "b"
        ]


@pytest.mark.parametrize("type", [CANCELLED, FIRED, SET])
@pytest.mark.parametrize("said", ["left out", "nil"])
async def test_a_reminder_without_a_time_is_pending_no_more(journal, type, said):
    """Whatever the type: the payload decides. Other names stay."""
    async with journal() as scribe:
        await scribe.append(set_("go", 1), set_("stay", 2), at=0)
        fields = {"name": "go"} if said == "left out" else {"name": "go", "due": None}
        event = NewEvent(type=type, payload=msgspec.msgpack.encode(fields), command_id="c", recorded_at=0)
        await scribe.append(event, at=2)
        assert await pending(scribe) == [(2, "alice", "stay")]


async def test_a_reminder_that_fires_with_a_time_is_due_again(journal):
    """One that repeats; what else is in the payload is not the journal's."""
    async with journal() as scribe:
        await scribe.append(set_("daily", 100, every=86_400, command="settle"), at=0)
        await scribe.append(reminder(FIRED, "daily", 200, was=100), at=1)
        assert await pending(scribe) == [(200, "alice", "daily")]


async def test_reminder_events_of_one_append_act_in_order(journal):
    """The last word of each name counts, also across the appends of one batch."""
    async with journal() as scribe:
        await scribe.append(set_("a", 1), reminder(CANCELLED, "a"), set_("b", 1), set_("b", 2), at=0)
        assert await pending(scribe) == [(2, "alice", "b")]
        batch = [
            scribe.build(reminder(CANCELLED, "b"), set_("a", 3), at=4),
            scribe.build(set_("a", 9), at=0, stream=BOB),
            scribe.build(set_("b", 4), reminder(FIRED, "a"), at=6),
        ]
        assert all(isinstance(result, Appended) for result in await scribe.store.append(batch))
        assert await pending(scribe) == [(4, "alice", "b"), (9, "bob", "a")]


async def test_an_append_that_is_sent_again_leaves_the_reminder_index_alone(journal):
    """Recognised after the reminder was cancelled, it does not come back."""
    async with journal() as scribe:
        first = scribe.build(set_("a", 1, id="c1"), at=0)
        await scribe.store.append([first])
        await scribe.append(reminder(CANCELLED, "a", id="c2"), at=1)
        assert await scribe.store.append([first]) == [Appended(version=1, position=1)]
        assert await pending(scribe) == []
        cancel = scribe.build(reminder(CANCELLED, "a", id="c2"), at=1)
        await scribe.append(set_("a", 5), at=2)
        assert await scribe.store.append([cancel, first, cancel]) == [
            Appended(version=2, position=2),
            Appended(version=1, position=1),
            Appended(version=2, position=2),
        ]
        assert await pending(scribe) == [(5, "alice", "a")]


async def test_an_append_sent_again_within_its_batch_sets_its_reminder_once(journal):
    """What stands between the two acts last."""
    async with journal() as scribe:
        one, two = scribe.build(set_("a", 1, id="c1"), at=0), scribe.build(reminder(CANCELLED, "a", id="c2"), at=1)
        assert [type(result) for result in await scribe.store.append([one, two, one])] == [Appended] * 3
        assert await pending(scribe) == []


async def test_a_refused_append_sets_no_reminder(journal):
    """A wrong version, a fenced owner: its neighbours' are set."""
    async with journal() as old:
        new = await old.successor()
        batch = [
            old.build(set_("fenced", 1), at=0),
            new.build(set_("good", 2), at=0, stream=BOB),
            new.build(set_("early", 3), at=7),
        ]
        assert [type(result) for result in await new.store.append(batch)] == [Fenced, Appended, VersionConflict]
        assert await pending(new) == [(2, "bob", "good")]


MALFORMED = {
    "nothing": b"",
    "no map": b"\x93\x01\x02\x03",
    "an empty map": b"\x80",
    "no name": msgspec.msgpack.encode({"due": 1}),
    "an empty name": msgspec.msgpack.encode({"name": "", "due": 1}),
    "a name of bytes": msgspec.msgpack.encode({"name": b"a", "due": 1}),
    "a name that is no UTF-8": b"\x81\xa4name\xa2\xff\xfe",
    "a long name": msgspec.msgpack.encode({"name": "é" * (NAME_OF_REMINDER_BYTES_MAX // 2 + 1), "due": 1}),
    "a time as text": msgspec.msgpack.encode({"name": "a", "due": "1"}),
    "a time as a fraction": msgspec.msgpack.encode({"name": "a", "due": 1.5}),
    "a truth for a time": msgspec.msgpack.encode({"name": "a", "due": True}),
    "a time beyond the year 9999": msgspec.msgpack.encode({"name": "a", "due": 253_402_300_800_000_000}),
    "a time of 64 bits": msgspec.msgpack.encode({"name": "a", "due": (1 << 64) - 1}),
    "bytes behind it": msgspec.msgpack.encode({"name": "a", "due": 1}) + b"\x01",
    "cut short": msgspec.msgpack.encode({"name": "a", "due": 1})[:-1],
    "nested without end": b"\x82\xa4name\xa1a\xa1x" + b"\x91" * 100_000,
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_reminder_is_refused_in_its_place(journal, payload):
    """Nothing of its append is written, its neighbours are, and it does not block its stream."""
    async with journal() as scribe:
        bad = NewEvent(type=SET, payload=payload, command_id="bad", recorded_at=0)
        batch = [
            scribe.build(set_("before", 1), at=0),
            scribe.build(set_("with it", 2), bad, at=1),
            scribe.build(set_("after", 3), at=0, stream=BOB),
            scribe.build(set_("instead", 4), at=1),
        ]
        results = await scribe.store.append(batch)
        assert [type(result) for result in results] == [Appended, Unstorable, Appended, Appended]
        assert not results[1].retryable
        assert "Account/alice" in results[1].what
        assert await pending(scribe) == [(1, "alice", "before"), (3, "bob", "after"), (4, "alice", "instead")]
        assert [e.position for e in await scribe.store.read_all()] == [1, 2, 3]


async def test_only_the_reserved_types_are_reminders(journal):
    """The same payload in another event, a longer or a shorter name of a type: nothing is set, nothing refused."""
    async with journal() as scribe:
        types = ["account.reminded", "holdfast.reminder.sets", "holdfast.reminder", "Holdfast.reminder.set"]
        good = [reminder(type, "a", 1) for type in types]
        bad = [NewEvent(type=type, payload=b"\x80", command_id="c", recorded_at=0) for type in types]
        assert await scribe.append(*good, *bad, at=0) == Appended(version=8, position=8)
        assert await pending(scribe) == []


async def test_the_longest_names_make_a_reminder(journal):
    """Of the reminder, its stream and its category, all at their limits; and characters of every kind."""
    async with journal() as scribe:
        stream = StreamId("é" * 250, "ü" * 250)
        names = ["x" * NAME_OF_REMINDER_BYTES_MAX, "a\0b", "☂", " "]
        await scribe.append(*(set_(name, n) for n, name in enumerate(names)), at=0, stream=stream)
        assert [r.name for r in await scribe.store.due_reminders(category=stream.category, until=EVER)] == names


async def test_a_time_beyond_all_times_asks_for_every_reminder(journal):
    """`until` and `limit` beyond 64 bits are no error."""
    async with journal() as scribe:
        await scribe.append(set_("a", 1), at=0)
        assert await pending(scribe, until=1 << 80, limit=1 << 80) == [(1, "alice", "a")]
        assert await pending(scribe, until=-(1 << 80)) == []


# -- any sequence of appends ------------------------------------------------------------------------------------

STREAMS = [ALICE, BOB, ORDER]
events = st.tuples(
    st.sampled_from([*sorted(REMINDER_TYPES), "t"]), st.sampled_from("ab"), st.none() | st.integers(0, 9)
)
appends = st.tuples(st.sampled_from(STREAMS), st.sampled_from([0, 0, 0, 0, 1, -1]), st.lists(events, max_size=3))
steps = st.one_of(st.lists(appends, min_size=1, max_size=4), st.integers(0, 5))  # a batch, or which one to send again


# The fixture is a factory and hands out a new store for each example, so examples share nothing.
@settings(
    max_examples=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(steps, max_size=10))
def test_the_reminder_index_is_what_a_fold_over_the_events_says(journal, script):
    """After every batch, over conflicts, resends, and names that are set and cancelled within one of them."""

    async def run():
        async with journal() as scribe:
            heads, sent = dict.fromkeys(STREAMS, 0), []
            for number, step in enumerate(script):
                if isinstance(step, int) and not sent:
                    continue
                if isinstance(step, int):
                    batch = sent[step % len(sent)]
                else:
                    batch, ahead = [], dict(heads)
                    for place, (stream, off, made) in enumerate(step):
                        new = [reminder(t, n, due, id=f"{number}.{place}") for t, n, due in made]
                        batch.append(scribe.build(*new, at=ahead[stream] + off, stream=stream))
                        ahead[stream] += len(new) if off == 0 else 0
                    sent.append(batch)
                await scribe.store.append(batch)
                heads = {**heads, **dict(await scribe.store.list_streams())}
                expected = folded(await scribe.store.read_all())
                for category in ("Account", "Order"):
                    for until in (4, 9):
                        wanted = {k: due for k, due in expected.items() if k[0].category == category and due <= until}
                        assert await indexed(scribe.store, category, until) == wanted

    asyncio.run(run())
