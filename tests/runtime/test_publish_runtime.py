"""Publishers in a runtime: started, stopped, waited for, replaced, killed."""

import asyncio
import random

import msgspec
import pytest
from hf_bank import Account, Deposited, Teller
from hf_kafka import broker
from hf_nats import NatsServer, stored
from hf_publish import assert_all_in_order
from hf_support import eventually
from hf_webhooks import receiver

from holdfast.actors import DeadLetter
from holdfast.runtime import BlockingRuntime, Kafka, Nats, NoSuchFollower, Publisher, Runtime, Sharded, Webhook
from holdfast.runtime.follower import FollowerPhase

SECRET = b"a secret of thirty-two bytes, ok"


async def deposits(runtime, count, *ids):
    await asyncio.gather(*(runtime.get(Account, id).deposit(1) for _ in range(count) for id in ids))


async def test_publish_runtime_hands_over_what_there_was_and_what_comes():
    """`wait_for` returns when the receiver has confirmed all of it; the statistics tell of it."""
    with receiver(SECRET) as server:
        publisher = Publisher("orders", Webhook(server.url, SECRET), categories=[Account], types=[Deposited])
        async with Runtime.local(placement=Sharded(1)) as runtime:
            await deposits(runtime, 10, "a", "b")
            await runtime.start(publisher)
            await runtime.get(Teller, "t").transfer("a", "b", 1)
            await deposits(runtime, 10, "a", "b")
            await runtime.wait_for(publisher)
            assert_all_in_order(server.places, ["a", "b"], 21)
            assert {event["source"] for request in server.taken for event in request.events} == {"/holdfast/default"}
            (seen,) = (await runtime.statistics()).followers
            assert (seen.name, seen.kind, seen.events, seen.lag) == ("publisher/orders", "publisher", 42, 0)
            assert seen.phase is FollowerPhase.LIVE


async def test_publish_runtime_stops_and_goes_on():
    """The checkpoint is in the journal: started again, it sends what it has not."""
    with receiver(SECRET) as server:
        publisher = Publisher("orders", Webhook(server.url, SECRET))
        async with Runtime.local(placement=Sharded(1)) as runtime:
            await runtime.start(publisher)
            await deposits(runtime, 5, "a")
            await runtime.wait_for(publisher)
            assert await runtime.stop(publisher)
            await deposits(runtime, 5, "a")
            with pytest.raises(NoSuchFollower):
                await runtime.wait_for(publisher)
            await runtime.start(publisher)
            await runtime.wait_for(publisher)
            assert server.places == [("a", n) for n in range(1, 11)]


async def test_publish_runtime_a_changed_declaration_replaces_the_one_that_runs():
    """Under the same name and from the same checkpoint, to where it says now."""
    with receiver(SECRET) as one, receiver(b"another") as two:
        async with Runtime.local(placement=Sharded(1)) as runtime:
            for server, secret, id in ((one, SECRET, "a"), (two, b"another", "b")):
                publisher = Publisher("orders", Webhook(server.url, secret))
                await runtime.start(publisher)
                await runtime.start(publisher)  # again: it is left alone
                await deposits(runtime, 3, id)
                await runtime.wait_for(publisher)
        assert one.places == [("a", 1), ("a", 2), ("a", 3)]
        assert two.places == [("b", 1), ("b", 2), ("b", 3)]


async def test_publish_runtime_lists_and_replays_dead_letters():
    """As those of projections and reactions are, also while others are published; they outlive the process."""
    refused = [True]

    def answer(request):
        return 422 if refused and any(event["sequence"].endswith("2") for event in request.events) else 204

    with receiver(SECRET, answer) as server:
        publisher = Publisher("orders", Webhook(server.url, SECRET), on_error=DeadLetter())
        async with Runtime.local("memory://?partitions=2", placement=Sharded(1)) as runtime:
            await runtime.start(publisher)
            await deposits(runtime, 3, "a", "b", "c")
            await runtime.wait_for(publisher)
            assert {(letter.id, letter.type) for letter in await runtime.dead_letters(publisher)} == {
                (id, "hf_bank.deposited") for id in "abc"
            }
            assert len(await runtime.replay_dead_letters(publisher)) == 3
            await runtime.stop(publisher)
            await runtime.start(publisher)
            refused.clear()
            assert await runtime.replay_dead_letters(publisher) == []
            assert await runtime.dead_letters(publisher) == []
            assert sorted(server.places) == [(id, n) for id in "abc" for n in (1, 2, 3)]
            (seen,) = (await runtime.statistics()).followers
            assert seen.dead_letters == 0


async def test_publish_runtime_from_partitions_each_by_itself():
    """A sink and a checkpoint for each; the order of each stream as ever."""
    ids = [f"id-{n}" for n in range(12)]
    async with broker("bank", 4) as peer, Runtime.local("memory://?partitions=3", placement=Sharded(1)) as runtime:
        publisher = Publisher("to-kafka", Kafka(peer.address, topic="bank"), categories=[Account])
        await runtime.start(publisher)
        await deposits(runtime, 20, *ids)
        await runtime.wait_for(publisher)
        await runtime.stop(publisher)
        await runtime.start(publisher)
        await deposits(runtime, 5, *ids)
        await runtime.wait_for(publisher)
        written = [(record.headers["ce_subject"].decode(), record.headers["ce_sequence"]) for record in peer.records]
        found = [(subject.partition("/")[2], int(sequence)) for subject, sequence in written]
        assert_all_in_order(found, ids, 25)
        assert len(found) == 12 * 25


async def test_publish_runtime_a_broker_that_is_away_slows_nobody():
    """Commands are answered as ever; the statistics say what is the matter; all arrives when it is back."""
    answers = [503]
    with receiver(SECRET, lambda request: answers[0]) as server:
        publisher = Publisher("orders", Webhook(server.url, SECRET))
        async with Runtime.local(placement=Sharded(1)) as runtime:
            await runtime.start(publisher)
            await deposits(runtime, 100, "a")

            async def retrying():
                (seen,) = (await runtime.statistics()).followers
                return seen.phase is FollowerPhase.RETRYING and "503" in seen.problem and seen.retries >= 1

            await eventually(retrying)
            answers[0] = 204
            await runtime.wait_for(publisher)
        assert_all_in_order(server.places, ["a"], 100)


def test_publish_runtime_blocking():
    """Scripts without asyncio have the same."""
    with receiver(SECRET) as server:
        publisher = Publisher("orders", Webhook(server.url, SECRET))
        with Runtime.local(placement=Sharded(1)) as runtime:
            assert isinstance(runtime, BlockingRuntime)
            runtime.start(publisher)
            runtime.get(Account, "a").deposit(1)
            runtime.wait_for(publisher)
            assert server.places == [("a", 1)]


@pytest.mark.ray
async def test_publish_runtime_on_ray_survives_kills_of_everything(world, kill, tmp_path):
    """The publisher, the journal, the NATS server: stored once each and in order, nobody starts anything again."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, ids = random.Random(seed), ["a", "b", "c"]
    server = NatsServer(tmp_path / "nats")
    server.start()
    try:
        publisher = Publisher("feed", Nats(server.url, stream="bank", subject="bank.{category}.{type}", create=True))
        async with world.open(placement=Sharded(1)) as runtime:
            await runtime.start(publisher)
            for _ in range(4):
                await deposits(runtime, 20, *ids)
                victim = chance.choice(["publisher", "journal", "broker"])
                if victim == "publisher":
                    kill(world.pid_of("follower:publisher/feed"))
                elif victim == "journal":
                    world.kill_journal()
                else:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                await deposits(runtime, 20, *ids)
            await runtime.wait_for(publisher, timeout_s=90)
        found = [msgspec.json.decode(message.data) for message in await stored(server.url, "bank")]
        places = [(event["subject"].partition("/")[2], int(event["sequence"])) for event in found]
        assert_all_in_order(places, ids, 160)
        assert len(places) == 480  # what came again was dropped
    finally:
        server.end()
