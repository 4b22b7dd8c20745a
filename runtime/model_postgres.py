"""Read models in PostgreSQL: the only file of the runtime that touches asyncpg.

The projection's thread has an event loop of its own, turned for one call at a time, so that handlers can be plain
functions. **Statements are gathered**: as long as a handler, or one event's handler after another's, executes the same
statement, its values wait, and travel together when something else is asked for. They are run in the order in which
they were given; only an error may come later than the call that it belongs to.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from holdfast.journal.postgres_session import PostgresAddress

from .model import Model, Row, check_statement
from .model_errors import ReadModelUnavailable, StatementRefused

__all__ = ["PostgresModel", "numbered"]

T = TypeVar("T")

STATEMENTS_MAX = 500
GATHERED_MAX = 5000
CONNECT_S, CLOSE_S = 10.0, 2.0
SILENT_MOST_S = 5.0
"""Well below `idle_in_transaction_session_timeout`."""
DEPENDENT = "2BP01"
"""The SQLSTATE of a table that others are built on."""

_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "lock_timeout": "5s",
    # A process that was stopped in the middle of a page holds its checkpoint's row: not for longer than this.
    "idle_in_transaction_session_timeout": "20s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
}
_TRANSIENT = ("08", "25006", "25P0", "40", "53", "55P03", "57", "58", "XX")
"""SQLSTATEs, by their beginnings, that are not the statement's fault: away, deadlocked, full, locked, standby."""

_PARTS = re.compile(
    r"""[Ee]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"     # texts and quoted names
    | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)                      # texts between dollars
    | --[^\n]* | /\*.*?\*/                                           # comments
    | (?P<mark>\?)""",
    re.X | re.S,
)


class PostgresModel(Model):
    """A read model in a schema of a database."""

    must_not_be_silent = True

    def __init__(
        self,
        name: str,
        address: PostgresAddress,
        *,
        schema: str = "public",
        synchronous: str = "full",
        answer_wait_s: float = 60.0,
        sslmode: str | None = None,
    ) -> None:
        """`answer_wait_s`: after which a server that does not answer counts as lost. Raises `ReadModelUnavailable`."""
        super().__init__(name)
        self._answer_wait_s = answer_wait_s
        self._statements: dict[str, str] = {}
        self._gathered: list[Sequence[Any]] = []
        self._statement = ""  # of those that are gathered
        self._in_transaction = False
        self._loop = asyncio.new_event_loop()
        self._heard_at = self._loop.time()
        self._driver = _driver(name)
        settings = {
            **_SETTINGS,
            "application_name": "holdfast projection",
            "search_path": f'"{schema}"',
            "synchronous_commit": "on" if synchronous == "full" else "off",
        }
        try:
            self._connection: Any = self._loop.run_until_complete(
                self._driver.connect(
                    host=address.host,
                    port=address.port,
                    user=address.user,
                    password=address.password,
                    database=address.database,
                    ssl=sslmode,
                    timeout=min(CONNECT_S, answer_wait_s),
                    command_timeout=answer_wait_s,
                    server_settings=settings,
                )
            )
            self._wait(self._connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        except Exception as error:
            self._loop.close()
            raise ReadModelUnavailable(name, _first_line(error)) from error

    def begin(self) -> None:
        self._refused, self._in_transaction = None, True
        self._gathered, self._statement = [], ""
        self._ask(self._connection.execute("BEGIN"))

    def commit(self) -> None:
        self._send()
        answer = self._ask(self._connection.execute("COMMIT"))
        self._in_transaction = False
        if answer != "COMMIT":  # the server undoes a transaction that it holds to have failed, and calls that an answer
            raise ReadModelUnavailable(self.name, f"the transaction was undone: {answer}")

    def rollback(self) -> None:
        self._gathered, self._statement = [], ""
        if self._in_transaction and not self.closed:
            self._in_transaction = False
            try:
                self._ask(self._connection.execute("ROLLBACK"))
            except (ReadModelUnavailable, StatementRefused):
                self._connection.terminate()

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        if sql != self._statement or len(self._gathered) >= GATHERED_MAX:
            self._send()
            self._read(sql)
            self._statement = sql
        self._gathered.append(values)
        if self.at_once:
            self._send()

    def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        self._send()
        return [tuple(row) for row in self._ask(self._connection.fetch(self._read(sql), *values))]

    def keep_alive(self) -> None:
        if self._loop.time() - self._heard_at > SILENT_MOST_S:
            self._send()
            self._ask(self._connection.execute("SELECT 1"))

    def lock(self, name: str) -> None:
        self.fetch("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (f"holdfast projection {name}",))

    def hold_tables(self, names: Sequence[str]) -> None:
        self._send()
        if names:
            # Less than the second after which the server would look for deadlocks, and might take it out on a reader.
            held = f"SET LOCAL lock_timeout = '300ms'; LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"
            self._ask(self._connection.execute(held))

    def has_table(self, name: str) -> bool:
        return self.fetch("SELECT to_regclass(?) IS NOT NULL", (f'"{name}"',))[0][0] is True

    @property
    def closed(self) -> bool:
        return self._loop.is_closed() or bool(self._connection.is_closed())

    def close(self) -> None:
        if not self._loop.is_closed():
            with contextlib.suppress(Exception):
                self._wait(self._connection.close(timeout=CLOSE_S))
            self._loop.close()

    def _send(self) -> None:
        """What was gathered, in its order."""
        self.check_unspoilt()
        gathered, self._gathered = self._gathered, []
        sql, self._statement = self._statement, ""
        if len(gathered) == 1:
            self._ask(self._connection.fetch(self._statements[sql], *gathered[0]))
        elif gathered:
            self._ask(self._connection.executemany(self._statements[sql], gathered))

    def _read(self, sql: str) -> str:
        found = self._statements.get(sql)
        if found is None:
            try:
                check_statement(sql)
            except StatementRefused as refused:
                raise self.spoil(refused) from None
            if len(self._statements) >= STATEMENTS_MAX:
                self._statements.clear()
            found = self._statements[sql] = numbered(sql)
        return found

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            return self._wait(question)
        except Exception as error:
            raise self._told(error) from error

    def _wait(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(question)
        finally:
            self._heard_at = self._loop.time()

    def _told(self, error: Exception) -> ReadModelUnavailable | StatementRefused:
        """Whatever does not plainly say that it is the statement's fault is not held against the handler."""
        state = str(getattr(error, "sqlstate", None) or "")
        if isinstance(error, self._driver.InterfaceError) and isinstance(error, ValueError):
            return self.spoil(
                StatementRefused(_first_line(error), "22000")
            )  # a value that does not fit: nothing was sent
        if isinstance(error, self._driver.InvalidCachedStatementError):
            return ReadModelUnavailable(self.name, _first_line(error))  # a table has changed: it is prepared anew
        if (
            isinstance(error, self._driver.PostgresError)
            and state
            and not state.startswith(_TRANSIENT)
            and not self.closed
        ):
            return self.spoil(StatementRefused(_first_line(error), state))
        if isinstance(error, TypeError | ValueError | OverflowError | self._driver.InterfaceError) and not self.closed:
            return self.spoil(StatementRefused(_first_line(error), type(error).__name__))
        if not isinstance(error, self._driver.PostgresError):
            self._connection.terminate()
        return ReadModelUnavailable(self.name, _first_line(error))


def numbered(sql: str) -> str:
    """With `$1, $2 …` for its `?`, those in texts, quoted names and comments left as they are."""
    count = 0

    def number(found: re.Match[str]) -> str:
        nonlocal count
        if found["mark"] is None:
            return found[0]
        count += 1
        return f"${count}"

    return _PARTS.sub(number, sql)


def _driver(name: str) -> Any:
    # Here, and not at the top: it is an extra, and costs a tenth of a second that others need not pay.
    try:
        import asyncpg  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore
    except ImportError as error:
        raise ReadModelUnavailable(name, "needs the PostgreSQL driver: pip install 'holdfast[postgres]'") from error
    return asyncpg


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if getattr(error, "sqlstate", None) == DEPENDENT:  # which ones it says in the next
        lines = [": ".join((*lines[:1], *str(getattr(error, "detail", None) or "").splitlines()[:1]))]
    return lines[0] if lines else type(error).__name__
