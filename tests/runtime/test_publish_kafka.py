"""Kafka: no broker of Apache's can be had from where the tests get what they need. So there are two peers: the one of
`hf_kafka`, which fails as it is told, and the one that Confluent ships in its client for tests of its own, which is
read back with that client."""

import asyncio
import functools
import pickle
import random
import sys
from collections import defaultdict

import confluent_kafka
import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from hf_kafka import NOT_LEADER, OUT_OF_ORDER, UNKNOWN_TOPIC, broker
from hf_publish import Killed, assert_all_in_order, bench, envelope, envelopes, first_copies

from holdfast.actors.policy import DeadLetter
from holdfast.runtime import EventRefused, Kafka, MissingExtra, SinkUnavailable


def places(records):
    """Stream's id and version of each record."""
    found = [(record.headers["ce_subject"].decode(), int(record.headers["ce_sequence"])) for record in records]
    return [(subject.partition("/")[2], version) for subject, version in found]


async def sent(sink, events):
    try:
        await sink.open()
        await sink.send(events)
    finally:
        await sink.close()


@functools.cache
def confluent():
    """The broker that librdkafka has inside, one for all tests."""
    holder = confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 3, "log_level": 0})
    return holder, ",".join(f"{b.host}:{b.port}" for b in holder.list_topics(timeout=30).brokers.values())


def consumed(address, topic, count):
    """So many messages of a topic, with another client than the one that wrote them."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe([topic])
    try:
        messages = []
        while len(messages) < count:
            message = consumer.poll(60)
            assert message is not None, f"{len(messages)} of {count}"
            if message.error() is None:
                messages.append(message)
        return messages
    finally:
        consumer.close()


async def test_publish_kafka_is_read_by_another_client_from_another_broker():
    """Librdkafka's both: key, headers and value are what the CloudEvents project makes an event of."""
    _, address = confluent()
    events = envelopes(*"abcdefgh", count=100)
    await sent(Kafka(address, topic="read-back"), events)
    messages = await asyncio.to_thread(consumed, address, "read-back", len(events))
    by_partition = defaultdict(list)
    for message in messages:
        event = from_kafka_event(KafkaMessage(dict(message.headers()), message.key(), message.value()))
        assert event.get_subject() == message.key().decode() == event.get_extension("partitionkey")
        assert event.get_data() == {"amount": int(event.get_extension("sequence"))}
        assert message.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, 1_700_000_000_123)
        by_partition[message.partition()].append((event.get_subject()[-1], int(event.get_extension("sequence"))))
    assert_all_in_order([place for partition in by_partition.values() for place in partition], "abcdefgh", 100)
    assert len(by_partition) > 1


async def test_publish_kafka_partitions_as_the_java_client_does():
    """Murmur2 of the key: whoever joins topics by partition finds the same stream at the same place."""
    holder, address = confluent()
    events = envelopes(*(f"id-{n}" for n in range(50)), count=1)
    await sent(Kafka(address, topic="ours"), events)
    theirs = confluent_kafka.Producer({"bootstrap.servers": address, "partitioner": "murmur2", "log_level": 0})
    for event in events:
        theirs.produce("theirs", key=event.stream.encode(), value=b"x")
    theirs.flush(60)
    ours, as_java = [
        {message.key(): message.partition() for message in await asyncio.to_thread(consumed, address, topic, 50)}
        for topic in ("ours", "theirs")
    ]
    assert ours == as_java
    assert holder is not None


async def test_publish_kafka_records_have_the_stream_as_key_and_the_attributes_as_headers():
    """Binary mode of CloudEvents; the record's time is the event's."""
    async with broker() as peer:
        await sent(Kafka(peer.address, topic="bank"), [envelope(7)])
        (record,) = peer.records
        assert (record.key, record.value, record.timestamp) == (b"Account/alice", b'{"amount":7}', 1_700_000_000_123)
        assert record.headers["content-type"] == b"application/json"
        assert record.headers["ce_id"] == envelope(7).id.encode()
        assert record.headers["ce_specversion"] == b"1.0"
        assert set(record.headers) == {f"ce_{name}" for name in envelope(7).attributes} | {"content-type"}


async def test_publish_kafka_a_lost_answer_is_not_written_twice():
    """The producer sends the same sequence numbers again, over a new connection, and the broker knows them."""
    async with broker() as peer:
        peer.faults = ["lost after", "lost before", "lost after"]
        await sent(Kafka(peer.address, topic="bank"), envelopes("a", count=20))
        assert places(peer.records) == [("a", n) for n in range(1, 21)]
        assert peer.duplicates > 0


async def test_publish_kafka_a_leader_that_moves_is_found_again():
    """An error that goes away by itself is tried again by the producer."""
    async with broker() as peer:
        peer.faults = [NOT_LEADER, NOT_LEADER]
        await sent(Kafka(peer.address, topic="bank"), envelopes("a", count=20))
        assert places(peer.records) == [("a", n) for n in range(1, 21)]


async def test_publish_kafka_a_broker_that_does_not_answer_says_later():
    """The producer is given up, and does not send behind its back what is sent again by the next."""
    async with broker() as peer:
        peer.faults = ["silent"]
        sink = Kafka(peer.address, topic="bank", timeout_s=0.5)
        await sink.open()
        with pytest.raises(SinkUnavailable, match=r"nothing within 0\.5 s"):
            await sink.send(envelopes("a", count=3))
        await sink.close()
        assert asyncio.all_tasks() == {asyncio.current_task(), *serving(peer)}
        await sent(sink, envelopes("a", count=3))
        assert places(peer.records) == [("a", 1), ("a", 2), ("a", 3)] * 2  # written unheard, and again


def serving(peer):
    """The tasks of the broker's own connections."""
    return {task for task in asyncio.all_tasks() if "KafkaBroker._serve" in repr(task)}


async def test_publish_kafka_a_batch_that_is_refused_is_not_overtaken_by_the_next():
    """The broker knows nothing of this producer, and would take its second batch with whatever number."""
    async with broker() as peer:
        peer.faults = [OUT_OF_ORDER]
        events = envelopes("a", count=100)
        with pytest.raises(SinkUnavailable):
            await sent(Kafka(peer.address, topic="bank", batch_bytes=500), events)
        assert peer.records == []
        await sent(Kafka(peer.address, topic="bank", batch_bytes=500), events)
        assert places(peer.records) == [("a", n) for n in range(1, 101)]
        assert peer.produced > 10


async def test_publish_kafka_partitions_do_not_wait_for_each_other():
    """What is confirmed in one is told, though another one fails."""
    async with broker(partitions=8) as peer:
        events = envelopes(*"abcdefghijkl", count=3)
        await sent(Kafka(peer.address, topic="bank"), events)
        assert sum(bool(log.records) for log in peer.logs) > 1
        assert_all_in_order(places(peer.records), "abcdefghijkl", 3)
        for log in peer.logs:
            log.records.clear()
        big = envelope(2, "a", payload=msgspec.msgpack.encode({"text": "x" * 2_000_000}))
        with pytest.raises(EventRefused) as caught:
            await sent(Kafka(peer.address, topic="bank"), [envelope(1, "a"), big, envelope(3, "a"), *events[1::12]])
        assert caught.value.event == big.id
        written = first_copies(places(peer.records))
        assert written["a"] == [1]
        assert written["b"] == [1, 2, 3]
        assert big.id not in caught.value.done


@pytest.mark.parametrize("size", [100, 3_000])
async def test_publish_kafka_batches_shrink_to_what_the_broker_takes(size):
    """Its limit is its own business; one event over it is refused, and not before it is known to be that one."""
    async with broker(max_message_bytes=2_000) as peer:
        payload = msgspec.msgpack.encode({"text": "x" * size})
        async with bench() as world:
            for n in range(1, 31):
                end = await world.append("a", **({"payload": payload} if n == 15 else {}))
            sink = Kafka(peer.address, topic="bank")
            if size < 2_000:
                await world.live(sink, end)
                assert first_copies(places(peer.records)) == {"a": list(range(1, 31))}
            else:
                desk = await world.live(sink, end, on_error=DeadLetter())
                assert first_copies(places(peer.records)) == {"a": [n for n in range(1, 31) if n != 15]}
                assert desk.progress.dead_letters == 1


async def test_publish_kafka_nobody_there_and_no_such_topic_say_later():
    """And end in time."""
    with pytest.raises(SinkUnavailable):
        await sent(Kafka("127.0.0.1:1", topic="bank", timeout_s=5.0), [envelope()])
    async with broker() as peer:
        with pytest.raises(SinkUnavailable):
            await sent(Kafka(peer.address, topic="elsewhere", timeout_s=0.5), [envelope()])


@pytest.mark.parametrize("partitions", [1, 4])
async def test_publish_kafka_end_to_end_over_a_broker_that_fails_at_random(partitions):
    """Answers lost, connections lost, errors, restarts, and a publisher that is killed: all is there, in order."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = [None, None, "lost before", "lost after", NOT_LEADER, OUT_OF_ORDER, UNKNOWN_TOPIC]
    async with broker(partitions=partitions) as peer, bench() as world:
        for _ in range(5):
            for id in "abcde":
                end = await world.append(id, 10)
        for _ in range(3):
            peer.fault = lambda: chance.choice(faults)
            world.link.dies_at = "save_checkpoint"
            sink = Kafka(peer.address, topic="bank", batch_bytes=3_000, options={"retry_backoff_ms": 5})
            with pytest.raises(Killed):
                await world.live(sink, end, batch=chance.randrange(20, 200))
            await peer.stop()
            await peer.start()
        peer.fault = lambda: None
        await world.live(Kafka(peer.address, topic="bank"), end)
        for log in peer.logs:
            ids = sorted({id for id, _ in places(log.records)})
            assert_all_in_order(places(log.records), ids, 50)
        assert {id for id, _ in places(peer.records)} == set("abcde")
        assert len({record.headers["ce_id"] for record in peer.records}) == 250


def test_publish_kafka_without_its_extra_says_what_to_install(monkeypatch):
    """When the sink is made."""
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(MissingExtra, match=r"Kafka needs aiokafka: pip install 'holdfast\[kafka\]'"):
        Kafka("localhost:9092", topic="bank")


async def test_publish_kafka_options_may_be_made_where_it_runs():
    """And an open sink is pickled as it was declared."""
    async with broker() as peer:
        sink = Kafka(peer.address, topic="bank", options=options)
        await sink.open()
        copy = pickle.loads(pickle.dumps(sink))
        await sink.close()
        assert copy == sink
        assert copy._producer is None
        await sent(copy, [envelope()])
        assert len(peer.records) == 1


def options():
    return {"client_id": "tests", "linger_ms": 1}
