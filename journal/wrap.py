"""Wrapping: the keys of a key store, encrypted at rest under one master key that is kept elsewhere.

A copy of the key store alone, a backup say, then opens nothing. The master key is named by the store's URL,
`keys.db?wrap=env:HOLDFAST_MASTER_KEY`: 32 bytes, as 64 hex digits or in base64, in an environment variable of the
process that opens the store. Losing it is losing every key.
"""

import base64
import binascii
import os

from .cipher import KEY_BYTES, NONCE_BYTES, Tampered, decrypted, encrypted
from .errors import JournalOpenError
from .keys import KeyId

__all__ = ["Wrap", "wrap_of"]


class Wrap:
    """How secrets stand in the store. Without a master key: as they are."""

    def __init__(self, path: str, master: bytes | None = None) -> None:
        """`path`: the key store, as errors call it."""
        self._path, self._master = path, master

    def __repr__(self) -> str:
        return f"<wrap of {self._path}, {'without' if self._master is None else 'with'} a master key>"

    def wrapped(self, secret: bytes, id: KeyId) -> bytes:
        """As it is stored. Raises `ExtraMissing`."""
        return secret if self._master is None else b"".join(encrypted(self._master, secret, str(id).encode()))

    def unwrapped(self, stored: bytes, id: KeyId) -> bytes:
        """The secret. Raises `JournalOpenError` where it was stored under another master key, or under none."""
        try:
            if self._master is not None:
                nonce, ciphertext = stored[:NONCE_BYTES], stored[NONCE_BYTES:]
                return decrypted(self._master, nonce, ciphertext, str(id).encode())
        except Tampered:
            raise JournalOpenError(self._path, "its keys are wrapped with another master key, or with none") from None
        if len(stored) != KEY_BYTES:
            raise JournalOpenError(self._path, "its keys are wrapped: name the master key, ?wrap=env:NAME")
        return stored


def wrap_of(path: str, source: str) -> Wrap:
    """The wrap that `source` names: `env:NAME`, or nothing. Raises `JournalOpenError`."""
    if not source:
        return Wrap(path)
    kind, _, name = source.partition(":")
    if kind != "env" or not name:
        raise JournalOpenError(path, f"wrap={source!r} names no master key: env:NAME does")
    text = os.environ.get(name)
    if text is None:
        raise JournalOpenError(path, f"the master key is missing: {name} is not set where the journal lives")
    return Wrap(path, _master(path, name, text.strip()))


def _master(path: str, name: str, text: str) -> bytes:
    try:
        master = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        master = b""
    if len(master) != KEY_BYTES:
        raise JournalOpenError(path, f"{name} is no master key: {KEY_BYTES} bytes, as hex digits or in base64")
    return master
