"""What is declared wrongly is refused at the class statement, by type, with the place; what travels by value works."""

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from hf_bank import Account, Deposited
from hf_project import Balances, Shared, Withdrawn
from ray import cloudpickle

from holdfast.actors import event, on
from holdfast.actors.errors import DefinitionError
from holdfast.actors.handlers import apply
from holdfast.runtime import DeadLetter, Projection, Retry, Stop, Table
from holdfast.runtime.kinds import names_of, plans_of
from holdfast.runtime.model_errors import ReadModelUrlError
from holdfast.runtime.projection_definition import projection_of
from holdfast.runtime.projection_follower import projection_plans


def test_a_projection_knows_its_events_tables_and_followers() -> None:
    """All of it from the class alone."""
    found = projection_of(Balances)
    assert set(found.handlers) == {"hf_bank.deposited", "hf_project.withdrawn"}
    assert found.names(3, serving=True) == {"balances": "balances"}
    assert found.names(3, serving=False) == {"balances": "balances__3"}
    assert names_of(Balances) == ("projection/Balances@1",)
    assert names_of(Shared) == tuple(f"projection/Shared@1#{n}" for n in range(3))


def wrong(**how: Any) -> Any:
    """A class statement with these keywords and one handler."""
    body = {"handle": on(Deposited)(lambda self, event: None)}
    return lambda: type(Projection)("Wrong", (Projection,), body, **how)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"versoin": 2}, "unknown class keyword 'versoin'"),
        ({"version": 0}, "version is a whole number from 1"),
        ({"version": True}, "version is a whole number from 1"),
        ({"partitions": 65}, "partitions is a whole number from 1 to 64"),
        ({"on_error": "stop"}, "on_error is Retry"),
        ({"name": "a/b"}, "name is text without /"),
        ({"name": ""}, "name is printable text"),
    ],
)
def test_a_keyword_that_cannot_be_is_refused(options: Any, problem: str) -> None:
    """By its name, with what may stand there."""
    with pytest.raises(DefinitionError, match=problem):
        wrong(**options)()


def test_a_policy_that_cannot_be_is_refused() -> None:
    """Where it is made."""
    for how in ({"times": 0}, {"first_s": 0}, {"first_s": 2, "most_s": 1}, {"then": "skip"}):
        with pytest.raises(ValueError, match="is"):
            Retry(**how)  # type: ignore[arg-type]


def declared(**attributes: Any) -> None:
    type(Projection)("Wrong", (Projection,), attributes)


async def an_async_handler(self: Any, event: Any) -> None: ...


def a_generator(self: Any, event: Any) -> Any:
    yield


def of_none(self: Any) -> None: ...


def of_event(self: Any, event: Any) -> None: ...


def handles(function: Any, *events: Any) -> Any:
    copy = type(function)(function.__code__, function.__globals__, function.__name__)
    return on(*events)(copy)


@event("hf_bank.deposited")
class Namesake:
    amount: int


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"help": of_event}, "has no @on method"),
        ({"go": handles(an_async_handler, Deposited)}, "a plain def"),
        ({"go": handles(a_generator, Deposited)}, "a plain def"),
        ({"go": handles(of_none, Deposited)}, "takes self, the event"),
        ({"go": handles(of_event, Account)}, "Account is none"),
        ({"go": handles(of_event, "deposited")}, "'deposited' is none"),
        ({"go": handles(of_event, Deposited), "again": handles(of_event, Deposited)}, "Deposited is handled by"),
        ({"go": handles(of_event, Deposited), "again": handles(of_event, Namesake)}, "the name of Namesake too"),
        ({"go": handles(of_event, Deposited), "execute": of_event}, "this name is ours"),
        ({"go": on(Deposited, by="amount")(lambda self, event: None)}, "by= finds the instance of a reaction"),
        ({"go": apply(Deposited)(lambda self, event: None)}, "a projection has @on"),
        ({"go": handles(of_event, Deposited), "__init__": of_none}, "keeps nothing but its tables"),
        ({"go": handles(of_event, Deposited), "t": Table}, "a table needs columns"),
        ({"go": handles(of_event, Deposited), "t": Table("")}, "a table needs columns"),
        ({"go": handles(of_event, Deposited), "Balances": Table("n INT")}, "a table is called by"),
        ({"go": handles(of_event, Deposited), "t": Table("n INT", name="holdfast_t")}, "a table is called by"),
        ({"go": handles(of_event, Deposited), "t": Table("n INT", name="t__2")}, "a table is called by"),
        ({"go": handles(of_event, Deposited), "t": Table("n INT", indexes="n")}, "indexes is a list"),
        ({"go": handles(of_event, Deposited), "a": Table("n INT"), "b": Table("n INT", name="a")}, "is called 'a'"),
    ],
)
def test_a_projection_that_cannot_be_is_refused(attributes: Any, problem: str) -> None:
    """While its statement is being executed."""
    with pytest.raises(DefinitionError, match=problem):
        declared(**attributes)


def test_one_table_under_two_names_is_refused() -> None:
    """It would be made twice."""
    table = Table("n INT")
    with pytest.raises(DefinitionError, match="is called 'a' already"):
        declared(go=handles(of_event, Deposited), a=table, b=table)


def test_a_handler_that_is_overridden_without_on_is_told() -> None:
    """It would be handled by nobody, unnoticed."""
    with pytest.raises(DefinitionError, match="overrides an @on method without @on"):

        class Wrong(Balances):
            def deposited(self, event: Any, recorded: Any) -> None: ...


def test_the_place_of_the_mistake_is_told() -> None:
    """File and line."""
    with pytest.raises(DefinitionError) as raised:

        class Wrong(Projection):
            @on(Deposited)
            async def deposited(self, event: Deposited) -> None: ...

    assert raised.value.where.startswith(f"{__file__}:")


def test_what_is_no_projection_is_no_follower() -> None:
    """Told by type; so is a projection without a database."""
    with pytest.raises(TypeError, match="can be started"):
        plans_of(Account, "sqlite:///read.db")
    with pytest.raises(TypeError):
        plans_of(Balances)
    with pytest.raises(TypeError, match="is not constructed"):
        Balances()
    with pytest.raises(DefinitionError, match="no @on method"):
        projection_of(type(Projection)("Nothing", (Projection,), {}))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("memory://", "outlives its process"),
        ("mysql://host/db", "names no kind"),
        ("sqlite:///read.db?partitions=2", "'partitions' is an option of journals"),
        ("postgres://h/d?readers=2", "'readers' is an option of journals"),
        ("postgres://ann:secret@h", "one database"),
    ],
)
def test_a_url_of_no_read_model_is_refused_where_it_is_started(url: str, problem: str) -> None:
    """And shows no password."""
    with pytest.raises(ReadModelUrlError, match=problem) as raised:
        projection_plans(Balances, url)
    assert "secret" not in str(raised.value)


def test_a_plan_shows_no_password_and_its_path_is_found_from_anywhere(tmp_path: Any, monkeypatch: Any) -> None:
    """It travels, and is logged."""
    monkeypatch.chdir(tmp_path)
    (plan,) = projection_plans(Balances, "postgres://ann:secret@h/d")
    assert "secret" not in repr(plan)
    (plan,) = projection_plans(Balances, "sqlite:///read.db")
    make: Any = plan.make
    assert make.url == f"sqlite:///{tmp_path}/read.db"


def test_code_is_another_when_handlers_tables_or_policies_are() -> None:
    """And the same in every process that has the same."""

    def of(add: int, columns: str = "n INT", **how: Any) -> str:
        class Counts(Projection, **how):
            t = Table(columns)

            @on(Deposited)
            def deposited(self, event: Deposited) -> None:
                self.execute(f"INSERT INTO {self.t} VALUES (?)", event.amount + add)

        return projection_of(Counts).code

    assert of(1) == of(1)
    others = [of(1), of(2), of(1, "n BIGINT"), of(1, version=2), of(1, on_error=Stop()), of(1, on_error=DeadLetter())]
    assert len(set(others)) == len(others)


def test_a_projection_defined_in_main_travels_by_value() -> None:
    """Nothing hangs on the class that cannot be pickled, also after its definition was used."""
    program = """
        import sys; from ray import cloudpickle
        from holdfast.actors import event, on
        from holdfast.runtime import Projection, Table, Retry
        from holdfast.runtime.projection_follower import projection_plans
        from holdfast.runtime.testing import given_events

        @event("main.paid")
        class Paid:
            amount: int

        class Sums(Projection, version=3, on_error=Retry(times=2, then="dead letter")):
            sums = Table("id TEXT PRIMARY KEY, amount BIGINT", indexes=["amount"])

            @on(Paid)
            def paid(self, event: Paid, recorded) -> None:
                self.execute(f"INSERT INTO {self.sums} VALUES (?, ?)", recorded.id, event.amount)

        given_events(Sums, ("a", Paid(1)))
        sys.stdout.buffer.write(cloudpickle.dumps((Sums, Paid, projection_plans(Sums, "sqlite:///x.db"))))
    """
    made = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=True)
    other = """
        import sys; from ray import cloudpickle
        from holdfast.runtime.projection_definition import projection_of
        from holdfast.runtime.testing import given_events
        Sums, Paid, plans = cloudpickle.loads(sys.stdin.buffer.read())
        assert given_events(Sums, ("b", Paid(5))).rows("SELECT * FROM sums") == [("b", 5)]
        assert plans[0].make()._definition.version == 3
        print(projection_of(Sums).code == plans[0].code.split()[0])
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(other)], input=made.stdout, capture_output=True)
    assert (found.stdout.strip(), found.stderr) == (b"True", b"")


def test_a_definition_is_not_pickled_with_its_class() -> None:
    """Its codecs cannot travel; the class can."""
    with pytest.raises(TypeError, match="send the class"):
        cloudpickle.dumps(projection_of(Balances))
    assert set(projection_of(cloudpickle.loads(cloudpickle.dumps(Balances))).handlers) == {
        "hf_bank.deposited",
        "hf_project.withdrawn",
    }
    assert Withdrawn(1).amount == 1
