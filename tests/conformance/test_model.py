"""Any sequence of requests: every store does what a five-line model does, and answers as the reference does."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.journal.errors import Fenced, PlacementConflict
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, Appended, KeyedReply, Load, NewEvent, Snapshot, StreamId

STREAMS = [StreamId("A", "1"), StreamId("A", "2"), StreamId("B", "1")]
OWNERS = ["host-1", "host-2"]

# The fixture is a factory and hands out a new store for each example, so examples share nothing.
thorough = settings(
    max_examples=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def event(command_id):
    return NewEvent(type="t", payload=b"\x80", command_id=command_id, recorded_at=0, reply=b"\x01")


# What to append: stream, versions off the head (mostly 0), command ids, key numbers, epochs behind (mostly 0).
appends = st.tuples(
    st.sampled_from(STREAMS),
    st.sampled_from([0, 0, 0, 0, -1, -2, 1]),
    st.lists(st.sampled_from("abcd"), max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
    st.sampled_from([0, 0, 0, 1]),
)
batches = st.lists(appends, max_size=4)


@thorough
@given(steps=st.lists(batches, max_size=8))
def test_a_store_holds_what_a_list_of_lists_would(journal, steps):
    """The model: a stream is a list of ids, and an append that fits extends it."""

    async def run():
        model, log = {stream: [] for stream in STREAMS}, []
        async with journal() as scribe:
            for step in steps:
                batch, expected, ahead = [], [], {stream: len(ids) for stream, ids in model.items()}
                for number, (stream, off, ids, _, _) in enumerate(step):
                    # Ids that never repeat, so that nothing is a resend: the other test sends again.
                    unique = [f"{len(log)}.{number}.{id}.{n}" for n, id in enumerate(ids)]
                    batch.append(scribe.build(*unique, at=ahead[stream] + off, stream=stream))
                    expected.append(off == 0)
                    if off == 0:
                        model[stream] += unique
                        log += unique
                        ahead[stream] += len(unique)
                results = await scribe.store.append(batch)
                assert [isinstance(result, Appended) for result in results] == expected
            assert [e.command_id for e in await scribe.store.read_all()] == log
            for stream, ids in model.items():
                assert [e.command_id for e in await scribe.store.read_stream(stream)] == ids

    asyncio.run(run())


class Pair:
    """Sends every request to a store and to the reference, and holds the answers against each other."""

    def __init__(self, store, reference):
        self.store, self.reference = store, reference
        self.epochs, self.sent = dict.fromkeys(OWNERS, 0), []

    async def ask(self, method, *args, **kwargs):
        answers = []
        for store in (self.reference, self.store):
            try:
                answers.append(await getattr(store, method)(*args, **kwargs))
            except (Fenced, PlacementConflict) as error:
                answers.append(error)
        expected, found = map(comparable, answers)
        assert found == expected, method
        return answers[0]

    async def claim(self, owner, incarnation):
        self.epochs[owner] = max(self.epochs[owner], await self.ask("claim", owner, f"i{incarnation}"))

    async def bring(self, owner, incarnation, epoch):
        answer = await self.ask("claim", owner, f"i{incarnation}", epoch)
        self.epochs[owner] = max(self.epochs[owner], epoch if isinstance(answer, int) else 0)

    async def append(self, owner, step):
        batch = []
        for stream, off, ids, keys, behind in step:
            at = len(await self.reference.read_stream(stream)) + off
            replies = [KeyedReply(key=f"k{k}", fingerprint=b"", version=at + len(ids), reply=b"") for k in keys]
            batch.append(
                Append(
                    stream=stream,
                    owner=owner,
                    epoch=self.epochs[owner] - behind,
                    expected_version=at,
                    events=tuple(map(event, ids)),
                    keys=tuple(replies),
                )
            )
        self.sent.append(batch)
        await self.ask("append", batch)

    async def append_again(self, which):
        if self.sent:
            await self.ask("append", self.sent[which % len(self.sent)])

    async def snapshot(self, stream, version, schema, keep):
        saved = Snapshot(stream=stream, version=version, schema=schema, payload=bytes([version]))
        await self.ask("save_snapshots", [saved], keep=keep)

    async def load(self, stream, schema, newest, limit):
        owner = OWNERS[limit % 2]
        loads = [
            Load(stream=stream, schema=schema, snapshot_max=newest, limit=limit),
            Load(stream=stream, owner=owner, epoch=self.epochs[owner], limit=limit),
        ]
        await self.ask("load", loads)

    async def read(self, stream, after, limit, backward):
        await self.ask("read_stream", stream, after=after, limit=limit, backward=backward)
        await self.ask("read_all", after=after, limit=limit, category=stream.category if backward else None)
        await self.ask("find_replies", stream, list("abcdz"), window=after)
        await self.ask("find_keyed", stream, [f"k{number}" for number in range(4)])
        await self.ask("list_snapshots", stream)
        await self.ask("list_streams", after=stream if backward else None, limit=limit)
        await self.ask("head")

    async def register(self, category, placement, code):
        await self.ask("register", category, placement, code)

    async def confirm(self, owner, epoch):
        await self.ask("confirm", owner, epoch)


def comparable(answer):
    """Errors have no equality of their own: compare type and arguments."""
    if isinstance(answer, list):
        return [comparable(each) for each in answer]
    return (type(answer), answer.args) if isinstance(answer, Exception) else answer


small, streams, schemas = st.integers(0, 6), st.sampled_from(STREAMS), st.sampled_from(["", "s1", "s2"])
requests = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(OWNERS), batches),
    st.tuples(st.just("append"), st.sampled_from(OWNERS), batches),
    st.tuples(st.just("append_again"), small),
    st.tuples(st.just("claim"), st.sampled_from(OWNERS), st.integers(0, 5)),
    # As many epochs as every store remembers, and no more.
    st.tuples(st.just("bring"), st.sampled_from(OWNERS), st.integers(0, 5), st.integers(1, 2)),
    st.tuples(st.just("confirm"), st.sampled_from(OWNERS), st.integers(0, 3)),
    st.tuples(st.just("snapshot"), streams, small, schemas, st.integers(1, 2)),
    st.tuples(st.just("load"), streams, schemas, st.none() | small, st.integers(1, 4)),
    st.tuples(st.just("read"), streams, small, small, st.booleans()),
    st.tuples(st.just("register"), st.sampled_from("AB"), st.sampled_from("pq"), st.sampled_from("xy")),
)


@thorough
@given(script=st.lists(requests, max_size=25))
def test_a_store_answers_as_the_reference_does(journal, script):
    """Every answer and every error, over resends, stale epochs, taken keys and snapshots."""

    async def run():
        async with journal() as scribe:
            pair = Pair(scribe.store, MemoryStore())
            await pair.reference.claim(scribe.owner, "first")  # the scribe did so at the store
            for owner in OWNERS:
                await pair.claim(owner, 0)
            for request, *values in script:
                await getattr(pair, request)(*values)
            for stream in STREAMS:
                await pair.read(stream, 0, 1000, False)

    asyncio.run(run())
