"""A runtime over PostgreSQL, from the caller to the server's disk."""

import asyncio

import postgres_server
import pytest

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.journal.errors import JournalLocked
from holdfast.runtime import Runtime


@event("pg_account.deposited")
class Deposited:
    amount: int


class PgAccount(Aggregate):
    balance: int = 0

    @command
    def deposit(self, amount: int) -> int:
        if amount <= 0:
            raise Rejected("amount must be positive")
        self.emit(Deposited(amount))
        return self.balance

    @query
    def statement(self) -> int:
        return self.balance

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount


@pytest.fixture
def url():
    return postgres_server.server().url()


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_program_runs_end_to_end_and_its_state_is_there_again(url, partitions):
    """Commands, a rejection, many aggregates at once; then another runtime on the same journal. In partitions too."""
    url = f"{url}&partitions={partitions}"
    async with Runtime.local(url) as runtime:
        alice = runtime.get(PgAccount, "alice")
        assert [await alice.deposit(amount) for amount in (100, 20)] == [100, 120]
        with pytest.raises(Rejected):
            await alice.deposit(0)
        others = [runtime.get(PgAccount, f"a{number}") for number in range(50)]
        assert await asyncio.gather(*(other.deposit(7) for other in others for _ in range(3)))
        assert postgres_server.PASSWORD not in repr(runtime)
    async with Runtime.local(url.replace("postgres://", "postgresql://")) as runtime:
        assert await runtime.get(PgAccount, "alice").statement() == 120
        assert await asyncio.gather(*(runtime.get(PgAccount, f"a{n}").statement() for n in range(50))) == [21] * 50


async def test_an_aggregate_lives_on_when_the_sessions_of_its_journal_are_ended(url):
    """The caller of a command hears its answer, once; nothing is written twice."""
    journal = postgres_server.Journal(postgres_server.server(), url.partition("schema=")[2].partition("&")[0])
    async with Runtime.local(url) as runtime:
        account = runtime.get(PgAccount, "alice")
        for number in range(1, 6):
            await journal.end_session("writer")
            assert await account.deposit(1) == number
    async with journal.raw() as raw:
        assert await raw.fetchval("SELECT count(*) FROM events") == 5


async def test_a_second_runtime_on_the_same_journal_is_told_who_has_it(url):
    """As with a file."""
    async with Runtime.local(url):
        with pytest.raises(JournalLocked, match="already open for writing by pid"):
            await Runtime.local(url)
