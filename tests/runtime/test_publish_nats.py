"""NATS: against a real server with JetStream, killed and paused where that matters."""

import asyncio
import pickle
import random
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Official
from hf_nats import NatsServer, jetstream, stored
from hf_publish import Killed, assert_all_in_order, bench, envelope, envelopes, first_copies

from holdfast.journal.records import StreamId
from holdfast.runtime import EventRefused, MissingExtra, Nats, SinkUnavailable

SUBJECT = "bank.{category}.{type}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests that leave it alone; each uses a stream of its own."""
    made = NatsServer(tmp_path_factory.mktemp("nats"))
    made.start()
    yield made
    made.end()


@pytest.fixture
def own_server(tmp_path):
    """One that may be killed."""
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.end()


@pytest.fixture
def stream(request):
    """A name of the test's own."""
    return f"s{abs(hash(request.node.nodeid))}"


async def sent(sink, events):
    try:
        await sink.open()
        await sink.send(events)
    finally:
        await sink.close()


async def places(url, stream):
    """Stream's id and version of what is stored, in the order in which it was."""
    found = [msgspec.json.decode(message.data) for message in await stored(url, stream)]
    return [(event["subject"].partition("/")[2], int(event["sequence"])) for event in found]


async def test_publish_nats_stores_each_event_once_and_in_order(server, stream):
    """Structured mode, the id as `Nats-Msg-Id`, a subject of category and type."""
    events = envelopes(*"abcdefgh", count=50)
    await sent(Nats(server.url, stream=stream, subject=f"{stream}.{{category}}.{{type}}", create=True), events)
    messages = await stored(server.url, stream)
    assert_all_in_order(await places(server.url, stream), list("abcdefgh"), 50)
    assert len(messages) == 400
    assert {message.subject for message in messages} == {f"{stream}.Account.account.deposited"}
    assert messages[0].headers["Content-Type"] == "application/cloudevents+json; charset=UTF-8"
    event = JSONFormat().read(Official, messages[0].data)
    assert event.get_id() == messages[0].headers["Nats-Msg-Id"]


async def test_publish_nats_drops_what_comes_again(server, stream):
    """A crash between confirmation and checkpoint: published twice, stored once."""
    sink = Nats(server.url, stream=stream, subject=f"{stream}.{{type}}", create=True)
    async with bench() as world:
        end = await world.append("a", 20)
        world.link.dies_at = "save_checkpoint"
        with pytest.raises(Killed):
            await world.live(sink, end)
        assert len(await stored(server.url, stream)) == 20
        assert await world.checkpoint() == 0
        await world.live(sink, await world.append("a", 5))
    assert await places(server.url, stream) == [("a", n) for n in range(1, 26)]


async def test_publish_nats_two_journals_do_not_take_each_other_for_duplicates(server, stream):
    """Both have an `Account/alice` version 1; an id that says no more would lose one of them."""
    mine, theirs = envelope(1), envelope(1, command_id="of another journal")
    await sent(Nats(server.url, stream=stream, subject=f"{stream}.{{type}}", create=True), [mine])
    await sent(Nats(server.url, stream=stream, subject=f"{stream}.{{type}}"), [theirs])
    assert len(await stored(server.url, stream)) == 2


async def test_publish_nats_waits_for_a_stream_that_is_not_there(server, stream):
    """It says which, and makes one only if told."""
    with pytest.raises(SinkUnavailable, match="there is no such stream"):
        await sent(Nats(server.url, stream=stream, subject="elsewhere.{type}"), [envelope()])


async def test_publish_nats_a_subject_that_the_stream_does_not_take_is_no_confirmation(server, stream):
    """Nobody answers, or another stream does: not stored where it should be is not stored."""
    async with jetstream(server.url) as context:
        await context.add_stream(name=stream, subjects=[f"{stream}.>"])
        await context.add_stream(name=f"{stream}x", subjects=[f"{stream}x.>"])
    for subject in ("nobody.{type}", f"{stream}x.{{type}}"):
        with pytest.raises(SinkUnavailable):
            await sent(Nats(server.url, stream=stream, subject=subject), [envelope()])
    assert await places(server.url, f"{stream}x") == []


@pytest.mark.parametrize("limit", ["the server's", "the stream's"])
async def test_publish_nats_an_event_that_is_too_large_is_refused_and_not_overtaken(server, stream, limit):
    """What follows it in its stream is not sent; the other streams get through."""
    async with jetstream(server.url) as context:
        most = {"max_msg_size": 100_000} if limit == "the stream's" else {}
        await context.add_stream(name=stream, subjects=[f"{stream}.>"], **most)
    payload = msgspec.msgpack.encode({"text": "x" * (2_000_000 if limit == "the server's" else 200_000)})
    big = envelope(2, "a", payload=payload)
    events = [envelope(1, "a"), big, envelope(3, "a"), *envelopes("b", count=3)]
    with pytest.raises(EventRefused) as caught:
        await sent(Nats(server.url, stream=stream, subject=f"{stream}.{{type}}"), events)
    assert caught.value.event == big.id
    assert first_copies(await places(server.url, stream)) == {"a": [1], "b": [1, 2, 3]}
    assert set(caught.value.done) == {event.id for event in (events[0], *events[3:])}


async def test_publish_nats_the_words_of_a_subject_hold_nothing_that_means_something_else(server, stream):
    """Blanks and wildcards of ids, dots of ids, types that are several words."""
    sink = Nats(server.url, stream=stream, subject=f"{stream}.{{category}}.{{id}}.{{type}}", create=True)
    odd = envelope(1, stream=StreamId("Account", "a.b *>/ü"), type="account..closed.")
    await sent(sink, [odd])
    (message,) = await stored(server.url, stream)
    assert message.subject == f"{stream}.Account.a_b___/ü.account._.closed._"


@pytest.mark.parametrize("subject", ["", "a b", "a.>", "a.*", "a.{version}", "a.{type", "{}"])
def test_publish_nats_a_subject_that_is_none_is_refused_where_it_is_given(subject):
    """And not when the first event is to be sent."""
    with pytest.raises(ValueError, match="subject"):
        Nats("nats://127.0.0.1", stream="s", subject=subject)


async def test_publish_nats_nobody_there_says_later():
    """With no endless attempts of the client's own behind it."""
    with pytest.raises(SinkUnavailable):
        await sent(Nats("nats://127.0.0.1:1", stream="s", subject="s", timeout_s=5.0), [envelope()])


async def test_publish_nats_a_server_that_is_paused_says_later(own_server):
    """No acknowledgement in time is none; when it turns again, nothing is stored twice or out of order."""
    sink = Nats(own_server.url, stream="bank", subject=SUBJECT, create=True, timeout_s=0.3)
    await sent(sink, envelopes("a", count=1))
    await sink.open()
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(SinkUnavailable):
        await sink.send(envelopes("a", "b", count=3))
    own_server.signal(signal.SIGCONT)
    await sink.close()
    patient = Nats(own_server.url, stream="bank", subject=SUBJECT)
    await sent(patient, envelopes("a", "b", count=3))
    found = await places(own_server.url, "bank")
    assert_all_in_order(found, ["a", "b"], 3)
    assert len(found) == 6


async def test_publish_nats_kill_9_of_the_server_loses_and_reorders_nothing(own_server):
    """Several times in the middle of batches; the follower finds it again where it comes back."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with bench() as world:
        for _ in range(8):
            for id in "abcd":
                end = await world.append(id, 50)
        sink = Nats(own_server.url, stream="bank", subject=SUBJECT, create=True)
        desk, kills = await world.desk(page=100), 0

        async def restarted(seconds):
            await asyncio.to_thread(own_server.start)

        world.pauses = restarted
        living = asyncio.create_task(world.live(sink, end, desk=desk))
        while kills < 3 and not living.done():
            position = desk.progress.positions[0]
            await desk.progress.wait(
                type(desk.progress.positions)((min(end, position + chance.randrange(1, 300)),)), 60
            )
            if not living.done():
                own_server.kill()
                kills += 1
                while desk.progress.retries < kills and not living.done():
                    await asyncio.sleep(0.001)
        await living
    found = await places(own_server.url, "bank")
    assert_all_in_order(found, list("abcd"), 400)
    assert len(found) == 1600  # what came again was dropped


def test_publish_nats_without_its_extra_says_what_to_install(monkeypatch):
    """When the sink is made."""
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(MissingExtra, match=r"Nats needs nats-py: pip install 'holdfast\[nats\]'"):
        Nats("nats://127.0.0.1", stream="s", subject="s")


async def test_publish_nats_options_may_be_made_where_it_runs(server, stream):
    """Credentials need not travel, or be shown."""
    named = Nats(server.url, stream=stream, subject=f"{stream}.x", create=True, options=options)
    copy = pickle.loads(pickle.dumps(named))
    await sent(copy, [envelope()])
    assert "user:secret" not in repr(Nats("nats://user:secret@127.0.0.1", stream="s", subject="s"))
    assert len(await stored(server.url, stream)) == 1


def options():
    return {"name": Path(__file__).name}
