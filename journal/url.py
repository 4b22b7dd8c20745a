"""Which journal a URL names.

    memory://                                       lives and dies with the process
    sqlite:///orders.db                             a file, relative to the working folder
    sqlite:////var/lib/orders.db?cache_mib=256      a file, by its absolute path
    postgres://ann@db.example/shop?schema=orders    tables in a schema of a PostgreSQL database
    postgres:///shop?host=/run/postgresql           the same, through a Unix socket
    sqlite:///orders.db?partitions=4                any of them in partitions: see partition.py

A file has three slashes and then the path: a path that starts with a slash makes it four. What a part cannot hold
as itself (`?`, `#`, `%`, `@`, a space) is percent-encoded. A URL is checked whole before anything is opened.

A password may stand in a URL, `postgres://ann:secret@…`, and is better left to where the driver looks for it:
PGPASSWORD, or ~/.pgpass. In a URL it travels to wherever the journal lives, but into no message, log or `repr`.
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from .errors import JournalUrlError
from .memory import MemoryStore
from .partition import PARTITIONS_MAX, Partition
from .postgres import PostgresStore
from .postgres_session import PostgresAddress, PostgresOptions
from .sqlite import SqliteStore
from .sqlite_file import SqliteOptions
from .store import Store

__all__ = ["JournalUrl", "open_store"]

_ACCEPTED = "memory://, sqlite:///relative.db, sqlite:////absolute.db, postgres://user@host/database"

_POSTGRES_PORT = 5432
_NAME_MAX = 63
"""Characters of a name in PostgreSQL."""


def open_store(url: str, partition: int = 0) -> Store:
    """Construct the store that a URL names, of one partition; `await store.open()` opens it. The first one creates the
    others. Raises `JournalUrlError`."""
    return JournalUrl.parse(url).store(partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalUrl:
    """A journal's URL, taken apart, decoded and checked. `path`: of the file, or the name of the database.

    Two URLs of one journal are equal, however its scheme is spelled and its port told. As text it shows no password;
    `absolute` does, for the process that is to open it.
    """

    scheme: str
    path: str = ""
    options: dict[str, str | int | float] = field(default_factory=dict[str, str | int | float])
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart. Raises `JournalUrlError`, which says what is accepted and shows no password."""
        try:
            _check_secret(url)
            parts = _split(url)
            name = _OTHER_NAMES.get(parts.scheme, parts.scheme)
            scheme = _SCHEMES.get(name)
            if scheme is None or url.partition("://")[0].lower() != parts.scheme:
                raise ValueError(f"names no kind of journal; accepted are {_ACCEPTED}")
            named = scheme.named(parts)
            options = _options(parts.query, scheme.options)
            if options.get("partitions") == 1:  # as if nothing had been said: two URLs of one journal are equal
                del options["partitions"]
            scheme.check(named, options)
            return cls(scheme=name, options=options, **named)
        except ValueError as error:
            raise JournalUrlError(_redact(url), str(error)) from None

    @property
    def partitions(self) -> int:
        """How many the journal has."""
        return int(self.options.get("partitions", 1))

    def store(self, partition: int = 0) -> Store:
        """The store of one partition, not opened."""
        return _SCHEMES[self.scheme].store(self, Partition(partition, self.partitions))

    @property
    def is_local_file(self) -> bool:
        """Whether the journal is a file of the machine that named it: only a process there can open it. Any other
        is opened from wherever its server can be reached."""
        return self.scheme == "sqlite"

    def absolute(self) -> str:
        """The same journal, named so that a process with another working folder, or elsewhere, finds it. Whole: the
        password is in it."""
        return self._written(os.path.abspath(self.path) if self.is_local_file else self.path, self.password)

    @property
    def redacted(self) -> str:
        """For logs and error messages: no password in it."""
        return self._written(self.path, None if self.password is None else "***")

    def __str__(self) -> str:
        return self.redacted

    def _written(self, path: str, password: str | None) -> str:
        query = f"?{urlencode(self.options, safe='/')}" if self.options else ""
        return f"{self.scheme}://{self._authority(password)}{'/' if path else ''}{quote(path)}{query}"

    def _authority(self, password: str | None) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            host = f"{host}:{self.port}"
        if self.user is None:
            return host
        secret = "" if password is None else f":{quote(password, safe='*')}"
        return f"{quote(self.user, safe='')}{secret}@{host}"


class _Named(TypedDict, total=False):
    """What stands before the options of a URL, decoded."""

    path: str
    user: str | None
    password: str | None
    host: str
    port: int | None


def _unchecked(named: _Named, options: dict[str, str | int | float]) -> None:
    """There is nothing that these two must agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    """One kind of journal: what its URL may hold, and the store that it names."""

    named: Callable[[SplitResult], _Named]
    options: dict[str, Callable[[str], str | int | float]]
    store: Callable[[JournalUrl, Partition], Store]
    check: Callable[[_Named, dict[str, str | int | float]], None] = _unchecked


def _check_secret(url: str) -> None:
    """There is one @, after user and password, and no other: else a part of a password would be taken for something
    else, and shown."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _WITHOUT_HOST and rest.startswith("/"):
        return
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if rest.count("@") != authority.count("@") or authority.count("@") > 1:
        raise ValueError("an @, a / or a ? in a user or a password is percent-encoded: %40, %2F, %3F")
    if re.search(r"[\[\]]", authority.rpartition("@")[0]):
        raise ValueError("a [ or ] in a user or a password is percent-encoded: %5B, %5D")
    if not authority.isascii():
        raise ValueError("what is not ASCII before the path is percent-encoded")


def _split(url: str) -> SplitResult:
    """Its own words of what is wrong quote what may be a secret."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("is no URL: look at the brackets around the host") from None


def _nothing(parts: SplitResult) -> _Named:
    if parts.netloc or parts.path or parts.fragment:
        raise ValueError("memory:// takes nothing after the slashes")
    return {}


def _file(parts: SplitResult) -> _Named:
    if parts.netloc:
        raise ValueError("a file has no host; write three slashes: sqlite:///relative.db, sqlite:////absolute.db")
    if parts.fragment:
        raise ValueError("a # in a path is written %23")
    path = _decoded(parts.path.removeprefix("/"))
    if not path:
        raise ValueError("the path is missing: sqlite:///relative.db, sqlite:////absolute.db")
    return {"path": path}


def _database(parts: SplitResult) -> _Named:
    database = _decoded(parts.path.removeprefix("/"))
    if parts.fragment or not database or "/" in database:
        raise ValueError("one database is named after the host: postgres://user@host/database")
    user, at, host = parts.netloc.rpartition("@")
    user, colon, password = user.partition(":")
    host, port = _host_and_port(host)
    if at and not user:
        raise ValueError("the user is missing before the password, or the @")
    return {
        "path": database,
        "user": _decoded(user) if at else None,
        "password": _decoded(password) if colon else None,
        "host": host,
        "port": port,
    }


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*))(?::(\d{1,5}))?", text)
    if match is None or (match[3] and not 0 < int(match[3]) < 65536):
        raise ValueError(
            "after the @ stand a host and, if need be, a colon and a port: postgres://user@host:5432/database"
        )
    port = int(match[3] or _POSTGRES_PORT)
    return match[1] or match[2], None if port == _POSTGRES_PORT else port


def _decoded(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what is percent-encoded is no utf-8") from None
    if "\0" in decoded:
        raise ValueError("a URL names nothing with a NUL in it")
    return decoded


def _one_host_and_short_names(named: _Named, options: dict[str, str | int | float]) -> None:
    last = Partition(int(options.get("partitions", 1)) - 1).suffix
    if last and len(f"{options.get('schema', '')}_{last}") > _NAME_MAX:
        raise ValueError(f"the schema is too long to have _{last} added to it: {_NAME_MAX} characters at most")
    if bool(named.get("host")) == ("host" in options):
        raise ValueError(
            "the host stands before the database, or the folder of a Unix socket in the option host:"
            " postgres://user@host/database, postgres:///database?host=/run/postgresql"
        )


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


def _partitions(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= PARTITIONS_MAX:
        raise ValueError(f"accepted are whole numbers from 1 to {PARTITIONS_MAX}")
    return int(value)


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


def _schema(value: str) -> str:
    if not re.fullmatch("[a-z_][a-z0-9_]*", value) or len(value) > _NAME_MAX or value.startswith("pg_"):
        raise ValueError("accepted are up to 63 of a-z, 0-9 and _, not starting with a digit or pg_")
    return value


def _socket_folder(value: str) -> str:
    if not value.startswith("/") or "\0" in value or "," in value:
        raise ValueError("accepted is the absolute path of the folder where the server's Unix socket is")
    return value


def _readers(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 64:
        raise ValueError("accepted are whole numbers from 1 to 64")
    return int(value)


def _answer_wait_s(value: str) -> float:
    seconds = _lock_wait_s(value)
    if not seconds:
        raise ValueError("accepted are seconds above 0")
    return seconds


def _sslmode(value: str) -> str:
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    if value not in modes:
        raise ValueError(f"accepted are {', '.join(modes)}")
    return value


def _sqlite_store(url: JournalUrl, partition: Partition) -> Store:
    options: dict[str, Any] = {name: value for name, value in url.options.items() if name != "partitions"}
    return SqliteStore(url.path, SqliteOptions(**options), partition=partition)


def _postgres_store(url: JournalUrl, partition: Partition) -> Store:
    options: dict[str, Any] = {name: value for name, value in url.options.items() if name != "partitions"}
    host = options.pop("host", url.host)
    port = url.port or _POSTGRES_PORT
    address = PostgresAddress(host=host, port=port, user=url.user, password=url.password, database=url.path)
    return PostgresStore(address, PostgresOptions(**options), name=url.redacted, partition=partition)


_SCHEMES = {
    "memory": _Scheme(named=_nothing, options={"partitions": _partitions}, store=lambda url, partition: MemoryStore()),
    "sqlite": _Scheme(
        named=_file,
        options={
            "synchronous": _synchronous,
            "cache_mib": _cache_mib,
            "lock_wait_s": _lock_wait_s,
            "partitions": _partitions,
        },
        store=_sqlite_store,
    ),
    "postgres": _Scheme(
        named=_database,
        options={
            "schema": _schema,
            "synchronous": _synchronous,
            "lock_wait_s": _lock_wait_s,
            "answer_wait_s": _answer_wait_s,
            "readers": _readers,
            "sslmode": _sslmode,
            "host": _socket_folder,
            "partitions": _partitions,
        },
        store=_postgres_store,
        check=_one_host_and_short_names,
    ),
}

_OTHER_NAMES = {"postgresql": "postgres"}

_WITHOUT_HOST = ("memory", "sqlite")


def _redact(url: str) -> str:
    """What may be shown of a URL that may be wrong in any way: nothing that could be a part of a password."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in _WITHOUT_HOST and rest.startswith("/"):
        return url
    if not separator and "@" in url:
        return f"***@{url.rpartition('@')[2]}"
    before, at, after = rest.rpartition("@")
    if at:
        rest = f"{before.partition(':')[0]}:***@{after}" if ":" in before else rest
    else:  # the host may have been forgotten, and the password stands where the port would
        rest = re.sub(r"^([^/?#\[\]:]+):(?!\d{1,5}(?:[/?#]|$))[^/?#]*", r"\1:***", rest)
    return re.sub(r"(?i)((?:^|[?&])[^=&?]*pass[^=&]*=)[^&]*", r"\1***", f"{scheme}{separator}{rest}")
