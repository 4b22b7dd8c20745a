"""One session with a PostgreSQL server: the only file that touches asyncpg.

What can go wrong is told in two ways that never blur. `StatementFailed`: the server answered that it undid the
statement. `SessionLost`: no answer came, or none that says so; what was under way is unknown. A statement outside a
transaction is a transaction of its own, and its answer is awaited to the end: it comes after the commit.

A session of ours is set up the same way whatever the server's, the database's or the role's defaults are, and it is
refused where an acknowledged event would not be safe:

- `synchronous_commit` is `on`, or `remote_apply` where that is the default; with `?synchronous=normal` it is `off`.
- A server with `fsync=off` is refused always: after a crash of its machine it may hold anything.
- A standby is refused, and so is a PostgreSQL older than 14.

The keepalives are the server's: within a quarter of a minute they end the session of a process whose machine went
away without a word, and with it the lock that keeps its successor out.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from .errors import JournalOpenError, JournalReadOnly

__all__ = ["PostgresAddress", "PostgresOptions", "Row", "Session", "SessionLost", "StatementFailed"]

Row = Sequence[Any]

_OLDEST = 14
_CONNECT_S = 10.0
_CLOSE_S = 2.0

_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "5s",  # a foreign transaction that locks our tables makes us fail, not hang
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
    "work_mem": "16MB",
    # Every query here is served by an index, also where the statistics, or a plan that was made when the tables
    # were small, say otherwise.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}

_LOOK = "SELECT current_setting('server_version_num')::int / 10000, current_setting('fsync'), pg_is_in_recovery()"
_SET_UP = (
    "SELECT set_config('client_connection_check_interval', CASE version() ~ 'linux' WHEN true THEN '10s' ELSE '0' END,"
    " false), set_config('synchronous_commit', CASE WHEN NOT $1 THEN 'off'"
    " WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)

_NO_SUCH_SETTING = "42704"
_UNREACHABLE = ("08", "53", "57")
"""Classes of SQLSTATE with which a server that is there, and may be of use later, turns a connection away."""


class StatementFailed(Exception):
    """The server refused a statement; nothing of it remains. `state`: the SQLSTATE."""

    def __init__(self, state: str, problem: str) -> None:
        super().__init__(state, problem)
        self.state, self.problem = state, problem

    def __str__(self) -> str:
        return f"{self.problem} (SQLSTATE {self.state})"


class SessionLost(Exception):
    """The session ended, or was ended because it did not answer. What became of the statement is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where a database is, and who asks. What is None is left to the environment: PGUSER, PGPASSWORD, ~/.pgpass.

    `host`: a name, a number, or the folder of a Unix socket.
    """

    host: str
    database: str
    port: int = 5432
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """How one journal in a database is driven.

    `schema`: where its tables are; a database holds as many journals as it has schemas. `synchronous`: "full"
    awaits the disk of the server, and the standbys if it awaits any; "normal" survives the loss of our process, but
    the loss of the server can take the commits of its last second with it. `lock_wait_s`: how long `open` waits for
    another writer to leave. `answer_wait_s`: after which a server that does not answer counts as lost. `readers`:
    how many sessions read at once. `sslmode`: as libpq has it; the certificates are found where libpq looks.
    """

    schema: str = "holdfast"
    synchronous: str = "full"
    lock_wait_s: float = 10.0
    answer_wait_s: float = 15.0
    readers: int = 2
    sslmode: str | None = None


class _Connection(Protocol):
    """As much of an asyncpg connection as is used here."""

    fetch: Callable[..., Awaitable[list[Row]]]
    execute: Callable[..., Awaitable[str]]
    close: Callable[..., Awaitable[None]]
    terminate: Callable[[], None]
    is_closed: Callable[[], bool]


class Session:
    """A connection that is set up. Runs one statement at a time."""

    def __init__(self, connection: _Connection, driver: Any, answer_wait_s: float) -> None:
        self._connection, self._driver, self._answer_wait_s = connection, driver, answer_wait_s

    @classmethod
    async def connect(cls, address: PostgresAddress, options: PostgresOptions, path: str, *, writes: bool) -> Self:
        """Open one. Raises `JournalOpenError`s, naming `path`, or `SessionLost` where the server is not to be had."""
        driver = _driver(path)
        settings = {
            **_SETTINGS,
            "application_name": f"holdfast {'writer' if writes else 'reader'} of {options.schema}"[:63],
            "search_path": f'"{options.schema}"',
            "default_transaction_read_only": "off" if writes else "on",
        }
        try:
            connection: _Connection = await driver.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.password,
                database=address.database,
                ssl=options.sslmode,
                timeout=min(_CONNECT_S, options.answer_wait_s),
                server_settings=settings,
                max_cached_statement_lifetime=0,
            )
        except Exception as error:
            raise _refusal(driver, path, error) from error
        session = cls(connection, driver, options.answer_wait_s)
        try:
            await session._set_up(path, durable=options.synchronous == "full", writes=writes)
        except BaseException as error:
            session.terminate()
            if isinstance(error, StatementFailed):
                raise JournalOpenError(path, str(error)) from error
            raise
        return session

    async def _set_up(self, path: str, *, durable: bool, writes: bool) -> None:
        ((version, fsync, standby),) = await self.fetch(_LOOK)
        if version < _OLDEST:
            raise JournalOpenError(path, f"is on PostgreSQL {version}; {_OLDEST} or newer is needed")
        if standby and writes:
            raise JournalReadOnly(path, "the server is a standby")
        if fsync != "on":
            raise JournalOpenError(path, "the server runs with fsync=off: what it stores does not survive a crash")
        await self.fetch(_SET_UP, durable)

    @property
    def closed(self) -> bool:
        """Whether it ended, as far as is known here."""
        return self._connection.is_closed()

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        """Run one statement and return its rows, after it was committed."""
        try:
            return await self._connection.fetch(statement, *values, timeout=self._answer_wait_s)
        except Exception as error:
            raise self._told(error) from error

    async def run(self, script: str) -> str:
        """Run several statements, as one transaction unless they say otherwise. Returns what the last one came to."""
        try:
            return await self._connection.execute(script, timeout=self._answer_wait_s)
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> StatementFailed | SessionLost:
        """Whatever does not plainly say that the statement was undone counts as no answer."""
        state = str(getattr(error, "sqlstate", None) or "")
        if isinstance(error, self._driver.InterfaceError) and isinstance(error, ValueError):
            return StatementFailed("22000", _first_line(error))  # a value that does not fit: nothing was sent
        if isinstance(error, self._driver.PostgresError) and not self.closed:
            severity = getattr(error, "severity_en", None) or getattr(error, "severity", None)
            if severity == "ERROR" and not state.startswith("08"):
                return StatementFailed(state, _first_line(error))
        self.terminate()
        if isinstance(error, TimeoutError):
            return SessionLost(f"no answer within {self._answer_wait_s:g} s")
        return SessionLost(_first_line(error))

    async def close(self) -> None:
        """End it. Not waiting for ever for the server to say goodbye."""
        with contextlib.suppress(Exception):
            await self._connection.close(timeout=_CLOSE_S)

    def terminate(self) -> None:
        """End it without a word."""
        with contextlib.suppress(Exception):
            self._connection.terminate()


def _driver(path: str) -> Any:
    # Here, and not at the top: it is an extra, and costs a tenth of a second that other journals need not pay.
    try:
        import asyncpg  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore
    except ImportError as error:
        raise JournalOpenError(path, "needs the PostgreSQL driver: pip install 'holdfast[postgres]'") from error
    return asyncpg


def _refusal(driver: Any, path: str, error: Exception) -> JournalOpenError | SessionLost:
    """Why there is no connection: for good, or for now."""
    state = str(getattr(error, "sqlstate", None) or "")
    if isinstance(error, asyncio.TimeoutError):
        return SessionLost("no answer while connecting")
    if isinstance(error, OSError) or state.startswith(_UNREACHABLE):
        return SessionLost(_first_line(error))
    if state == _NO_SUCH_SETTING:
        return JournalOpenError(path, f"is on an older PostgreSQL than {_OLDEST}: {_first_line(error)}")
    return JournalOpenError(path, _first_line(error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
