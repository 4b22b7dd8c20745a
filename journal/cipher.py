"""AES-256-GCM, from the package `cryptography`, which is an extra.

Whoever changes a ciphertext, or gives it another context than it was made with, gets `Tampered` and nothing else.
"""

import functools
import os
from typing import Any

from .errors import ExtraMissing

__all__ = ["KEY_BYTES", "NONCE_BYTES", "Tampered", "decrypted", "encrypted", "new_key"]

KEY_BYTES, NONCE_BYTES = 32, 12


class Tampered(Exception):
    """A ciphertext is not what was written, or stands where it was not written, or the key is another one."""


def new_key() -> bytes:
    """A key, by the operating system's randomness."""
    return os.urandom(KEY_BYTES)


def encrypted(secret: bytes, value: bytes, context: bytes) -> tuple[bytes, bytes]:
    """A nonce, and the ciphertext with its tag. Nonces are random: with one key they are good for 2**32 values. Raises
    `ExtraMissing`."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce, _cryptography()[0](secret).encrypt(nonce, value, context)


def decrypted(secret: bytes, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes:
    """The value. Raises `Tampered`, `ExtraMissing`."""
    cipher, refused = _cryptography()
    try:
        value: bytes = cipher(secret).decrypt(nonce, ciphertext, context)
    except (refused, ValueError) as error:
        raise Tampered("it fails its authentication") from error
    return value


@functools.cache
def _cryptography() -> tuple[Any, type[Exception]]:
    # Here, and not at the top: it is an extra, and costs a twentieth of a second that others need not pay.
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ExtraMissing("personal data", "cryptography", "privacy") from error
    return AESGCM, InvalidTag
