"""The edge of the journal: what can never be stored is refused there, for good, and hurts nobody else."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.journal import admission, wire
from holdfast.journal.admission import LATEST, NAME_BYTES_MAX, refusal
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import CodecError, JournalError, RecordTooLarge, Unstorable
from holdfast.journal.memory import MemoryStore
from holdfast.journal.pages import NUMBER_MAX
from holdfast.journal.records import Append, Appended, KeyedReply, Load, NewEvent, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.sqlite import SqliteStore

ALICE = StreamId("Account", "alice")
LONG = "x" * (NAME_BYTES_MAX + 1)


def event(**fields):
    return NewEvent(**{"type": "t", "payload": b"\x80", "command_id": "c", "recorded_at": 0, **fields})


def append(*events, **fields):
    defaults = {"stream": ALICE, "owner": "host", "epoch": 1, "expected_version": 0, "events": events or (event(),)}
    return Append(**{**defaults, **fields})


def key(**fields):
    return KeyedReply(**{"key": "k", "fingerprint": b"f", "version": 1, "reply": b"\x01", **fields})


REFUSED = {
    "a stream without a category": (append(stream=StreamId("", "a")), Unstorable),
    "a stream without an id": (append(stream=StreamId("Account", "")), Unstorable),
    "a category with a slash": (append(stream=StreamId("Acc/ount", "a")), Unstorable),
    "a long id": (append(stream=StreamId("Account", LONG)), RecordTooLarge),
    "an id long in UTF-8 only": (append(stream=StreamId("Account", "€" * 400)), RecordTooLarge),
    "a long owner": (append(owner=LONG), RecordTooLarge),
    "a version before the first": (append(expected_version=-1), Unstorable),
    "a version beyond 64 bits": (append(expected_version=NUMBER_MAX), Unstorable),
    "an epoch beyond 64 bits": (append(epoch=NUMBER_MAX + 1), Unstorable),
    "an event without a type": (append(event(type="")), Unstorable),
    "a long type": (append(event(type=LONG)), RecordTooLarge),
    "a long command id": (append(event(), event(command_id=LONG)), RecordTooLarge),
    "a time beyond 64 bits": (append(event(recorded_at=1 << 63)), Unstorable),
    "a time before 64 bits": (append(event(recorded_at=-(1 << 63))), Unstorable),
    "a time after the year 9999": (append(event(recorded_at=LATEST + 1)), Unstorable),
    "a long key": (append(keys=(key(key=LONG),)), RecordTooLarge),
    "a keyed reply of no version": (append(keys=(key(version=1 << 63),)), Unstorable),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_is_refused_by_a_named_limit(case):
    """Each error names what it is, crosses the wire as itself, and says that sending again is of no use."""
    asked, kind = REFUSED[case]
    error = refusal(asked)
    assert type(error) is kind
    assert not error.retryable
    (crossed,) = wire.decode_appended(wire.encode_results([error]))
    assert (type(crossed), crossed.args) == (kind, error.args)


def test_what_is_just_within_the_limits_is_let_in():
    """The bound itself, in ASCII and in longer letters."""
    at_most = "x" * (NAME_BYTES_MAX - len("Account/"))
    for id in (at_most, "€" * (len(at_most) // 3)):
        assert refusal(append(stream=StreamId("Account", id))) is None
    longest = event(type="t" * NAME_BYTES_MAX, command_id="c" * NAME_BYTES_MAX, recorded_at=LATEST)
    assert refusal(append(longest, keys=(key(key="k" * NAME_BYTES_MAX),))) is None
    assert refusal(append(expected_version=NUMBER_MAX - 1)) is None


class Direct:
    """A `JournalLink` to a server in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


@pytest.fixture(params=["memory", "sqlite"])
def server(request, tmp_path):
    return JournalServer(MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "bank.db"))


async def test_neighbours_of_what_is_refused_are_written(server):
    """In one request, and in one transaction with others."""
    await server.start()
    await server.claim("host", "one")
    batch = [append(stream=StreamId("Account", "before")), *(bad for bad, _ in REFUSED.values())]
    batch.append(append(stream=StreamId("Account", "after")))
    results = wire.decode_appended(await server.append(wire.encode(batch)))
    assert [type(result) for result in results] == [Appended, *(kind for _, kind in REFUSED.values()), Appended]
    only_bad = wire.decode_appended(await server.append(wire.encode(batch[1:-1])))
    assert all(isinstance(result, JournalError) for result in only_bad)
    assert await server.head() == 2
    await server.stop()


async def test_what_cannot_even_travel_is_refused_where_it_is_sent(server):
    """Text that is no Unicode, integers that no wire carries: `Unstorable` to that caller, and to no other."""
    await server.start()
    client = JournalClient(Direct(server))
    await client.claim("host", "one")
    appends = [
        client.append(append(stream=StreamId("Account", "fine"))),
        client.append(append(stream=StreamId("Account", "\ud800"))),
        client.append(append(event(command_id="\udfff"))),
        client.append(append(event(recorded_at=1 << 70))),
        client.append(append(stream=StreamId("Account", "also fine"))),
    ]
    kinds = []
    for each in appends:
        try:
            kinds.append(type(await each))
        except JournalError as error:
            kinds.append(type(error))
    assert kinds == [Appended, Unstorable, Unstorable, Unstorable, Appended]
    good, bad = client.load(Load(stream=StreamId("Account", "fine"))), client.load(Load(stream=StreamId("A", "\ud800")))
    assert (await good).head == 1
    with pytest.raises(Unstorable):
        await bad
    await server.stop()


async def test_requests_by_name_are_checked_as_well(server):
    """Owners, types and streams that cannot be: `Unstorable` or `RecordTooLarge`, whatever is asked of them."""
    await server.start()
    bad = StreamId("Account", "\ud800")
    for ask, kind in (
        (lambda: server.claim("", "one"), Unstorable),
        (lambda: server.claim("\ud800", "one"), Unstorable),
        (lambda: server.claim(LONG, "one"), RecordTooLarge),
        (lambda: server.register("", "dedicated", ""), Unstorable),
        (lambda: server.register("Account", LONG, ""), RecordTooLarge),
        (lambda: server.read_stream(bad), Unstorable),
        (lambda: server.read_stream(StreamId("Account", LONG)), RecordTooLarge),
        (lambda: server.read_all(category="\ud800"), Unstorable),
        (lambda: server.list_snapshots(bad), Unstorable),
        (lambda: server.find_keyed(bad, ["k"]), Unstorable),
        (lambda: server.find_keyed(ALICE, ["\ud800"]), Unstorable),
        (lambda: server.find_replies(ALICE, ["\ud800"], 10), Unstorable),
        (lambda: server.list_streams(category="\ud800"), Unstorable),
    ):
        with pytest.raises(kind):
            await ask()
    assert await server.find_replies(ALICE, ["c"] * 100_000, 1 << 80) == {}
    assert await server.find_keyed(ALICE, ["c"] * 100_000) == {}
    await server.stop()


async def test_a_request_of_too_many_bytes_is_refused_whole(server, monkeypatch):
    """Before it is looked into."""
    await server.start()
    monkeypatch.setattr(admission, "REQUEST_BYTES_MAX", 1000)
    for method in (server.append, server.load):
        with pytest.raises(RecordTooLarge, match="request"):
            await method(bytes(1001))
    await server.stop()


@pytest.mark.parametrize("decode", [wire.decode_appends, wire.decode_loads, wire.decode_appended, wire.decode_loaded])
@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_told_as_such(decode, garbage):
    """`CodecError`, and nothing else."""
    try:
        decode(garbage)
    except CodecError:
        pass


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inside: st.lists(inside, max_size=6) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=20,
)
texts = st.text(max_size=300)
numbers = st.integers(-(2**63), 2**64 - 1)
events = st.tuples(
    texts, st.binary(max_size=9), texts, numbers, st.binary(max_size=9), st.none() | st.binary(max_size=9)
)
appends = st.tuples(
    st.tuples(texts, texts),
    st.sampled_from(["host", "", "other"]) | texts,
    st.sampled_from([1, 0, 2]) | numbers,
    st.sampled_from([0, 1, 2]) | numbers,
    st.lists(events, max_size=3),
    st.lists(st.tuples(texts, st.binary(max_size=9), numbers, st.binary(max_size=9)), max_size=2),
)


@pytest.mark.parametrize("decode", [wire.decode_appended, wire.decode_loaded])
@given(anything)
def test_answers_of_any_shape_are_answers_or_errors_of_ours(decode, value):
    """Also those whose errors have other names or arguments than ours."""
    for shape in (value, [value], [(None, value)], [(value, None)], [(None, ("VersionConflict", value))]):
        try:
            results = decode(msgspec.msgpack.encode(shape))
        except JournalError:
            continue
        assert all(isinstance(result, JournalError) or result is not None for result in results)
        assert all(str(result) is not None for result in results)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(deadline=None, max_examples=60)
@given(batch=st.lists(appends, max_size=6))
def test_requests_of_any_content_never_disturb_the_next(kind, batch):
    """Each append is written or refused by an error of ours; the journal has no gap, and takes the next append."""
    with tempfile.TemporaryDirectory() as folder:
        store = MemoryStore() if kind == "memory" else SqliteStore(Path(folder) / "bank.db")
        asyncio.run(check_any_request(JournalServer(store), batch))


async def check_any_request(server, batch):
    await server.start()
    try:
        epoch = await server.claim("host", "one")
        before = await server.head()
        results = wire.decode_appended(await server.append(msgspec.msgpack.encode(batch)))
        assert len(results) == len(batch)
        assert all(isinstance(result, Appended | JournalError) for result in results)
        at = len(wire.decode_page(await server.read_stream(ALICE)))
        last = append(epoch=epoch, expected_version=at)
        (done,) = wire.decode_appended(await server.append(wire.encode([last])))
        assert isinstance(done, Appended)
        page = wire.decode_page(await server.read_all(after=before))
        assert [recorded.position for recorded in page] == list(range(before + 1, before + len(page) + 1))
    finally:
        await server.stop()
