"""Read models: the same behaviour of SQLite and PostgreSQL, as far as handlers can see."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from holdfast.journal.sqlite_file import APPLICATION_ID
from holdfast.runtime import model_postgres
from holdfast.runtime.model import Model
from holdfast.runtime.model_errors import ReadModelConflict, ReadModelUnavailable, StatementRefused
from holdfast.runtime.model_postgres import numbered
from holdfast.runtime.model_url import ModelUrl


@pytest.fixture
def model(model_url: str) -> Iterator[Model]:
    opened = ModelUrl.parse(model_url).open()
    opened.begin()
    opened.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, word TEXT NOT NULL)", ())
    opened.commit()
    yield opened
    opened.close()


def put(model: Model, id: Any, word: Any = "x") -> None:
    model.execute("INSERT INTO t VALUES (?, ?)", (id, word))


def words(model: Model) -> list[Any]:
    return model.fetch("SELECT id, word FROM t ORDER BY id", ())


def test_statements_run_in_the_order_in_which_they_were_given(model: Model) -> None:
    """Gathered or not: each sees those before it."""
    model.begin()
    for n in range(5):
        put(model, n)
    model.execute("DELETE FROM t WHERE id < ?", (2,))
    put(model, 0, "again")
    assert words(model) == [(0, "again"), (2, "x"), (3, "x"), (4, "x")]
    put(model, 1, "one")
    model.commit()
    model.begin()
    assert [id for id, _ in words(model)] == [0, 1, 2, 3, 4]
    model.rollback()


def test_a_rollback_undoes_all_of_it_also_what_was_gathered(model: Model) -> None:
    """And the next transaction is a new one."""
    model.begin()
    put(model, 1)
    model.fetch("SELECT 1", ())
    put(model, 2)
    model.rollback()
    model.begin()
    put(model, 3)
    model.commit()
    model.begin()
    assert words(model) == [(3, "x")]
    model.rollback()


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("INSERT INTO t VALUES (?, ?)", (1, None)),
        ("INSERT INTO t VALUES (?)", (1,)),
        ("INSERT INTO t VALUES (?, ?)", (1,)),
        ("INSERT INTO nowhere VALUES (?, ?)", (1, "x")),
        ("INSRT INTO t", ()),
        ("INSERT INTO t VALUES (?, ?)", (2**70, "x")),
        ("INSERT INTO t VALUES (?, ?)", (1, object())),
        ("COMMIT", ()),
        ("  rollback", ()),
        ("BEGIN", ()),
        ("PRAGMA synchronous = OFF", ()),
        ("SET synchronous_commit = off", ()),
    ],
)
def test_a_refused_statement_spoils_its_transaction(model: Model, sql: str, values: Any) -> None:
    """Whether or not somebody caught the error: it can only be undone."""
    model.begin()
    put(model, 5)
    with pytest.raises(StatementRefused):  # noqa: PT012  where statements are gathered, the next one tells
        model.execute(sql, values)
        model.fetch("SELECT 1", ())
    with pytest.raises(StatementRefused):
        model.commit()
    model.rollback()
    model.begin()
    assert words(model) == []
    model.rollback()


def test_a_gathered_statement_that_is_refused_is_told_before_the_commit(model: Model) -> None:
    """Nothing of the transaction remains."""
    model.begin()
    put(model, 1)
    with pytest.raises(StatementRefused, match=r"(?i)unique"):  # noqa: PT012
        put(model, 1)
        model.commit()
    model.rollback()
    model.begin()
    assert words(model) == []
    model.rollback()


@pytest.mark.parametrize(
    "sql", ["COMMIT", " commit", "-- done\nCOMMIT", "/* done\n */ COMMIT", ";COMMIT", "--\n/**/ROLLBACK", "end"]
)
def test_a_handler_cannot_end_the_transaction_that_it_shares_with_its_checkpoint(model: Model, sql: str) -> None:
    """Whatever stands before the word. Half a page would be committed, with the checkpoint of all of it."""
    model.begin()
    put(model, 1)
    with pytest.raises(StatementRefused, match="its transaction is ours"):
        model.execute(sql, ())
    model.rollback()
    model.begin()
    assert words(model) == []
    model.rollback()


def test_a_transaction_is_kept_alive_while_handlers_are_busy(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server ends one in which nothing happens: a page that takes longer than that would never be done. What was
    gathered goes there meanwhile; often enough, and not at every event."""
    model.begin()
    put(model, 1)
    model.keep_alive()
    if model.must_not_be_silent:
        assert model._gathered == [(1, "x")]
        monkeypatch.setattr(model_postgres, "SILENT_MOST_S", -1.0)
        model.keep_alive()
        assert model._gathered == []
    model.commit()
    model.begin()
    assert words(model) == [(1, "x")]
    model.rollback()


def test_a_statement_that_was_prepared_for_another_shape_of_its_table_is_no_fault(model: Model, model_url: str) -> None:
    """Somebody has added a column: what was under way is done again."""
    other = ModelUrl.parse(model_url).open()
    model.begin()
    put(model, 1)
    model.commit()

    def look() -> list[Any]:
        model.begin()
        try:
            return model.fetch("SELECT * FROM t", ())
        finally:
            model.rollback()

    assert look() == [(1, "x")]
    other.begin()
    other.execute("ALTER TABLE t ADD COLUMN more BIGINT", ())
    other.commit()
    try:
        found = look()
    except ReadModelUnavailable:
        found = look()
    assert found == [(1, "x", None)]
    other.close()


def test_a_lost_connection_is_no_fault_of_a_statement(model_url: str) -> None:
    """It is told as what may be tried again, and the model says that it is of no use any more."""
    model = ModelUrl.parse(model_url).open()
    model.begin()
    model.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, word TEXT)", ())
    model.commit()
    if model_url.startswith("sqlite"):
        model.close()
        assert model.closed
        return
    killer = ModelUrl.parse(model_url).open()
    model.begin()
    (pid,) = model.fetch("SELECT pg_backend_pid()", ())[0]
    killer.begin()
    killer.fetch("SELECT pg_terminate_backend(?, 10000)", (pid,))
    killer.rollback()
    with pytest.raises(ReadModelUnavailable):  # noqa: PT012
        put(model, 1)
        model.commit()
    model.rollback()
    assert model.closed
    model.close()
    killer.close()


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Any) -> None:
    """Not a failure of any event."""
    for url in (f"sqlite:///{tmp_path}/no/such/folder/read.db", "postgres://ann@127.0.0.1:1/d"):
        with pytest.raises(ReadModelUnavailable):
            ModelUrl.parse(url).open()


def test_a_locked_file_is_unavailable(tmp_path: Any) -> None:
    """Whoever holds it lets it go some time; nothing was written."""
    url = f"sqlite:///{tmp_path}/read.db?lock_wait_s=0"
    one, two = ModelUrl.parse(url).open(), ModelUrl.parse(url).open()
    one.begin()
    with pytest.raises(ReadModelUnavailable, match="locked"):
        two.begin()
    one.rollback()
    two.begin()
    two.rollback()
    one.close()
    two.close()


def test_a_journal_is_no_read_model(tmp_path: Any) -> None:
    """Its file is left as it is."""
    url = f"sqlite:///{tmp_path}/bank.db"
    model = ModelUrl.parse(url).open()
    model._cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # type: ignore[attr-defined]
    model.close()
    with pytest.raises(ReadModelConflict, match="that file is a journal"):
        ModelUrl.parse(url).open()


def test_values_that_sqlite_has_no_type_for_are_stored_as_text(tmp_path: Any) -> None:
    """As PostgreSQL would write them, without the help that the standard library withdraws."""
    model = ModelUrl.parse(f"sqlite:///{tmp_path}/read.db").open()
    model.begin()
    values = (Decimal("1.50"), UUID(int=7), date(2024, 1, 2), datetime(2024, 1, 2, 3, tzinfo=UTC), True)
    found = model.fetch("SELECT ?, ?, ?, ?, ?", values)
    texts = ("1.50", "00000000-0000-0000-0000-000000000007", "2024-01-02", "2024-01-02T03:00:00+00:00", 1)
    assert found == [texts]
    model.rollback()
    model.close()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT ?, ?", "SELECT $1, $2"),
        ("SELECT '?', ?", "SELECT '?', $1"),
        ("SELECT 'it''s ?', ?", "SELECT 'it''s ?', $1"),
        ("SELECT E'it\\'s ?', ?", "SELECT E'it\\'s ?', $1"),
        ('SELECT "a?", ?', 'SELECT "a?", $1'),
        ("SELECT ? -- or ?\n, ?", "SELECT $1 -- or ?\n, $2"),
        ("SELECT /* ? \n ? */ ?", "SELECT /* ? \n ? */ $1"),
        ("SELECT $$ ? $$, ?", "SELECT $$ ? $$, $1"),
        ("SELECT $a$ ? $$ ? $a$, ?", "SELECT $a$ ? $$ ? $a$, $1"),
        ("SELECT ?::text - ?", "SELECT $1::text - $2"),
    ],
)
def test_question_marks_are_numbered_where_they_stand_for_values(sql: str, said: str) -> None:
    """And nowhere else: not in texts, quoted names, comments."""
    assert numbered(sql) == said


def test_question_marks_mean_the_same_in_both(model: Model) -> None:
    """Also beside texts that hold some."""
    model.begin()
    put(model, 1, "what?")
    query = "SELECT word, '?' AS \"a?\" FROM t WHERE word = ? AND id = ? AND word <> '?' -- ?"
    assert model.fetch(query, ("what?", 1)) == [("what?", "?")]
    model.rollback()


def test_statements_keep_their_order_however_they_are_gathered(model: Model) -> None:
    """The same one over and over, another between them, one that gives rows back, and one that a query interrupts."""
    model.begin()
    for id in (1, 2, 3):
        put(model, id)
    model.execute("UPDATE t SET word = word || ?", ("y",))
    put(model, 4)
    model.execute("INSERT INTO t VALUES (?, ?) RETURNING id", (5, "z"))
    model.execute("INSERT INTO t VALUES (?, ?) RETURNING id", (6, "z"))
    assert words(model) == [(1, "xy"), (2, "xy"), (3, "xy"), (4, "x"), (5, "z"), (6, "z")]
    model.execute("DELETE FROM t WHERE id = ?", (1,))
    model.execute("DELETE FROM t WHERE id = ?", (2,))
    model.commit()
    model.begin()
    assert [id for id, _ in words(model)] == [3, 4, 5, 6]
    model.rollback()


def test_where_nothing_waits_a_statement_is_refused_where_it_was_given(model: Model) -> None:
    """That is how the event whose statement it was is found."""
    model.at_once = True
    model.begin()
    put(model, 1)
    with pytest.raises(StatementRefused, match=r"(?i)unique"):
        put(model, 1)
    model.rollback()
