"""The transfers example without Ray: its rules in the kit, a whole run in one process, and its judge."""

import asyncio
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest

from examples.transfers import domain
from examples.transfers.domain import Account, Branch, Stage, Terms, Transfers
from examples.transfers.fold import fold
from holdfast.actors.testing import Given, Sent, given
from holdfast.runtime import Runtime, Sharded

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
TERMS = Terms("ann", "bob", 5)
BEGUN = domain.Begun(TERMS)


def accounts(ann: int = 9, *, closed: bool = False) -> dict[tuple[type[Any], str], Any]:
    bob = [domain.Closed()] if closed else []
    return {
        (Account, "ann"): given(Account, domain.Opened(ann), id="ann"),
        (Account, "bob"): given(Account, *bob, id="bob"),
    }


def transfer(*events: Any, **peers: Any) -> Given[Transfers]:
    return given(Transfers, *events, id="t", peers=accounts(**peers), at=NOON)


def test_an_order_begins_a_transfer_and_sets_its_time_out() -> None:
    """Nothing is sent yet: that is for the handler of what was decided."""
    outcome = transfer().when_event(domain.Ordered("t", "ann", "bob", 5))
    assert (outcome.events, outcome.commands) == ([BEGUN], [])
    assert outcome.reminders["expire"].due == NOON + domain.PATIENCE


def test_the_way_of_a_transfer_that_is_done() -> None:
    """Taken, decided, given."""
    outcome = transfer(BEGUN).when_event(BEGUN)
    assert (outcome.events, outcome.commands) == ([domain.Taken()], [Sent(Account, "ann", "withdraw", ("t", 5))])
    outcome = outcome.when_event(domain.Taken())
    assert (outcome.events, outcome.commands) == ([domain.Giving()], [])
    outcome = outcome.when_event(domain.Giving())
    assert (outcome.events, outcome.commands) == ([domain.Done()], [Sent(Account, "bob", "deposit", ("t", 5))])
    assert (outcome.state.stage, outcome.peer(Account, "bob").state.balance) == (Stage.DONE, 5)


def test_a_transfer_from_an_account_with_too_little_fails_at_once() -> None:
    """Nothing was taken, so nothing is put back."""
    outcome = transfer(BEGUN, ann=4).when_event(BEGUN)
    assert outcome.events == [domain.Failed("ann has too little")]


def test_a_transfer_to_a_closed_account_is_compensated() -> None:
    """What was taken is put back, in a step of its own."""
    outcome = transfer(BEGUN, domain.Taken(), domain.Giving(), closed=True).when_event(domain.Giving())
    assert outcome.events == [domain.Returning("bob is closed")]
    outcome = outcome.when_event(domain.Returning("bob is closed"))
    assert outcome.commands == [Sent(Account, "ann", "put_back", ("t", 5))]
    assert outcome.events == [domain.Failed("bob is closed")]


def test_a_time_out_before_the_decision_turns_it_and_one_after_it_does_not() -> None:
    """Once decided, the money goes on."""
    begun = transfer().when_event(domain.Ordered("t", "ann", "bob", 5)).later(timedelta(seconds=9))
    assert begun.events == [domain.Expired()]
    taken = begun.when_event(BEGUN)
    assert taken.events == [domain.Taken()]
    assert taken.when_event(domain.Taken()).events == [domain.Returning("t was late")]
    late = transfer(BEGUN, domain.Taken(), domain.Giving(), domain.Expired())
    assert late.when_event(domain.Giving()).events == [domain.Done()]


@pytest.mark.parametrize("seed", range(3))
async def test_a_run_with_hosts_that_die_makes_and_loses_no_money(tmp_path: Path, seed: int) -> None:
    """Each transfer ends once, and the books are right, by a judge who knows nothing of the code."""
    print(f"seed {seed}")
    chance, path = random.Random(seed), tmp_path / "j.db"
    async with Runtime.local(f"sqlite:///{path}", placement=Sharded(2)) as runtime:
        cluster: Any = runtime._cluster

        async def trouble() -> None:
            while True:
                await asyncio.sleep(chance.random() * 0.05)
                names = [*await cluster.host_names(), *await cluster.follower_names()]
                name = chance.choice(names)
                peer = await cluster.find_host(name) or await cluster.find_follower(name)
                if peer is not None:
                    await cluster.kill(peer)

        for n in range(5):
            await runtime.get(Account, f"a{n}").open(50)
        await runtime.get(Account, "a0").close()
        await runtime.start(Transfers)
        troubles = asyncio.create_task(trouble())
        for n in range(40):
            source, to = chance.sample(range(5), 2)
            branch = runtime.get(Branch, "b", idempotency_key=f"o{n}")
            await branch.order(f"t{n}", f"a{source}", f"a{to}", chance.randint(1, 40))
        troubles.cancel()
        await asyncio.wait({troubles})
        await runtime.start(Transfers)
        while True:
            stages = [await runtime.get(Transfers, f"t{n}").stage_now() for n in range(40)]
            if set(stages) <= {Stage.DONE, Stage.FAILED}:
                break
            await asyncio.sleep(0.01)
    books = fold(path)
    assert books.problems == []
    assert (books.ordered, books.held, sum(books.outcomes.values())) == (40, 250, 40)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (("a1", "transfers.deposited", {"transfer": "t", "amount": 5}), "the accounts opened with"),
        (("a0", "transfers.withdrawn", {"transfer": "t", "amount": 50}), "holds -"),
        (("t", "transfers.done", {}), "has ended 2 times"),
        (("x", "transfers.done", {}), "x was never ordered"),
    ],
    ids=["doubled deposit", "overdrawn", "two ends", "unknown"],
)
def test_the_judge_is_not_blind(tmp_path: Path, planted: tuple[str, str, dict[str, Any]], said: str) -> None:
    """A right journal passes; with one row more, whatever it is, it does not."""
    right: list[tuple[str, str, dict[str, Any]]] = [
        ("a0", "transfers.opened", {"balance": 10}),
        ("a1", "transfers.opened", {"balance": 10}),
        ("b", "transfers.ordered", {"transfer": "t", "source": "a0", "to": "a1", "amount": 5}),
        ("a0", "transfers.withdrawn", {"transfer": "t", "amount": 5}),
        ("a1", "transfers.deposited", {"transfer": "t", "amount": 5}),
        ("t", "transfers.done", {}),
    ]
    assert fold(_file(tmp_path / "right.db", right)).problems == []
    problems = fold(_file(tmp_path / "wrong.db", [*right, planted])).problems
    assert any(said in problem for problem in problems), problems


def _file(path: Path, rows: list[tuple[str, str, dict[str, Any]]]) -> Path:
    """As much of a journal's file as the judge reads."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE streams (key INTEGER PRIMARY KEY, id TEXT UNIQUE)")
    connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, stream INTEGER, type TEXT, payload BLOB)")
    for id, type, fields in rows:
        connection.execute("INSERT OR IGNORE INTO streams (id) VALUES (?)", (id,))
        (key,) = connection.execute("SELECT key FROM streams WHERE id = ?", (id,)).fetchone()
        event = (key, type, msgpack.packb(fields))
        connection.execute("INSERT INTO events (stream, type, payload) VALUES (?, ?, ?)", event)
    connection.commit()
    connection.close()
    return path
