"""Another version of a projection, or the same anew, is built beside the one that serves, and takes its place."""

import asyncio
import threading
from typing import Any

import pytest
from hf_bank import Deposited
from hf_project import (
    Balances,
    Ledger,
    Picky,
    Running,
    Shared,
    Twice,
    balances,
    change,
    faulty,
    following,
    rows,
    unavailable,
)
from hf_support import eventually

from holdfast.actors import on
from holdfast.journal.positions import Positions
from holdfast.journal.records import Recorded, StreamId
from holdfast.runtime import DeadLetter, FollowerStopped, Projection, Stop, Table, projection_follower
from holdfast.runtime.follower import FollowerPhase
from holdfast.runtime.model import Model
from holdfast.runtime.model_errors import ReadModelConflict
from holdfast.runtime.model_url import ModelUrl
from holdfast.runtime.projection_books import BUILDING, SEALED, SERVING, Books, Retired
from holdfast.runtime.projection_definition import projection_of
from holdfast.runtime.projection_generations import Generations, Seat
from holdfast.runtime.projector import Projector


async def serving(run: Running) -> None:
    """Until what it builds serves."""
    await eventually(lambda: run.progress.details.get("building") == 0.0 or run.task.done())
    if run.task.done():
        await run.task


async def rebuilt(run: Running, generation: int) -> None:
    """Until that serves."""
    while not (await run.follower.rebuilding(generation)).finished:
        pass


async def generations(url: str) -> list[Any]:
    return await rows(url, "SELECT DISTINCT generation, version, state FROM holdfast_projections ORDER BY generation")


async def there_is(url: str, table: str) -> bool:
    def look() -> bool:
        model = ModelUrl.parse(url).open()
        try:
            model.begin()
            return model.has_table(table)
        finally:
            model.close()

    return await asyncio.to_thread(look)


FIRST_PAGE = 6
"""The transaction that is the first page: before it come the books, a look, the seat, the claim, the letters."""


class Gated:
    """Holds a follower's thread before its n-th transaction, until it is let go."""

    def __init__(self, nth: int) -> None:
        self.left, self.reached, self.go = nth, asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, step: str) -> None:
        if step == "begin":
            self.left -= 1
            if self.left == 0:
                self._loop.call_soon_threadsafe(self.reached.set)
                assert self.go.wait(60)


# -- another version -------------------------------------------------------------------------------------------------


async def test_a_new_version_is_built_from_the_first_event_on_and_takes_over(model_url: str) -> None:
    """Events come in all the while; at the end the tables are the new version's fold, under the old names."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(50)))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        async with following(ledger, Twice, model_url, page=7) as new:
            for n in range(20):
                await ledger.write("b", Deposited(n))
            await serving(new)
            await ledger.write("c", Deposited(1))
            await new.reach()
            assert await balances(model_url) == ledger.balances(100)
            with pytest.raises(ReadModelConflict, match="version 2"):
                await old.task
    assert await generations(model_url) == [(2, 2, SERVING)]
    assert not await there_is(model_url, "balances__2")


async def test_the_old_version_serves_until_the_new_one_has_caught_up(model_url: str) -> None:
    """While the new one is busy with what was, the old one goes on with what comes in."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(50)))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        gate = Gated(FIRST_PAGE + 1)
        async with following(ledger, Twice, model_url, page=10, connect=faulty(model_url, gate)) as new:
            await gate.reached.wait()
            await ledger.write("b", Deposited(1))
            await old.reach()
            assert await balances(model_url) == ledger.balances()
            assert await generations(model_url) == [(1, 1, SERVING), (2, 2, BUILDING)]
            gate.go.set()
            await serving(new)
            await new.reach()
    assert await balances(model_url) == ledger.balances(100)


@pytest.mark.parametrize("step", ["begin", "fetch", "execute", "commit", "committed"])
async def test_a_failure_at_any_step_of_a_build_or_a_swap_leaves_one_version_whole(model_url: str, step: str) -> None:
    """What was begun is gone on with, or begun again; nobody is left without tables."""
    nth, fired = 0, True
    while fired:
        ledger, fired, left = Ledger(), False, (nth := nth + 1)

        def fault(at: str) -> None:
            nonlocal left, fired
            left -= at == step
            if at == step and left == 0:
                fired = True
                raise unavailable(at)

        await change(model_url, "DROP TABLE IF EXISTS balances", "DROP TABLE IF EXISTS holdfast_projections")
        await ledger.write("a", *(Deposited(n) for n in range(5)))
        async with following(ledger, Balances, model_url) as old:
            await old.reach()
        async with following(ledger, Twice, model_url, page=3, connect=faulty(model_url, fault)) as new:
            await serving(new)
            await new.reach()
        assert await balances(model_url) == ledger.balances(100), nth
        assert await generations(model_url) == [(2, 2, SERVING)], nth
    assert nth > 3


async def test_an_older_version_is_refused_once_a_newer_one_serves(model_url: str) -> None:
    """Going back is building what was as a higher version."""
    async with following(Ledger(), Twice, model_url) as run:
        await serving(run)
        await eventually(lambda: run.progress.details)
    async with following(Ledger(), Balances, model_url) as run:
        with pytest.raises(ReadModelConflict, match="is of version 2, the class of version 1"):
            await run.task


async def test_a_build_is_given_up_for_one_of_a_still_higher_version(model_url: str) -> None:
    """The newest one wins, and nothing is left of the other."""

    class Thrice(Twice, name="Balances", version=3): ...

    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(50)))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        first, second = Gated(FIRST_PAGE + 1), Gated(FIRST_PAGE + 1)
        async with following(ledger, Twice, model_url, page=10, connect=faulty(model_url, first)) as two:
            await first.reached.wait()
            assert await generations(model_url) == [(1, 1, SERVING), (2, 2, BUILDING)]
            async with following(ledger, Thrice, model_url, page=10, connect=faulty(model_url, second)) as three:
                await second.reached.wait()
                assert await generations(model_url) == [(1, 1, SERVING), (3, 3, BUILDING)]
                first.go.set()
                with pytest.raises(ReadModelConflict, match="version 3 is being built"):
                    await two.task
                second.go.set()
                await serving(three)
                await three.reach()
    assert await balances(model_url) == ledger.balances(100)
    assert not await there_is(model_url, "balances__2")


async def test_a_build_whose_code_has_changed_begins_again(model_url: str) -> None:
    """Half of a table by one code and half by another would be no fold of anything."""

    class Other(Balances, name="Balances", version=2):
        def add(self, id: str, amount: int) -> None:
            super().add(id, 7 * amount)

    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(10)))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        gate = Gated(FIRST_PAGE + 1)
        async with following(ledger, Twice, model_url, page=3, connect=faulty(model_url, gate)):
            await gate.reached.wait()
            assert await rows(model_url, "SELECT balance FROM balances__2") == [(300,)]
            gate.go.set()
    async with following(ledger, Other, model_url) as other:
        await other.reach()
        await serving(other)
    assert await balances(model_url) == ledger.balances(7)


async def test_readers_see_the_tables_of_one_version_or_of_the_other(model_url: str) -> None:
    """At no moment is a table missing, or are two tables of different versions."""

    class Pair(Projection):
        one = Table("version BIGINT NOT NULL, n BIGINT NOT NULL")
        two = Table("version BIGINT NOT NULL, n BIGINT NOT NULL")
        says = 1

        @on(Deposited)
        def deposited(self, event: Deposited, recorded: Any) -> None:
            for table in (self.one, self.two):
                self.execute(f"INSERT INTO {table} VALUES (?, ?)", self.says, recorded.position)

    class Pair2(Pair, name="Pair", version=2):
        says = 2

    class Pair3(Pair, name="Pair", version=3):
        says = 3

    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(20)))
    seen: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        query = "SELECT (SELECT max(version) FROM one), (SELECT max(version) FROM two), (SELECT count(*) FROM one)"
        model = ModelUrl.parse(model_url).open()
        while not stop.is_set():
            model.begin()
            seen.extend(model.fetch(query, ()))
            model.rollback()
        model.close()

    async with following(ledger, Pair, model_url) as one:
        await one.reach()
        reading = asyncio.get_running_loop().run_in_executor(None, read)
        try:
            for version in (Pair2, Pair3):
                async with following(ledger, version, model_url) as new:
                    await serving(new)
            await eventually(lambda: seen and seen[-1][0] == 3)
        finally:
            stop.set()
            await reading
    assert {row[0] for row in seen} <= {1, 2, 3}
    assert all(first == second and count == 20 for first, second, count in seen)


async def test_a_view_keeps_a_new_version_from_taking_over_where_it_must_and_the_old_one_goes_on(
    model_url: str,
) -> None:
    """In PostgreSQL, where a view is of one table and no other; in SQLite it is of whatever has the name. Whoever looks
    is told why, and whoever waits for the new version waits until it can be seen."""
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(2))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()
        await change(model_url, "CREATE VIEW rich AS SELECT id, balance FROM balances WHERE balance > 200")
        async with following(ledger, Twice, model_url) as new:
            if model_url.startswith("postgres"):
                await eventually(lambda: "rich" in new.progress.problem or new.task.done())
                assert new.progress.phase is FollowerPhase.LIVE
                await ledger.write("b", Deposited(1))
                await old.reach()
                assert await balances(model_url) == ledger.balances()
                assert not await new.progress.wait(Positions((1,)), 0)
                await change(model_url, "DROP VIEW rich")
            await serving(new)
            await new.reach()
            assert (await balances(model_url), new.progress.problem) == (ledger.balances(100), "")
            if model_url.startswith("sqlite"):
                assert await rows(model_url, "SELECT balance FROM rich") == [(300,)]


async def test_a_version_that_was_sealed_for_a_successor_that_has_gone_goes_on(
    model_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would come into the tables any more, until somebody looked."""
    monkeypatch.setattr(projection_follower, "SEALED_MOST_S", 0.0)
    ledger = Ledger()
    await ledger.write("a", Deposited(1))
    async with following(ledger, Balances, model_url) as old:
        await old.reach()

        def seal() -> None:
            desk = Desk(model_url)
            seat = desk.do(desk.new.take_seat)
            assert not desk.do(lambda: desk.new.try_swap(seat.generation, seals=True))
            desk.model.close()

        await asyncio.to_thread(seal)
        assert (1, 1, SEALED) in await generations(model_url)
        await ledger.write("a", Deposited(2))
        await old.reach()
        assert await balances(model_url) == ledger.balances()


# -- the same version ------------------------------------------------------------------------------------------------


async def test_a_rebuild_mends_what_was_changed_behind_its_back(model_url: str) -> None:
    """It tells how far it is, serves all the while, and is counted as what it is: another generation."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(30)))
    async with following(ledger, Balances, model_url, page=4) as run:
        await run.reach()
        await change(model_url, "UPDATE balances SET balance = 0")
        generation = await run.follower.rebuild()
        assert await run.follower.rebuild() == generation == 2
        seen = []
        while not seen or not seen[-1].finished:
            await ledger.write("b", Deposited(1))
            seen.append(await run.follower.rebuilding(generation))
        assert all(one.done <= one.of for one in seen)
        await ledger.write("b", Deposited(1))
        await run.reach()
        assert await balances(model_url) == ledger.balances()
        assert run.failures == []
    assert await generations(model_url) == [(2, 1, SERVING)]


async def test_a_rebuild_that_cannot_take_over_says_why_and_what_serves_goes_on(model_url: str) -> None:
    """A view in PostgreSQL, again. In SQLite there is nothing that could be in its way."""
    if model_url.startswith("sqlite"):
        return
    ledger = Ledger()
    await ledger.write("a", Deposited(1), Deposited(2))
    async with following(ledger, Balances, model_url) as run:
        await run.reach()
        await change(model_url, "CREATE VIEW rich AS SELECT id FROM balances")
        generation = await run.follower.rebuild()
        while "rich" not in (await run.follower.rebuilding(generation)).problem:
            pass
        assert "rich" in run.progress.problem
        await ledger.write("b", Deposited(1))
        await run.reach()
        assert await balances(model_url) == ledger.balances()
        await change(model_url, "DROP VIEW rich")
        await rebuilt(run, generation)
        await eventually(lambda: not run.progress.problem)
    assert await balances(model_url) == ledger.balances()


async def test_a_rebuild_that_was_cut_off_goes_on_with_the_next_life(model_url: str) -> None:
    """It is in the books: whoever claims the name next builds on."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(30)))
    async with following(ledger, Balances, model_url) as run:
        await run.reach()
        await change(model_url, "UPDATE balances SET balance = 0")
        await run.follower.rebuild()
    async with following(ledger, Balances, model_url, page=3) as run:
        await eventually(lambda: run.progress.details.get("generation") == 2.0)
        await run.reach()
    assert await balances(model_url) == ledger.balances()


async def test_all_parts_of_a_projection_are_rebuilt_and_swapped_together(model_url: str) -> None:
    """The last one to catch up swaps; the others find that they serve."""
    ledger = Ledger(2)
    for n in range(40):
        await ledger.write(f"a{n}", Deposited(n))
    async with (
        following(ledger, Shared, model_url, 0, page=5) as one,
        following(ledger, Shared, model_url, 1, page=5) as two,
        following(ledger, Shared, model_url, 2, page=5) as three,
    ):
        runs = (one, two, three)
        for run in runs:
            await run.reach()
        await change(model_url, "UPDATE balances SET balance = 0")
        numbers = [await run.follower.rebuild() for run in runs]
        assert numbers == [2, 2, 2]
        await asyncio.gather(*(rebuilt(run, 2) for run in runs))
        for n in range(40):
            await ledger.write(f"a{n}", Deposited(n))
        for run in runs:
            await run.reach()
    assert await balances(model_url) == ledger.balances()


BROKEN: list[int] = []


class Fragile(Projection, on_error=Stop()):
    seen = Table("position BIGINT PRIMARY KEY")

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: Any) -> None:
        if recorded.position in BROKEN:
            raise ValueError("not any more")
        self.execute(f"INSERT INTO {self.seen} VALUES (?)", recorded.position)


async def test_a_rebuild_that_fails_is_given_up_and_what_serves_goes_on(model_url: str) -> None:
    """Whoever asks is told why; nothing is left of it, and it can be begun again."""
    ledger = Ledger()
    await ledger.write("a", *(Deposited(n) for n in range(5)))
    BROKEN[:] = []
    async with following(ledger, Fragile, model_url) as run:
        await run.reach()
        BROKEN[:] = [3]
        generation = await run.follower.rebuild()
        with pytest.raises(FollowerStopped, match=r"given up.*position 3.*not any more"):
            await rebuilt(run, generation)
        await ledger.write("a", Deposited(1))
        await run.reach()
        assert await generations(model_url) == [(1, 1, SERVING)]
        assert not await there_is(model_url, "seen__2")
        BROKEN[:] = []
        again = await run.follower.rebuild()
        await rebuilt(run, again)
    assert await rows(model_url, "SELECT position FROM seen ORDER BY 1") == [(n,) for n in range(1, 7)]


async def test_dead_letters_belong_to_the_generation_that_set_them_aside(model_url: str) -> None:
    """A version that can do more has none of its predecessor's."""

    class Better(Picky, name="Picky", version=2, on_error=DeadLetter()):
        refuses = 1

    ledger = Ledger()
    await ledger.write("a", Deposited(13), Deposited(99), Deposited(1))
    async with following(ledger, Picky, model_url) as run:
        await run.reach()
        assert [letter.position for letter in await run.follower.dead_letters()] == [1, 2]
    async with following(ledger, Better, model_url) as run:
        await serving(run)
        assert [letter.position for letter in await run.follower.dead_letters()] == [2, 3]
    assert await rows(model_url, "SELECT generation FROM holdfast_dead_letters") == [(2,), (2,)]


# -- the books, step by step -----------------------------------------------------------------------------------------


class Desk:
    """Two generations by hand, without a follower."""

    def __init__(self, url: str) -> None:
        self.model: Model = ModelUrl.parse(url).open()
        self.books = Books(self.model, "Balances")
        self.books.prepare()
        self.old = Generations(projection_of(Balances), self.model, 1)
        self.new = Generations(projection_of(Twice), self.model, 1)

    def do(self, work: Any) -> Any:
        self.model.begin()
        try:
            result = work()
            self.model.commit()
        except BaseException:
            self.model.rollback()
            raise
        return result

    def projector(self, cls: Any, seat: Seat) -> Projector:
        claimed = self.do(lambda: self.books.claim(seat.generation, 0, "owner", 1, "code"))
        return Projector(
            projection_of(cls), self.model, generation=seat.generation, state=seat.state, part=0, owner="owner",
            epoch=1, positions=claimed,
        )  # fmt: skip


def deposits(*positions: int) -> list[Recorded]:
    return [
        Recorded(position=n, stream=StreamId("Account", "a"), version=n, type="hf_bank.deposited",
                 payload=b"\x81\xa6amount\x01", command_id=str(n), recorded_at=n)
        for n in positions
    ]  # fmt: skip


def test_one_that_is_a_little_ahead_is_sealed_and_passed(model_url: str) -> None:
    """It moves no further, so that the new one reaches it; then the new one takes over, and the old one is retired."""
    desk = Desk(model_url)
    old = desk.projector(Balances, desk.do(desk.old.take_seat))
    new = desk.projector(Twice, desk.do(desk.new.take_seat))
    old.take(0, deposits(1, 2, 3), 3)
    new.take(0, deposits(1, 2), 2)
    assert not desk.do(lambda: desk.new.try_swap(2, seals=False))
    old.take(0, deposits(4), 4)  # it goes on: nothing was sealed
    assert not desk.do(lambda: desk.new.try_swap(2, seals=True))
    with pytest.raises(Retired):
        old.take(0, deposits(5), 5)
    assert desk.do(desk.old.take_seat).sealed
    desk.do(desk.new.unseal)  # nothing is lost by that
    old.take(0, deposits(5), 5)
    assert not desk.do(lambda: desk.new.try_swap(2, seals=True))
    new.take(0, deposits(3, 4, 5), 5)
    assert desk.do(lambda: desk.new.try_swap(2, seals=True))
    with pytest.raises(Retired):
        old.take(0, deposits(6), 6)
    new.take(0, deposits(6), 6)
    assert new.state == SERVING
    assert desk.do(lambda: desk.model.fetch("SELECT * FROM balances", ())) == [("a", 600, 6)]
    desk.model.close()


def test_giving_up_a_build_lets_what_was_sealed_go_on(model_url: str) -> None:
    """Also when another version is built in its place."""
    desk = Desk(model_url)
    old = desk.projector(Balances, desk.do(desk.old.take_seat))
    old.take(0, deposits(1), 1)
    for _ in range(2):
        seat = desk.do(desk.new.take_seat)
        assert not desk.do(lambda: desk.new.try_swap(seat.generation, seals=True))  # noqa: B023
        assert {row.state for row in desk.do(desk.books.rows)} == {SEALED, BUILDING}
        desk.do(lambda: desk.new.abandon(seat.generation))  # noqa: B023
        assert [row.state for row in desk.do(desk.books.rows)] == [SERVING]
    old.take(0, deposits(2), 2)
    assert desk.do(lambda: desk.model.fetch("SELECT * FROM balances", ())) == [("a", 2, 2)]
    desk.model.close()
