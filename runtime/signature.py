"""Signatures of webhooks, by the Standard Webhooks scheme 1.0: who has the secret can tell who sent what, and when.

    webhook-id          of the message; the same each time it is sent, so whoever has seen it drops it
    webhook-timestamp   when this request was sent, in seconds since 1970 UTC; one caught and sent again is too old
    webhook-signature   `v1,` and the base64 of HMAC-SHA256(secret, `<id>.<timestamp>.<body>`); one for each secret,
                        with blanks between, so that a secret can be replaced while both are in use

The scheme: https://www.standardwebhooks.com. A secret is bytes, or text `whsec_` and their base64. Its libraries, in
any language, verify what is signed here, and `verify_signature` what they sign.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from .errors import SignatureRefused

__all__ = ["Secret", "secrets_of", "sign", "verify_signature"]

Secret: TypeAlias = bytes | str
PREFIX = "whsec_"
TOLERANCE_S = 300.0


def secrets_of(secret: Secret | Sequence[Secret]) -> tuple[bytes, ...]:
    """One secret or several, as bytes. Raises `ValueError` for one that is empty, or text that is no base64."""
    several = (secret,) if isinstance(secret, bytes | str) else tuple(secret)
    found = tuple(_bytes(each) for each in several)
    if not found or not all(found):
        raise ValueError("a webhook's secret must not be empty")
    return found


def sign(secrets: Iterable[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a request with this body."""
    signatures = (base64.b64encode(_signature(secret, id, str(timestamp), body)).decode() for secret in secrets)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def verify_signature(
    secret: Secret | Sequence[Secret],
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: Callable[[], float] = time.time,
) -> str:
    """For receivers: check a request before anything is done about it, and return its `webhook-id`. Raises
    `SignatureRefused`. `body`: as it came, byte for byte."""
    given = {name.lower(): value for name, value in headers.items()}
    try:
        id, timestamp, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise SignatureRefused(f"it has no {error.args[0]}") from None
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise SignatureRefused("its timestamp is no number")
    expected = [_signature(each, id, timestamp, body) for each in secrets_of(secret)]
    if not any(hmac.compare_digest(mine, theirs) for theirs in _v1(signatures) for mine in expected):
        raise SignatureRefused("no signature of it is right")
    if abs(now() - int(timestamp)) > tolerance_s:
        raise SignatureRefused(f"it was sent more than {tolerance_s:g} s ago, or will be")
    return id


def _signature(secret: bytes, id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(secret, b".".join((id.encode(), timestamp.encode(), body)), hashlib.sha256)


def _v1(signatures: str) -> Iterable[bytes]:
    """Those of the version that is known here; what is no base64 is none."""
    for each in signatures.split():
        version, _, signature = each.partition(",")
        if version == "v1":
            try:
                yield base64.b64decode(signature, validate=True)
            except (binascii.Error, ValueError):
                continue


def _bytes(secret: Secret) -> bytes:
    if isinstance(secret, bytes):
        return secret
    if not secret.startswith(PREFIX):
        raise ValueError(f"a webhook's secret is bytes, or text that begins with {PREFIX}")
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("what follows whsec_ in a webhook's secret is no base64") from error
