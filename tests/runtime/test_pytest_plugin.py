"""The fixtures that Holdfast brings to the tests of others: each run is a pytest of its own, as theirs would be."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

BANK = """
from datetime import timedelta

from holdfast.actors import Aggregate, command, event, on, query

@event("account.deposited")
class Deposited:
    amount: int

class Account(Aggregate):
    balance: int = 0

    @command
    def deposit(self, amount: int) -> int:
        self.emit(Deposited(amount))
        self.remind("interest", after=timedelta(days=30), command=Account.pay_interest)
        return self.balance

    @command
    def pay_interest(self) -> None:
        self.emit(Deposited(1))

    @query
    def statement(self) -> int:
        return self.balance

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount
"""

PLAIN = """
from datetime import timedelta

import pytest
from bank import Account
from holdfast.runtime import BlockingRuntime, Config, Runtime, Sharded

def test_a_plain_function_gets_the_blocking_twin(holdfast_runtime):
    assert isinstance(holdfast_runtime, BlockingRuntime)
    assert holdfast_runtime.get(Account, "alice").deposit(5) == 5

def test_each_test_has_a_journal_of_its_own(holdfast_runtime):
    assert holdfast_runtime.head() == 0
    assert "memory" in repr(holdfast_runtime)

def test_the_clock_moves_by_hand(holdfast_runtime, holdfast_clock):
    account = holdfast_runtime.get(Account, "alice")
    account.deposit(5)
    holdfast_runtime.wait(holdfast_clock.advance(timedelta(days=31)))
    assert account.statement() == 6

def test_what_is_written_outlives_the_runtime(holdfast_journal_url):
    for balance in (5, 10):
        with Runtime.local(holdfast_journal_url) as runtime:
            assert runtime.get(Account, "alice").deposit(5) == balance

@pytest.mark.holdfast(placement=Sharded(3), config=Config(timeout_s=7), url="memory://?partitions=2")
class TestMarked:
    def test_the_marker_says_what_it_is_made_with(self, holdfast_runtime, holdfast_config):
        assert (holdfast_runtime.partitions, holdfast_config.timeout_s) == (2, 7)

    @pytest.mark.holdfast(url="memory://")
    def test_the_closest_marker_counts(self, holdfast_runtime, holdfast_config):
        assert (holdfast_runtime.partitions, holdfast_config.timeout_s) == (1, 7)

class TestOverridden:
    @pytest.fixture
    def holdfast_url(self, holdfast_journal_url):
        return holdfast_journal_url

    def test_a_fixture_may_be_overridden(self, holdfast_runtime, tmp_path):
        holdfast_runtime.get(Account, "alice").deposit(5)
        assert (tmp_path / "journal.db").exists()

@pytest.mark.holdfast(speed=9)
def test_refused(holdfast_runtime):
    ...
"""

PERSONAL = """
from typing import Annotated

import pytest
from holdfast.actors import Aggregate, Personal, command, event, on
from holdfast.journal import NoKeyStore

@event("guest.came")
class Came:
    name: Annotated[str, Personal.of_aggregate("guest")]

class Guest(Aggregate):
    name: str = ""

    @command
    def come(self, name: str) -> None:
        self.emit(Came(name))

    @on(Came)
    def _came(self, event: Came) -> None:
        self.name = event.name

def test_a_person_is_forgotten(holdfast_runtime):
    holdfast_runtime.get(Guest, "ann").come("Ann")
    assert holdfast_runtime.state_at(Guest, "ann").name == "Ann"
    holdfast_runtime.forget("guest", "ann")
    assert holdfast_runtime.state_at(Guest, "ann").name == ""

@pytest.mark.holdfast(keys=None)
def test_without_a_key_store(holdfast_runtime):
    with pytest.raises(NoKeyStore):
        holdfast_runtime.get(Guest, "ann").come("Ann")

class TestInFiles:
    @pytest.fixture
    def holdfast_url(self, holdfast_journal_url):
        return holdfast_journal_url

    def test_keys_outlive_the_runtime_as_the_journal_does(self, holdfast_opening, holdfast_keys, holdfast_url):
        from holdfast.runtime import Runtime
        with holdfast_opening as runtime:
            runtime.get(Guest, "ann").come("Ann")
        with Runtime.local(holdfast_url, keys=holdfast_keys) as runtime:
            assert runtime.state_at(Guest, "ann").name == "Ann"
"""

ASYNC = """
from datetime import timedelta

import pytest
from bank import Account
from holdfast.runtime import Runtime

{backend}

{mark}
async def test_a_deposit(holdfast_runtime):
    assert isinstance(holdfast_runtime, Runtime)
    assert await holdfast_runtime.get(Account, "alice").deposit(5) == 5

{mark}
async def test_the_clock(holdfast_runtime, holdfast_clock):
    account = holdfast_runtime.get(Account, "alice")
    assert await account.deposit(5) == 5
    await holdfast_clock.advance(timedelta(days=31))
    assert await account.statement() == 6

def test_a_plain_one_beside_them(holdfast_runtime):
    assert holdfast_runtime.get(Account, "alice").deposit(5) == 5
"""

SCOPES = """
import pytest
from bank import Account

@pytest.mark.parametrize("n", [1, 2])
class TestOneLoop:
    @pytest.mark.asyncio(loop_scope="class")
    async def test_in_the_loop_of_the_class(self, holdfast_runtime, n):
        assert await holdfast_runtime.get(Account, "alice").deposit(n) == n

@pytest.mark.asyncio(loop_scope="session")
async def test_in_the_loop_of_the_session(holdfast_runtime):
    assert await holdfast_runtime.get(Account, "alice").deposit(5) == 5
"""

ELSEWHERE = """
import asyncio, inspect, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj(**{n: pyfuncitem.funcargs[n] for n in pyfuncitem._fixtureinfo.argnames}))
        return True
"""


def ran(pytester: pytest.Pytester, *args: str, **files: str) -> pytest.RunResult:
    pytester.makepyfile(bank=BANK, **files)
    # Hypothesis is ours, not theirs, and takes longer to import than all the rest.
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return pytester.runpytest_subprocess(*without, "-W", "error", *args, timeout=60)


def test_the_plugin_gives_plain_tests_a_runtime_a_clock_and_a_file(pytester: pytest.Pytester) -> None:
    """Without any async plugin; options by marker and by overriding a fixture; a wrong option is told by name."""
    result = ran(pytester, "-p", "no:asyncio", "-p", "no:anyio", test_plain=PLAIN)
    result.assert_outcomes(passed=7, errors=1)
    result.stdout.fnmatch_lines(["*takes url, keys, placement, config, clock, not speed*"])


def test_the_plugin_keeps_personal_data_under_keys_of_the_test(pytester: pytest.Pytester) -> None:
    """Nothing has to be said for it; in memory or in a file, as the journal is; and none where none is wanted."""
    ran(pytester, "-p", "no:asyncio", "-p", "no:anyio", test_personal=PERSONAL).assert_outcomes(passed=3)


ONE_LOOP = ("-o", "asyncio_default_fixture_loop_scope=function")
BACKEND = "@pytest.fixture\ndef anyio_backend(): return 'asyncio'"
RUNNERS = {
    "pytest-asyncio": ("", "@pytest.mark.asyncio", ONE_LOOP),
    "pytest-asyncio, auto": ("", "", (*ONE_LOOP, "-o", "asyncio_mode=auto")),
    "anyio": (BACKEND, "@pytest.mark.anyio", ("-p", "no:asyncio")),
    "anyio, auto": (BACKEND, "", ("-p", "no:asyncio", "-o", "anyio_mode=auto")),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_plugin_opens_runtimes_in_the_loops_of_async_plugins(pytester: pytest.Pytester, runner: str) -> None:
    """The runtime is in the loop that runs the test, whoever runs that."""
    backend, mark, options = RUNNERS[runner]
    ran(pytester, *options, test_async=ASYNC.format(backend=backend, mark=mark)).assert_outcomes(passed=3)


def test_the_plugin_tells_a_test_on_trio_what_it_needs(pytester: pytest.Pytester) -> None:
    """Whoever runs each test on both backends learns why one of them fails."""
    backend = BACKEND.replace("asyncio", "trio")
    body = ASYNC.format(backend=backend, mark="@pytest.mark.anyio")
    result = ran(pytester, "-p", "no:asyncio", "-k", "deposit", test_async=body)
    result.assert_outcomes(errors=1, deselected=2)
    result.stdout.fnmatch_lines(["*needs asyncio; this test runs on trio*"])


def test_the_plugin_follows_the_scope_of_the_loop_of_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """Tests that share a loop have runtimes in it, each one of its own."""
    ran(pytester, *ONE_LOOP, test_scopes=SCOPES).assert_outcomes(passed=3)


def test_the_plugin_says_what_to_do_where_it_does_not_know_the_loop(pytester: pytest.Pytester) -> None:
    """An async test that something else runs opens its runtime itself."""
    body = """
        from bank import Account

        async def test_opened_by_itself(holdfast_opening):
            async with holdfast_opening as runtime:
                assert await runtime.get(Account, "alice").deposit(5) == 5

        async def test_cannot(holdfast_runtime): ...
    """
    result = ran(pytester, "-p", "no:asyncio", "-p", "no:anyio", conftest=ELSEWHERE, test_elsewhere=body)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*async with holdfast_opening as runtime*"])


def test_the_plugin_costs_a_run_that_does_not_use_it_nothing_but_itself() -> None:
    """Neither Ray nor anything else is imported but the module and its two packages."""
    program = (
        "import sys, pytest, holdfast.runtime.pytest_plugin;"
        " print(sorted(n for n in sys.modules if n.split('.')[0] in ('ray', 'holdfast', 'msgspec', 'aiosqlite')))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['holdfast', 'holdfast.runtime', 'holdfast.runtime.pytest_plugin']"


def test_the_plugin_is_found_by_pytest_without_being_named(pytester: pytest.Pytester) -> None:
    """Its marker is listed with what it takes."""
    result = pytester.runpytest_subprocess("--markers", timeout=60)
    result.stdout.fnmatch_lines(["*@pytest.mark.holdfast(url, keys, placement, config, clock)*"])


@pytest.mark.ray
def test_the_plugin_starts_one_ray_for_the_session_and_ends_it(pytester: pytest.Pytester) -> None:
    """The blocking runtime of the session, and runtimes on the same journal in loops of tests."""
    body = """
        import pytest
        from bank import Account

        def test_first(holdfast_ray):
            assert holdfast_ray.get(Account, "alice").deposit(5) == 5

        @pytest.mark.asyncio
        async def test_second(holdfast_ray_opening):
            async with holdfast_ray_opening as runtime:
                assert await runtime.get(Account, "alice").statement() == 5
    """
    ran(pytester, *ONE_LOOP, "-W", "default", test_ray=body).assert_outcomes(passed=2)
