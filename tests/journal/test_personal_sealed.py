"""Sealed values, and the link that opens them: what goes in comes out, and nothing else ever does."""

import asyncio
import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.journal import cipher
from holdfast.journal.cipher import Tampered
from holdfast.journal.codec import decode_plain
from holdfast.journal.compression import compressed
from holdfast.journal.errors import CorruptRecord, ExtraMissing, NoKeyStore
from holdfast.journal.keys import Key
from holdfast.journal.marked import MARK, SEALED, is_marked, whole
from holdfast.journal.opening import OPENED, OpeningLink, field_place, fingerprint_place, reply_place, snapshot_place
from holdfast.journal.records import Fact, Followed, Load, Loaded, Recorded, Snapshot, StoredReply, StreamId
from holdfast.journal.sealed import blanked, opened, parsed_fields, seal, seal_whole, sealed_whole, shown
from holdfast.journal.wire import decode_followed, decode_loaded, decode_page, encode, encode_results

KEY = Key(kind="customer", id="42", generation=1, secret=bytes(range(32)))
STREAM = StreamId("Person", "42")
PLACE = field_place(STREAM, 1, "p.registered", "name")
BLANK = b"\xa0"

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def payload_of(name="Ada", key=KEY, place=PLACE, more=None):
    value = msgspec.msgpack.encode(name)
    return msgspec.msgpack.encode({"name": seal(key, value, place, BLANK), "city": "Paris", **(more or {})})


class Link:
    """Answers what it was told to; `find_keys` with the secrets of this table, empty where they were destroyed."""

    def __init__(self, answer=b"", secrets=None):
        self.answer, self.asked = answer, []
        self.secrets = {(KEY.kind, KEY.id, 1): KEY.secret} if secrets is None else secrets

    async def ask(self, method, *args):
        self.asked.append(method)
        if method == "find_keys":
            if isinstance(self.secrets, Exception):
                raise self.secrets
            return [self.secrets.get(tuple(id)) for id in args[0]]
        return self.answer


FORGOTTEN = {(KEY.kind, KEY.id, 1): b""}


def asked(link, method, *args):
    return asyncio.run(OpeningLink(link, link).ask(method, *args))


def record(payload, version=1, position=1, type="p.registered", stream=STREAM):
    return Recorded(
        position=position, stream=stream, version=version, type=type, payload=payload, command_id="c", recorded_at=1
    )


@given(values, st.binary(max_size=5))
def test_a_sealed_personal_value_opens_where_it_was_written_and_nowhere_else(value, blank):
    """Another stream, version, type, field, key or blank: nothing comes out."""
    plain = msgspec.msgpack.encode(value)
    sealed = sealed_whole(msgspec.msgpack.encode(seal(KEY, plain, PLACE, blank)))
    assert sealed is not None
    assert opened(sealed, KEY.secret, PLACE) == plain
    others = [
        (sealed, KEY.secret, field_place(StreamId("Person", "43"), 1, "p.registered", "name")),
        (sealed, KEY.secret, field_place(STREAM, 2, "p.registered", "name")),
        (sealed, KEY.secret, field_place(STREAM, 1, "p.moved", "name")),
        (sealed, KEY.secret, field_place(STREAM, 1, "p.registered", "city")),
        (sealed, bytes(32), PLACE),
        (msgspec.structs.replace(sealed, blank=blank + b"x"), KEY.secret, PLACE),
        (msgspec.structs.replace(sealed, id="43"), KEY.secret, PLACE),
        (msgspec.structs.replace(sealed, generation=2), KEY.secret, PLACE),
        (msgspec.structs.replace(sealed, ciphertext=sealed.ciphertext[:-1]), KEY.secret, PLACE),
        (msgspec.structs.replace(sealed, nonce=b""), KEY.secret, PLACE),
    ]
    for changed, secret, place in others:
        with pytest.raises(Tampered):
            opened(changed, secret, place)


def test_two_seals_of_one_personal_value_have_nothing_in_common():
    """Nobody can tell from the journal that two people have the same name."""
    one, other = (sealed_whole(msgspec.msgpack.encode(seal(KEY, b"\xa3Ada", PLACE))) for _ in range(2))
    assert one.nonce != other.nonce
    assert one.ciphertext != other.ciphertext


def test_an_event_with_personal_data_is_plain_messagepack_that_can_be_shown():
    """Without class, key store or the package for ciphers."""
    payload = payload_of()
    assert b"Ada" not in payload
    assert shown(decode_plain(payload)) == {"name": "<personal: customer 42>", "city": "Paris"}
    assert shown(decode_plain(payload), forgotten=True)["name"] == "<forgotten>"
    assert shown([decode_plain(payload), 7])[0]["city"] == "Paris"
    assert blanked(payload) == msgspec.msgpack.encode({"name": "", "city": "Paris"})
    assert blanked(compressed(payload_of(more={"text": "x" * 999}), 10)) == msgspec.msgpack.encode(
        {"name": "", "city": "Paris", "text": "x" * 999}
    )
    rotten = msgspec.msgpack.encode({"name": msgspec.Raw(whole(SEALED, b"rot"))})
    assert shown(decode_plain(rotten)) == {"name": "<personal: unreadable>"}


def test_an_answer_without_personal_data_is_passed_on_as_it_is():
    """The very object, and no other request."""
    link = Link(encode([record(b"\x81\xa1a\x01")]))
    assert asked(link, "read_all", 0, 10, None) is link.answer
    assert link.asked == ["read_all"]


def test_a_page_with_personal_data_is_opened_with_one_request_for_all_its_keys():
    """What it was is kept beside it, for those who pass it on."""
    sealed = [payload_of(place=field_place(STREAM, n, "p.registered", "name")) for n in (1, 2)]
    link = Link(encode([record(sealed[0]), record(b"\x81\xa1a\x01", 9, 2), record(sealed[1], 2, 3)]))
    page = decode_page(asked(link, "read_all", 0, 10, None))
    assert [decode_plain(each.payload).get("name") for each in page] == ["Ada", None, "Ada"]
    assert [each.sealed for each in page] == [sealed[0], b"", sealed[1]]
    assert link.asked == ["read_all", "find_keys"]
    assert decode_page(asked(Link(), OPENED, link.answer)) == page


def test_an_event_that_was_sealed_and_then_compressed_is_known_to_be_sealed():
    """Its mark is nowhere to be seen in what is stored; and what was only compressed is not sealed."""
    more = {"city": "".join(random.Random(7).choices("abcdefgh", k=4000))}
    stored = compressed(payload_of(more=more), 64)
    assert SEALED not in stored
    plain = compressed(msgspec.msgpack.encode(more), 64)
    page = decode_page(asked(Link(encode([record(stored), record(plain, 2, 2)])), "read_all"))
    assert [each.sealed for each in page] == [stored, b""]
    assert [decode_plain(each.payload) for each in page] == [{"name": "Ada", **more}, more]


def test_a_forgotten_personal_field_is_blank_wherever_it_is_read():
    """In pages, in what follows the journal, in what is loaded."""
    blank = {"name": "", "city": "Paris"}
    event = record(payload_of())
    (page,) = decode_page(asked(Link(encode([event]), FORGOTTEN), "read_stream", STREAM))
    followed = decode_followed(
        asked(Link(encode(Followed(events=(event,), reached=1, head=1)), FORGOTTEN), "follow", 0, 1, None, 0)
    )
    fact = Fact(position=1, version=1, type=event.type, payload=event.payload)
    answer = encode_results([Loaded(snapshot=None, events=(fact,), head=1)])
    (loaded,) = decode_loaded(asked(Link(answer, FORGOTTEN), "load", encode([Load(stream=STREAM)])))
    for found in (page, *followed.events, *loaded.events):
        assert decode_plain(found.payload) == blank


@pytest.mark.parametrize(
    "event",
    [
        record(payload_of(), version=2),
        record(payload_of(), stream=StreamId("Person", "43")),
        record(payload_of(), type="p.moved"),
        record(payload_of(key=Key(kind="customer", id="42", generation=1, secret=bytes(32)))),
        record(payload_of(key=Key(kind="customer", id="42", generation=7, secret=KEY.secret))),
        record(msgspec.msgpack.encode({"name": msgspec.Raw(whole(SEALED, b"rot"))})),
        record(b"\xc1" + SEALED),
    ],
    ids=["version", "stream", "type", "other key", "unknown key", "no sealed value", "no map"],
)
def test_personal_data_that_was_moved_or_tampered_with_is_told_with_its_place(event):
    """A key that the store never had is no key that was destroyed: nothing becomes blank by mistake."""
    good = record(b"\x81\xa1a\x01")
    with pytest.raises(CorruptRecord) as told:
        asked(Link(encode([event, good])), "read_all", 0, 10, None)
    assert (told.value.stream, told.value.version, told.value.position) == (str(event.stream), event.version, 1)
    assert decode_page(asked(Link(encode([good, event])), "read_all", 0, 10, None)) == [good]
    page = encode(Followed(events=(good, msgspec.structs.replace(event, position=2)), reached=2, head=2))
    assert decode_followed(asked(Link(page), "follow", 0, 10, None, 0)) == Followed(events=(good,), reached=1, head=2)
    fact = Fact(position=1, version=event.version, type=event.type, payload=event.payload)
    other = Loaded(snapshot=None, events=(), head=0)
    answer = encode_results([Loaded(snapshot=None, events=(fact,), head=event.version), other])
    loads = encode([Load(stream=event.stream), Load(stream=StreamId("Person", "x"))])
    bad, untouched = decode_loaded(asked(Link(answer), "load", loads))
    assert isinstance(bad, CorruptRecord)
    assert bad.version == event.version
    assert untouched == other


def test_a_personal_snapshot_whose_key_was_destroyed_stays_sealed():
    """No code reads it, so it is passed over; one that can be opened is."""
    payload = msgspec.msgpack.encode({"name": "Ada"})
    place = snapshot_place(STREAM, 3, "schema")
    sealed = Snapshot(stream=STREAM, version=3, schema="schema", payload=seal_whole(KEY, payload, place))
    moved = msgspec.structs.replace(sealed, version=4)
    for secrets, snapshot, comes_back in (
        (None, sealed, payload),
        (FORGOTTEN, sealed, sealed.payload),
        ({}, sealed, sealed.payload),
        (None, moved, moved.payload),
    ):
        answer = encode_results([Loaded(snapshot=snapshot, events=(), head=3)])
        (loaded,) = decode_loaded(asked(Link(answer, secrets), "load", encode([Load(stream=STREAM)])))
        assert loaded.snapshot.payload == comes_back
        assert asked(Link([snapshot], secrets), "list_snapshots", STREAM)[0].payload == comes_back


def test_personal_replies_come_back_or_stay_sealed():
    """Keyed ones with their fingerprints; errors among the answers stay where they are."""
    reply = StoredReply(
        version=1,
        reply=seal_whole(KEY, b"\xa3Ada", reply_place(STREAM, "k")),
        fingerprint=seal_whole(KEY, b"f" * 16, fingerprint_place(STREAM, "k")),
    )
    plain = StoredReply(version=2, reply=b"\x07")
    found = asked(Link({"k": reply, "p": plain}), "find_replies", STREAM, ["k", "p"], 10)
    assert found == {"k": StoredReply(version=1, reply=b"\xa3Ada", fingerprint=b"f" * 16), "p": plain}
    error = CorruptRecord("Person/1", 1, 1, "rot")
    batch = [(StreamId("Person", "1"), ["x"]), (STREAM, ["k"])]
    first, second = asked(Link([error, {"k": reply}], FORGOTTEN), "find_keyed_of", batch)
    assert first is error
    assert is_marked(second["k"].reply, SEALED)
    with pytest.raises(CorruptRecord, match="the reply of 'other'"):
        asked(Link({"other": reply}), "find_replies", STREAM, ["other"], 10)


def test_without_a_key_store_personal_data_is_refused_to_whom_it_concerns():
    """Typed; what has no marks is read all the same."""
    link = Link(encode([record(payload_of())]), NoKeyStore("personal data"))
    with pytest.raises(NoKeyStore):
        asked(link, "read_all", 0, 10, None)


def test_without_the_extra_personal_data_is_told_as_such(monkeypatch):
    """Writers and readers hear the name of the extra."""
    payload = payload_of()
    cipher._cryptography.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    try:
        with pytest.raises(ExtraMissing, match=r"pip install 'holdfast\[privacy\]'"):
            payload_of()
        with pytest.raises(ExtraMissing):
            asked(Link(encode([record(payload)])), "read_all", 0, 10, None)
    finally:
        cipher._cryptography.cache_clear()


@given(st.binary(max_size=60))
@example(msgspec.msgpack.encode(("person", "42", 1, b"", b"", b"")).replace(b"person", b"p\xffrson"))  # no UTF-8
def test_any_bytes_after_the_mark_of_personal_data_are_told_and_crash_nothing(body):
    """As a whole, as a field, as a payload."""
    for payload in (whole(SEALED, body), msgspec.msgpack.encode({"n": msgspec.Raw(whole(SEALED, body))}), MARK + body):
        try:
            asked(Link(encode([record(payload)])), "read_all", 0, 10, None)
        except CorruptRecord:
            pass
    with pytest.raises(Tampered):
        parsed_fields(msgspec.msgpack.encode({"n": msgspec.Raw(whole(SEALED, b"\xc1" + body))}))
