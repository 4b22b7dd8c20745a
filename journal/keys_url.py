"""Which key store a URL names: the same URLs as of journals, and `wrap`, which names the master key.

sqlite:///keys.db                                  a file of its own
sqlite:///keys.db?wrap=env:HOLDFAST_MASTER_KEY     its keys wrapped with what that variable holds
postgres://ann@db.example/vault?schema=keys        tables in a schema, `holdfast_keys` if none is named
memory://                                          for a journal in memory only
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from .errors import JournalUrlError
from .keys import KeyStore
from .keys_postgres import PostgresKeys
from .keys_sqlite import MEMORY, SqliteKeys
from .postgres_session import PostgresAddress, PostgresOptions
from .url import JournalUrl
from .wrap import Wrap, wrap_of

__all__ = ["KeysUrl", "open_keys"]

SCHEMA = "holdfast_keys"
POSTGRES_PORT = 5432
OPTIONS = {
    "memory": frozenset[str](),
    "sqlite": frozenset[str](),
    "postgres": frozenset({"schema", "synchronous", "answer_wait_s", "sslmode", "host"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysUrl:
    """The URL of a key store, taken apart and checked. `wrap`: what names its master key; empty: it has none."""

    url: JournalUrl
    wrap: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart. Raises `JournalUrlError`."""
        base, mark, query = url.partition("?")
        options = [option for option in query.split("&") if option] if mark else []
        wraps = [option.partition("=")[2] for option in options if option.startswith("wrap=")]
        if len(wraps) > 1:
            raise JournalUrlError(base, "option 'wrap' is given twice")
        rest = "&".join(option for option in options if not option.startswith("wrap="))
        parsed = JournalUrl.parse(f"{base}?{rest}" if rest else base)
        unknown = sorted(parsed.options.keys() - OPTIONS[parsed.scheme])
        if unknown:
            raise JournalUrlError(parsed.redacted, f"a key store has no option {unknown[0]!r}")
        return cls(url=parsed, wrap=unquote(wraps[0]) if wraps else "")

    def absolute(self) -> str:
        """The same store, named so that a process with another working folder finds it; a password is in it."""
        return self._with_wrap(self.url.absolute())

    @property
    def redacted(self) -> str:
        """For messages: no password in it."""
        return self._with_wrap(self.url.redacted)

    @property
    def mark(self) -> str:
        """Tells this store from others, and tells nothing else."""
        return hashlib.sha256(self.url.absolute().encode()).hexdigest()

    def store(self) -> KeyStore:
        """The store, not opened. Raises `JournalOpenError` where its master key is not to be had."""
        wrap = wrap_of(self.redacted, self.wrap)
        if self.url.scheme == "postgres":
            return self._postgres(wrap)
        return SqliteKeys(self.url.path or MEMORY, wrap)

    def _postgres(self, wrap: Wrap) -> KeyStore:
        options: dict[str, Any] = {"schema": SCHEMA, **self.url.options}
        address = PostgresAddress(
            host=options.pop("host", self.url.host),
            port=self.url.port or POSTGRES_PORT,
            user=self.url.user,
            password=self.url.password,
            database=self.url.path,
        )
        return PostgresKeys(address, PostgresOptions(**options), self.redacted, wrap)

    def _with_wrap(self, url: str) -> str:
        return f"{url}{'&' if '?' in url else '?'}wrap={self.wrap}" if self.wrap else url


def open_keys(url: str) -> KeyStore:
    """The key store that a URL names; `await store.open()` opens it. Raises `JournalUrlError`, `JournalOpenError`."""
    return KeysUrl.parse(url).store()
