"""The envelope: CloudEvents 1.0, the same for the same event, for ever."""

import base64

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Official
from hf_publish import envelope, recorded

from holdfast.journal.codec import CodecError, encode_plain
from holdfast.journal.records import StreamId
from holdfast.runtime.cloud_events import batch_json, cloud_event

FROM_A_COMMAND = encode_plain({"correlation_id": "c-1", "causation_id": "c-2", "metadata": {"clerk": "eve", "n": 1}})


def read(body: bytes) -> Official:
    """As the CloudEvents project reads it, which checks it too."""
    found = JSONFormat().read(Official, body)
    assert isinstance(found, Official)
    return found


def test_publish_the_envelope_is_one_that_the_cloudevents_project_reads():
    """All attributes that the specification requires, and the extensions by their names."""
    event = read(envelope(17, metadata=FROM_A_COMMAND).json)
    attributes = {**event.get_attributes(), "time": event.get_time().isoformat()}
    assert len(attributes.pop("id")) == 32
    assert attributes == {
        "specversion": "1.0",
        "source": "/holdfast/test",
        "type": "account.deposited",
        "subject": "Account/alice",
        "time": "2023-11-14T22:13:20.123456+00:00",
        "datacontenttype": "application/json",
        "partitionkey": "Account/alice",
        "sequence": "0000000000000000017",
        "commandid": "command-alice-17",
        "correlationid": "c-1",
        "causationid": "c-2",
        "metadata": '{"clerk":"eve","n":1}',
    }
    assert event.get_data() == {"amount": 17}


def test_publish_what_a_plain_call_has_not_is_in_no_attribute():
    """The specification wants attributes that are there to hold something."""
    attributes = envelope().attributes
    assert "causationid" not in attributes
    assert "metadata" not in attributes
    assert all(attributes.values())


def test_publish_binary_mode_is_read_by_the_cloudevents_project():
    """Headers with `ce_`, the content type, the data as it is: the Kafka binding."""
    made = envelope(3)
    event = from_kafka_event(KafkaMessage(headers=dict(made.headers("ce_")), key=None, value=made.data))
    assert event.get_id() == made.id
    assert event.get_subject() == "Account/alice"
    assert event.get_extension("sequence") == "0000000000000000003"
    assert event.get_data() == {"amount": 3}


def test_publish_an_event_has_one_id_and_no_other_event_has_it():
    """Not with another version, stream, or journal: there its command has another id, or was at another time."""
    other = [
        recorded(2),
        recorded(1, "bob"),
        recorded(1, stream=StreamId("Accounta", "lice")),
        recorded(1, command_id="another"),
        recorded(1, recorded_at=1),
    ]
    ids = {cloud_event(each, "/a").id for each in [recorded(1), *other]}
    assert len(ids) == 6
    again = cloud_event(recorded(1, position=99), "/elsewhere", "msgpack")  # restored, moved, told in another way
    assert again.id == cloud_event(recorded(1), "/a").id


def test_publish_sequences_sort_as_text_as_they_do_as_numbers():
    """The extension asks for that."""
    versions = [1, 2, 9, 10, 99, 100, 2**31, 2**63 - 1]
    sequences = [envelope(version).attributes["sequence"] for version in versions]
    assert sequences == sorted(sequences)
    assert [int(sequence) for sequence in sequences] == versions


def test_publish_json_data_has_bytes_as_base64_and_keys_as_text():
    """Whatever a payload may hold has a place in JSON."""
    payload = msgspec.msgpack.encode({"raw": b"\x00\xff", "by_number": {1: "one"}, "big": 2**64 - 1, "no": None})
    data = msgspec.json.decode(envelope(payload=payload).data)
    assert data == {
        "raw": base64.b64encode(b"\x00\xff").decode(),
        "by_number": {"1": "one"},
        "big": 2**64 - 1,
        "no": None,
    }


def test_publish_msgpack_data_is_the_payload_as_the_journal_has_it():
    """No decoding, and in structured mode base64, which readers undo."""
    made = cloud_event(recorded(), "/a", "msgpack")
    event = read(made.json)
    assert event.get_datacontenttype() == "application/vnd.msgpack"
    assert made.data == recorded().payload
    assert event.get_data() == recorded().payload


def test_publish_an_event_without_fields_has_an_empty_object():
    """And not no data, which would be a tombstone in Kafka."""
    assert envelope(payload=b"").data == b"{}"


@pytest.mark.parametrize(
    "how",
    [
        {"payload": b"\xc1"},
        {"payload": msgspec.msgpack.encode({"ext": msgspec.msgpack.Ext(5, b"x")})},
        {"type": "a\nb"},
        {"metadata": b"\x81\xa1x\x01"},
    ],
    ids=["no MessagePack", "an extension type", "a line end in the type", "no context"],
)
def test_publish_what_fits_into_no_envelope_is_told(how):
    """With an error that says what it was, not as something else."""
    with pytest.raises(CodecError):
        envelope(**how)


def test_publish_a_batch_is_an_array_of_the_same_envelopes():
    """`application/cloudevents-batch+json`."""
    events = [envelope(version) for version in (1, 2, 3)]
    assert msgspec.json.decode(batch_json(events)) == [msgspec.json.decode(event.json) for event in events]
