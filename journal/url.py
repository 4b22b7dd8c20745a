"""Which journal a URL names.

    memory://                                       lives and dies with the process
    sqlite:///orders.db                             a file, relative to the working folder
    sqlite:////var/lib/orders.db?cache_mib=256      a file, by its absolute path

Three slashes and then the path: a path that starts with a slash makes it four. What a path cannot hold as
itself (`?`, `#`, `%`, a space) is percent-encoded. A URL is checked whole before anything is opened.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from .errors import JournalUrlError
from .memory import MemoryStore
from .sqlite import SqliteStore
from .sqlite_file import SqliteOptions
from .store import Store

__all__ = ["JournalUrl", "open_store"]

_ACCEPTED = "memory://, sqlite:///relative.db, sqlite:////absolute.db"


def open_store(url: str) -> Store:
    """Construct the store that a URL names; `await store.open()` opens it. Raises `JournalUrlError`."""
    return JournalUrl.parse(url).store()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalUrl:
    """A journal's URL, taken apart and checked. `path` is decoded, and empty for `memory`."""

    scheme: str
    path: str = ""
    options: dict[str, str | int | float] = field(default_factory=dict[str, str | int | float])

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart. Raises `JournalUrlError`, which says what is accepted and shows no password."""
        try:
            parts = urlsplit(url)
            scheme = _SCHEMES.get(parts.scheme)
            if scheme is None or url.partition("://")[0].lower() != parts.scheme:
                raise ValueError(f"names no kind of journal; accepted are {_ACCEPTED}")
            path = scheme.path(parts)
            return cls(scheme=parts.scheme, path=path, options=_options(parts.query, scheme.options))
        except ValueError as error:
            raise JournalUrlError(_redact(url), str(error)) from None

    def store(self) -> Store:
        """The store, not opened."""
        return _SCHEMES[self.scheme].store(self)

    def absolute(self) -> str:
        """The same journal, named so that a process with another working folder finds it."""
        if not self.path:
            return str(self)
        return str(type(self)(scheme=self.scheme, path=os.path.abspath(self.path), options=self.options))

    @property
    def redacted(self) -> str:
        """For logs and error messages: no password in it."""
        return _redact(str(self))

    def __str__(self) -> str:
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"{self.scheme}://{'/' if self.path else ''}{quote(self.path)}{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    """One kind of journal: what its URL may hold, and the store that it names."""

    path: Callable[[SplitResult], str]
    options: dict[str, Callable[[str], str | int | float]]
    store: Callable[[JournalUrl], Store]


def _no_path(parts: SplitResult) -> str:
    if parts.netloc or parts.path or parts.fragment:
        raise ValueError("memory:// takes nothing after the slashes")
    return ""


def _file_path(parts: SplitResult) -> str:
    if parts.netloc:
        raise ValueError("a file has no host; write three slashes: sqlite:///relative.db, sqlite:////absolute.db")
    if parts.fragment:
        raise ValueError("a # in a path is written %23")
    path = unquote(parts.path.removeprefix("/"), errors="strict")
    if not path:
        raise ValueError("the path is missing: sqlite:///relative.db, sqlite:////absolute.db")
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    return path


def _options(query: str, known: dict[str, Callable[[str], str | int | float]]) -> dict[str, str | int | float]:
    options: dict[str, str | int | float] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in known:
            raise ValueError(f"unknown option {name!r}; accepted are {', '.join(known) or 'none'}")
        if name in options:
            raise ValueError(f"option {name!r} is given twice")
        try:
            options[name] = known[name](value)
        except ValueError as error:
            raise ValueError(f"option {name}={value!r}: {error}") from None
    return options


def _synchronous(value: str) -> str:
    if value not in ("full", "normal"):
        raise ValueError("accepted are full, normal")
    return value


def _cache_mib(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65536:
        raise ValueError("accepted are whole numbers from 1 to 65536")
    return int(value)


def _lock_wait_s(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("accepted are seconds from 0 on")
    return seconds


def _sqlite_store(url: JournalUrl) -> Store:
    options: dict[str, Any] = dict(url.options)
    return SqliteStore(url.path, SqliteOptions(**options))


_SCHEMES = {
    "memory": _Scheme(path=_no_path, options={}, store=lambda url: MemoryStore()),
    "sqlite": _Scheme(
        path=_file_path,
        options={"synchronous": _synchronous, "cache_mib": _cache_mib, "lock_wait_s": _lock_wait_s},
        store=_sqlite_store,
    ),
}


def _redact(url: str) -> str:
    """Anything between `user:` and the last `@` before the path, and the value of a `password` option."""
    scheme, separator, rest = url.partition("://")
    netloc, slash, tail = rest.partition("/")
    user, at, host = netloc.rpartition("@")
    if at and ":" in user:
        netloc = f"{user.partition(':')[0]}:***@{host}"
    head, _, query = tail.partition("?")
    if "password=" in query:
        fields = ("password=***" if pair.startswith("password=") else pair for pair in query.split("&"))
        tail = f"{head}?{'&'.join(fields)}"
    return f"{scheme}{separator}{netloc}{slash}{tail}"
