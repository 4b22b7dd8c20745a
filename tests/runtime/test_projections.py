"""Projections: each event counts once, whatever fails; stale owners write nothing; policies are followed."""

import asyncio
import random
import threading
from typing import Any

import pytest
from hf_bank import Deposited
from hf_project import (
    Balances,
    Ledger,
    Mended,
    Noise,
    Patient,
    Picky,
    Shared,
    Strict,
    Withdrawn,
    balances,
    change,
    faulty,
    following,
    rows,
    unavailable,
)

from holdfast.actors import event, on
from holdfast.journal.errors import Fenced
from holdfast.runtime import FollowerStopped, Projection, Retry, Table
from holdfast.runtime.follower import FollowerPhase
from holdfast.runtime.model_errors import ForeignReadModel, ReadModelAhead, ReadModelConflict, ReplayFailed

# -- once ------------------------------------------------------------------------------------------------------------


async def test_a_projection_is_the_fold_of_the_events(model_url: str) -> None:
    """What was there, and what comes; of the events it handles, in order."""
    ledger = Ledger()
    await ledger.write("a", Deposited(5), Noise(), Withdrawn(2))
    async with following(ledger, Balances, model_url, page=2) as run:
        await run.reach()
        assert await balances(model_url) == [("a", 3, 2)]
        await ledger.write("b", Deposited(7), Noise())
        await run.reach()
        assert await balances(model_url) == ledger.balances() == [("a", 3, 2), ("b", 7, 1)]
        assert (run.progress.events, run.progress.phase, run.failures) == (3, FollowerPhase.LIVE, [])


async def test_a_projection_goes_on_from_its_checkpoint(model_url: str) -> None:
    """Another life of it does what is new, and nothing again."""
    ledger = Ledger()
    for _ in range(3):
        await ledger.write("a", Deposited(1), Deposited(1))
        async with following(ledger, Balances, model_url) as run:
            await run.reach()
        assert await balances(model_url) == ledger.balances()
    assert await rows(model_url, "SELECT position FROM holdfast_projections") == [(6,)]


@pytest.mark.parametrize("step", ["begin", "fetch", "execute", "commit", "committed"])
async def test_a_failure_at_any_step_of_a_page_counts_no_event_twice_and_none_out(model_url: str, step: str) -> None:
    """Before the commit nothing was written; after it, unheard, everything. Each step of this kind fails, once."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(7)))
    total = 0
    for nth in range(1, 60):
        left = nth
        fired = False

        def fault(at: str) -> None:
            nonlocal left, fired
            if at == step:
                left -= 1
                if left == 0:
                    fired = True
                    raise unavailable(at)

        async with following(ledger, Balances, model_url, page=3, connect=faulty(model_url, fault)) as run:
            await ledger.write("b", Deposited(1), Withdrawn(3))
            await run.reach()
        assert await balances(model_url) == ledger.balances(), nth
        total += fired
        if not fired:
            break
    assert total >= 3


async def test_random_events_and_failures_come_to_the_fold(model_url: str) -> None:
    """Any page size, any failures, any number of lives."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ledger = Ledger()

    def fault(step: str) -> None:
        if chance.random() < 0.03:
            raise unavailable(step)

    for _ in range(6):
        async with following(
            ledger, Balances, model_url, page=chance.randint(1, 9), connect=faulty(model_url, fault)
        ) as run:
            for _ in range(chance.randint(1, 8)):
                kinds = [Deposited(chance.randint(0, 9)), Withdrawn(chance.randint(0, 9)), Noise()]
                await ledger.write(chance.choice("abcd"), *chance.choices(kinds, k=chance.randint(1, 6)))
                if chance.random() < 0.5:
                    await run.reach()
    async with following(ledger, Balances, model_url) as run:
        await run.reach()
    assert await balances(model_url) == ledger.balances()


async def test_events_that_are_none_of_its_business_cost_a_projection_no_transaction(model_url: str) -> None:
    """It is past them all the same, and reads at most so many again."""
    ledger = Ledger()
    begun = 0

    def count(step: str) -> None:
        nonlocal begun
        begun += step == "begin"

    await ledger.write("a", Deposited(1))
    async with following(ledger, Balances, model_url, connect=faulty(model_url, count)) as run:
        await run.reach()
        before = begun
        for _ in range(5):
            await ledger.write("a", Noise())
            await run.reach()
        assert begun == before
        assert await rows(model_url, "SELECT position FROM holdfast_projections") == [(1,)]


async def test_a_page_of_events_is_one_transaction(model_url: str) -> None:
    """A thousand events, and the disk is asked once."""
    ledger = Ledger()
    commits = 0

    def count(step: str) -> None:
        nonlocal commits
        commits += step == "commit"

    await ledger.write("a", *(Deposited(1) for _ in range(1000)))
    async with following(ledger, Balances, model_url, connect=faulty(model_url, count)) as run:
        await run.reach()
    assert commits <= 4  # the books, the seat, the claim, the page
    assert await balances(model_url) == [("a", 1000, 1000)]


# -- one owner -------------------------------------------------------------------------------------------------------


async def test_a_transaction_of_many_events_is_kept_alive_between_them(model_url: str) -> None:
    """Where statements are gathered, a server may hear nothing for as long as handlers think."""
    steps: list[str] = []
    ledger = Ledger()
    await ledger.write("a", *(Deposited(1) for _ in range(20)))
    async with following(ledger, Balances, model_url, connect=faulty(model_url, steps.append)) as run:
        await run.reach()
    assert steps.count("keep alive") == (20 if model_url.startswith("postgres") else 0)


async def test_a_stale_owner_of_a_projection_is_fenced_and_writes_nothing(model_url: str) -> None:
    """The newest claim wins, as with aggregates: what the older one had under way is undone."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        async with following(ledger, Balances, model_url) as new:
            await new.reach()
            assert new.epoch > old.epoch
            await ledger.write("a", Deposited(1))
            with pytest.raises(Fenced):
                await old.task
            await new.reach()
    assert await balances(model_url) == ledger.balances()


async def test_a_stale_owner_in_the_middle_of_its_page_holds_its_successor_up_and_both_count_once(
    model_url: str,
) -> None:
    """The checkpoint's row is locked first: whoever claims waits for the page, and goes on after it."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1))
    stands, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    commits = 0

    def fault(step: str) -> None:
        nonlocal commits
        commits += step == "commit"
        if step == "commit" and commits == 4:  # the books, the seat, the claim, and now the page
            loop.call_soon_threadsafe(stands.set)
            assert go.wait(30)

    async with following(ledger, Balances, model_url, connect=faulty(model_url, fault)) as old:
        await stands.wait()
        async with following(ledger, Balances, model_url) as new:
            await ledger.write("a", Deposited(1))
            go.set()
            await new.reach()
            assert await balances(model_url) == ledger.balances()
            await ledger.write("a", Deposited(1))
            await new.reach()
            with pytest.raises(Fenced):
                await old.task
    assert await balances(model_url) == ledger.balances()


# -- policies --------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_tells_where_its_event_is_and_what_went_wrong(model_url: str) -> None:
    """The event is set aside in the transaction of its checkpoint, with nothing of what its handler did."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(13), Deposited(2))
    async with following(ledger, Picky, model_url) as run:
        await run.reach()
        assert await rows(model_url, "SELECT position, amount FROM seen ORDER BY 1") == [(1, 1), (3, 2)]
        (letter,) = await run.follower.dead_letters()
        assert (letter.partition, letter.position, letter.category, letter.id) == (0, 2, "Account", "a")
        assert (letter.type, letter.problem, letter.attempts) == ("hf_bank.deposited", "ValueError: an amount of 13", 1)
        assert 'raise ValueError("an amount of 13")' in letter.traceback
        assert (run.progress.dead_letters, run.progress.errors, run.progress.phase) == (1, 1, FollowerPhase.LIVE)


async def test_an_event_that_fails_is_found_among_the_others_of_its_page(model_url: str) -> None:
    """Those before and after it are committed, each once: by exception, by constraint, and those that do not decode."""
    ledger = Ledger()
    amounts = [1 if n % 17 else 13 if n % 2 else 99 for n in range(1, 201)]
    await ledger.write("a", *map(Deposited, amounts))
    await ledger.write_raw("a", ("hf_bank.deposited", b"\xc1"), ("hf_bank.deposited", b"\x81\xa6amount\xa1x"))
    await ledger.write("a", Deposited(5))
    async with following(ledger, Picky, model_url) as run:
        await run.reach()
        bad = [n for n, amount in enumerate(amounts, 1) if amount != 1]
        assert [letter.position for letter in await run.follower.dead_letters()] == [*bad, 201, 202]
        good = [(n,) for n, amount in enumerate(amounts, 1) if amount == 1]
        assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [*good, (203,)]


async def test_a_projection_that_stops_says_why_and_keeps_what_was_before(model_url: str) -> None:
    """Nothing after the event is looked at, until somebody starts it again; then it is tried again."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(13), Deposited(2))
    for _ in range(2):
        async with following(ledger, Strict, model_url) as run:
            with pytest.raises(FollowerStopped, match=r"position 2.*an amount of 13"):
                await run.reach()
        assert await rows(model_url, "SELECT position FROM seen") == [(1,)]


async def test_a_retried_event_waits_longer_each_time_and_holds_no_transaction(model_url: str) -> None:
    """It is tried as often as was said, then set aside. While it waits others write the database."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(13), Deposited(2))
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        assert run.progress.phase is FollowerPhase.RETRYING
        await change(model_url, f"CREATE TABLE while_it_waits_{len(pauses)} (n BIGINT)")

    async with following(ledger, Patient, model_url, pause=pause, jitter=lambda: 0.5) as run:
        await run.reach()
        assert pauses == [0.5, 1.0, 1.5]
        (letter,) = await run.follower.dead_letters()
        assert letter.attempts == 4
        assert (run.progress.errors, run.progress.retries, run.progress.dead_letters) == (4, 3, 1)
        assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(1,), (3,)]


FLAKY: list[int] = []


class Flaky(Projection, on_error=Retry(times=5, first_s=0.1)):
    seen = Table("position BIGINT PRIMARY KEY")

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: Any) -> None:
        self.execute(f"INSERT INTO {self.seen} VALUES (?)", recorded.position)
        if event.amount == 13 and FLAKY:
            FLAKY.pop()
            raise OSError("away")


async def test_a_retry_that_succeeds_leaves_no_trace_but_its_count(model_url: str) -> None:
    """What came back by itself is not set aside."""
    FLAKY[:] = [1] * 4  # once in the page, then alone
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(13), Deposited(2))

    async def pause(_: float) -> None: ...

    async with following(ledger, Flaky, model_url, pause=pause) as run:
        await run.reach()
        assert await run.follower.dead_letters() == []
        assert (run.progress.retries, run.progress.problem, run.progress.phase) == (3, "", FollowerPhase.LIVE)
    assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(1,), (2,), (3,)]


async def test_dead_letters_are_replayed_once_and_what_fails_again_stays(model_url: str) -> None:
    """The handler runs again, and its letter goes, in one transaction."""
    ledger = Ledger()
    await ledger.write("a", Deposited(13), Deposited(99), Deposited(1), Deposited(13))
    async with following(ledger, Picky, model_url) as run:
        await run.reach()
        for position in (1, 2, 4):
            with pytest.raises(ReplayFailed, match=r"13|99|check"):
                await run.follower.replay(0, position)
        assert [letter.attempts for letter in await run.follower.dead_letters()] == [2, 2, 2]
    async with following(ledger, Mended, model_url) as run:
        await run.reach()
        assert run.progress.dead_letters == 3
        await run.follower.replay(0, 4)
        assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(3,), (4,)]
        await run.follower.replay(0, 1)
        for position in (2, 4):
            with pytest.raises(ReplayFailed):
                await run.follower.replay(0, position)
        assert [(letter.position, letter.attempts) for letter in await run.follower.dead_letters()] == [(2, 3)]
        assert run.progress.dead_letters == 1
    assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(1,), (3,), (4,)]


class Rude(Projection, on_error=Retry(times=1, first_s=0.1)):
    seen = Table("position BIGINT PRIMARY KEY")

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: Any) -> None:
        self.execute(f"INSERT INTO {self.seen} VALUES (?)", recorded.position)
        if event.amount == 1:
            raise SystemExit(1)
        if event.amount == 2:
            raise KeyboardInterrupt
        if event.amount == 3:
            self.execute("COMMIT")
        if event.amount == 4:
            self.seen_at = recorded.position
        if event.amount == 5:
            try:
                self.fetch("SELECT one FROM nowhere")
            except Exception:
                pass  # it believes that this helps


async def test_what_a_handler_must_not_do_is_its_failure_and_ends_no_process(model_url: str) -> None:
    """SystemExit, transactions of its own, state beside its tables, an error of the database that it swallows."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(7)))

    async def pause(_: float) -> None: ...

    async with following(ledger, Rude, model_url, pause=pause) as run:
        await run.reach()
        errors = [letter.problem for letter in await run.follower.dead_letters()]
    starts = ["SystemExit: 1", "KeyboardInterrupt", "StatementRefused: COMMIT", "AttributeError: Rude.seen_at"]
    assert [error[: len(start)] for error, start in zip(errors, starts, strict=False)] == starts
    assert "nowhere" in errors[4]
    assert len(errors) == 5
    assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(1,), (7,)]


# -- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 2])
async def test_parts_of_a_projection_share_the_streams(model_url: str, partitions: int) -> None:
    """Every event once, by the part that its stream falls to, also over a journal in partitions."""
    ledger = Ledger(partitions)
    for n in range(30):
        await ledger.write(f"a{n}", Deposited(n), Withdrawn(1))
    async with (
        following(ledger, Shared, model_url, 0, page=7) as one,
        following(ledger, Shared, model_url, 1, page=7) as two,
        following(ledger, Shared, model_url, 2, page=7) as three,
    ):
        for n in range(30):
            await ledger.write(f"a{n}", Deposited(n))
        for run in (one, two, three):
            await run.reach()
        assert [run.progress.events for run in (one, two, three)] != [90, 90, 90]
        assert sum(run.progress.events for run in (one, two, three)) == 90
    assert await balances(model_url) == ledger.balances()


async def test_a_journal_in_partitions_has_a_checkpoint_for_each(model_url: str) -> None:
    """They move by themselves, in the transactions of their own pages."""
    ledger = Ledger(2)
    for n in range(20):
        await ledger.write(f"a{n}", Deposited(n))
    async with following(ledger, Balances, model_url, page=3) as run:
        await run.reach()
    found = await rows(model_url, "SELECT position FROM holdfast_projections ORDER BY partition")
    assert [position for (position,) in found] == list(await ledger.head())
    assert await balances(model_url) == ledger.balances()


async def test_another_number_of_parts_is_told_and_changes_nothing(model_url: str) -> None:
    """Streams would fall to other parts than those that have gone past them."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1))

    class Fewer(Balances, name="Balances", partitions=2): ...

    async with following(ledger, Balances, model_url) as run:
        await run.reach()
    async with following(ledger, Fewer, model_url) as run:
        with pytest.raises(ReadModelConflict, match=r"partitions=2.*built with 1"):
            await run.reach()
    async with following(Ledger(2), Balances, model_url) as run:
        with pytest.raises(FollowerStopped):
            await run.task
    assert await balances(model_url) == ledger.balances()


# -- whose it is -----------------------------------------------------------------------------------------------------


async def test_a_read_model_of_another_journal_is_refused(model_url: str) -> None:
    """At its checkpoint that has another event, or none: it is told, and nothing is written."""
    ledger, other, short = Ledger(), Ledger(), Ledger()
    await ledger.write("a", Deposited(1), Deposited(2))
    await other.write("a", Deposited(1), Deposited(2), Deposited(3))
    await short.write("a", Deposited(1))
    async with following(ledger, Balances, model_url) as run:
        await run.reach()
    async with following(other, Balances, model_url) as run:
        with pytest.raises(ForeignReadModel, match="another event at position 2"):
            await run.reach()
    for journal in (short, Ledger()):
        async with following(journal, Balances, model_url) as run:
            with pytest.raises(ReadModelAhead, match=r"is at position 2.*ends at"):
                await run.task
    assert await balances(model_url) == ledger.balances()


async def test_a_table_that_is_none_of_its_own_is_left_alone(model_url: str) -> None:
    """A name that somebody else uses in that database is refused."""
    await change(model_url, "CREATE TABLE balances (mine BIGINT)")
    async with following(Ledger(), Balances, model_url) as run:
        with pytest.raises(ReadModelConflict, match="balances stands there"):
            await run.task
    assert await rows(model_url, "SELECT mine FROM balances") == []


async def test_other_tables_under_the_same_version_are_told(model_url: str) -> None:
    """A declaration that was changed without a new version does not meet the old tables unawares."""

    class Wider(Projection, name="Balances"):
        balances = Table("id TEXT PRIMARY KEY, balance BIGINT, entries BIGINT, owner TEXT")

        @on(Deposited)
        def deposited(self, event: Deposited) -> None: ...

    async with following(Ledger(), Balances, model_url) as run:
        await run.reach()
        while run.follower._projector is None:
            await asyncio.sleep(0)
    async with following(Ledger(), Wider, model_url) as run:
        with pytest.raises(ReadModelConflict, match="tables are not those of version 1"):
            await run.task


async def test_two_projections_share_a_database(model_url: str) -> None:
    """Each has its own checkpoint and its own tables."""
    ledger = Ledger()
    async with following(ledger, Balances, model_url) as one, following(ledger, Mended, model_url) as two:
        await ledger.write("a", Deposited(4))
        await one.reach()
        await two.reach()
    assert await balances(model_url) == ledger.balances()
    assert await rows(model_url, "SELECT amount FROM seen") == [(4,)]


async def test_a_projection_may_read_what_it_has_written(model_url: str) -> None:
    """Also what it executed in the same page, in either database, and of the types that both take."""

    class Running(Projection):
        totals = Table("position BIGINT PRIMARY KEY, total BIGINT NOT NULL, note TEXT, at TEXT")

        @on(Deposited)
        def deposited(self, event: Deposited, recorded: Any) -> None:
            last = self.fetch_one(f"SELECT total FROM {self.totals} ORDER BY position DESC LIMIT 1")
            values = (recorded.position, (last or (0,))[0] + event.amount, None, recorded.recorded_at.isoformat())
            self.execute(f"INSERT INTO {self.totals} VALUES (?, ?, ?, ?)", *values)

    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(1, 6)))
    async with following(ledger, Running, model_url) as run:
        await run.reach()
    assert await rows(model_url, "SELECT total FROM totals ORDER BY position") == [(1,), (3,), (6,), (10,), (15,)]


@event("test_projections.filed")
class Filed:
    key: str


async def test_indexes_are_made_and_may_be_unique(model_url: str) -> None:
    """What violates one is the event's failure."""

    class Files(Projection, on_error=Retry(times=1, first_s=0.1)):
        files = Table("position BIGINT PRIMARY KEY, key TEXT NOT NULL", indexes=["UNIQUE key", "(position, key)"])

        @on(Filed)
        def filed(self, event: Filed, recorded: Any) -> None:
            self.execute(f"INSERT INTO {self.files} VALUES (?, ?)", recorded.position, event.key)

    async def pause(_: float) -> None: ...

    ledger = Ledger()
    await ledger.write("a", Filed("x"), Filed("y"), Filed("x"), Filed("z"))
    async with following(ledger, Files, model_url, pause=pause) as run:
        await run.reach()
        assert [letter.position for letter in await run.follower.dead_letters()] == [3]
    assert await rows(model_url, "SELECT key FROM files ORDER BY 1") == [("x",), ("y",), ("z",)]
