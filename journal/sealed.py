"""Sealed values: encrypted under the key of a data subject, in the place where the value stood.

A sealed value says which key opens it, and what to put in its place once that key is destroyed, the *blank*. So an
event can be read whatever has become of its key, also by those who have neither its class nor the key store: the
payload is still a map, with an extension value for each field that is sealed.

It is bound to where it was written (the stream, the version, the type of the event and the field) and to the key and
the blank that it names: nobody can move it, or give it another blank, without that being noticed.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from .cipher import Tampered, decrypted, encrypted
from .compression import expanded
from .errors import CodecError
from .keys import Key, KeyId
from .marked import SEALED, Marked, body_of, body_of_whole, has_mark, is_marked, kind_of, marked, whole
from .records import Fact, Recorded
from .wire import UNDECODABLE

__all__ = [
    "Place",
    "Sealed",
    "blanked",
    "keyless",
    "opened",
    "parsed_fields",
    "seal",
    "seal_whole",
    "sealed_whole",
    "shown",
    "unparsed",
]

E = TypeVar("E", Fact, Recorded)

Place = tuple[str | int, ...]
"""Where a value stands: what it is of, its stream, and what tells it from all others there."""


class Sealed(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What stands in the place of a value. `blank`: MessagePack. `ciphertext`: by AES-256-GCM, with its tag."""

    kind: str
    id: str
    generation: int
    blank: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def key(self) -> KeyId:
        """What opens it."""
        return KeyId(self.kind, self.id, self.generation)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Sealed).decode
_decode_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def seal(key: Key, value: bytes, place: Place, blank: bytes = b"") -> Marked:
    """A value, which is MessagePack, as it may be written at that place. Raises `ExtraMissing`."""
    return marked(SEALED, _sealed(key, value, place, blank))


def seal_whole(key: Key, value: bytes, place: Place) -> bytes:
    """The same, as bytes."""
    return whole(SEALED, _sealed(key, value, place, b""))


def _sealed(key: Key, value: bytes, place: Place, blank: bytes) -> bytes:
    context = _context(key.kind, key.id, key.generation, blank, place)
    nonce, ciphertext = encrypted(key.secret, value, context)
    return _encode(
        Sealed(kind=key.kind, id=key.id, generation=key.generation, blank=blank, nonce=nonce, ciphertext=ciphertext)
    )


def opened(sealed: Sealed, secret: bytes, place: Place) -> bytes:
    """The value that was written at that place. Raises `Tampered`, `CodecError`, `ExtraMissing`."""
    context = _context(sealed.kind, sealed.id, sealed.generation, sealed.blank, place)
    return expanded(decrypted(secret, sealed.nonce, sealed.ciphertext, context))


def _context(kind: str, id: str, generation: int, blank: bytes, place: Place) -> bytes:
    return _encode((kind, id, generation, blank, place))


def sealed_whole(value: bytes) -> Sealed | None:
    """What these bytes hold, if they are a sealed value as a whole. Raises `Tampered` for one that is none any more."""
    return _parsed(body_of_whole(value)) if is_marked(value, SEALED) else None


def parsed_fields(payload: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Sealed]]:
    """The fields of an event, and those of them that are sealed. Raises `CodecError`, `Tampered`."""
    try:
        fields = _decode_fields(payload)
    except UNDECODABLE as error:
        raise CodecError("an event", str(error)) from error
    found: dict[str, Sealed] = {}
    for name, raw in fields.items():
        value = bytes(raw)
        if is_marked(value, SEALED):
            found[name] = _parsed(body_of_whole(value))
    return fields, found


def unparsed(fields: Mapping[str, Any]) -> bytes:
    """The payload of these fields: values, `msgspec.Raw`, or marked ones."""
    return _encode(fields)


def _parsed(body: bytes) -> Sealed:
    try:
        return _decode(body)
    except UNDECODABLE as error:
        raise Tampered(f"it is no sealed value: {error}") from error


# -- without keys ------------------------------------------------------------------------------------------------


def blanked(payload: bytes) -> bytes:
    """The payload of an event with each sealed field blank, as if all keys were destroyed: for those who look into a
    journal without its key store. Raises `CodecError`, `ExtraMissing`."""
    payload = expanded(payload)
    if SEALED not in payload:
        return payload
    try:
        fields, found = parsed_fields(payload)
    except Tampered as error:
        raise CodecError("an event", str(error)) from error
    return unparsed({**fields, **{name: msgspec.Raw(sealed.blank) for name, sealed in found.items()}})


def keyless(event: E) -> E:
    """An event as it is read without keys: as `blanked` has it. Raises `CodecError`, `ExtraMissing`."""
    return replace(event, payload=blanked(event.payload)) if has_mark(event.payload) else event


def shown(value: Any, *, forgotten: bool = False) -> Any:
    """Plain data as it can be shown: a sealed value as `<personal: customer 42>`, or, once `forgotten`, as such. For
    what `decode_plain` has made of a payload; any other value comes back as it is."""
    if isinstance(value, dict):
        return {name: shown(each, forgotten=forgotten) for name, each in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [shown(each, forgotten=forgotten) for each in value]  # pyright: ignore
    if kind_of(value) != SEALED:
        return value
    try:
        sealed = _parsed(body_of(value))
    except Tampered:
        return "<personal: unreadable>"
    return "<forgotten>" if forgotten else f"<personal: {sealed.kind} {sealed.id}>"
