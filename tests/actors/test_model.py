"""Everything at once, at random: commands, faults, lost answers, passivations, successors; then the judge.

A run is one seed. To replay one: HOLDFAST_SEED=123 python -m pytest tests/actors/test_model.py
"""

import asyncio
import os
import random

import pytest
from checkers import Acknowledged, contiguous, done_once, judge, ledger, replies_match
from hf_host import Again, Bench, Client, simulate, turns

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.journal.errors import JournalError, JournalFailed, JournalUnavailable, VersionConflict
from holdfast.journal.records import Recorded, StreamId

CHOSEN = os.environ.get("HOLDFAST_SEED")
RUNS = range(1 if CHOSEN else 6)
METHODS = ("append", "load", "find_keyed", "find_replies", "save_snapshots")


@event("test_model.booked")
class Booked:
    token: str
    amount: int


class Book(Aggregate, category="book", snapshot_every=7):
    """An account book that refuses to go below zero."""

    entries: int = 0
    balance: int = 0

    @command
    def book(self, token: str, amount: int) -> list[int]:
        if self.balance + amount < 0:
            raise Rejected("below zero")
        self.emit(Booked(token, amount))
        return [self.entries, self.balance]

    @command
    async def book_slowly(self, token: str, amount: int, turns: int) -> list[int]:
        for _ in range(turns):
            await asyncio.sleep(0)
        self.emit(Booked(token, amount))
        for _ in range(turns):
            await asyncio.sleep(0)
        if self.balance < 0:
            raise Rejected("below zero")
        return [self.entries, self.balance]

    @command
    def book_and_raise(self, token: str, amount: int) -> list[int]:
        self.emit(Booked(token, amount))
        raise ZeroDivisionError

    @query
    def seen(self) -> list[int]:
        return [self.entries, self.balance]

    @on(Booked)
    def _booked(self, event: Booked) -> None:
        self.entries += 1
        self.balance += event.amount


class Run:
    """One random run: callers, a store that fails, hosts that are passivated from and replaced."""

    def __init__(self, seed, bench):
        self.chance, self.bench = random.Random(seed), bench
        self.acknowledged, self.refused, self.queried, self.doubted = [], [], [], []
        self.clients = {}
        self.token = 0
        self.host = None
        self.over = False

    async def play(self, callers=25, commands=12):
        await self.replace_host()
        troubles = [asyncio.create_task(work()) for work in (self.faults, self.passivations, self.successions)]
        await asyncio.gather(*(self.caller(commands) for _ in range(callers)))
        self.over = True
        await asyncio.gather(*troubles)
        self.bench.store.heal()

    async def replace_host(self):
        how = {"live_max": self.chance.choice((2, 4, 100)), "page": 3, "ahead_bytes_max": self.chance.choice((1, 9999))}
        self.host = await self.bench.host(Book, **how)

    async def caller(self, commands):
        for _ in range(commands):
            await self.one(str(self.chance.randrange(6)))
            await self.pause(5)

    async def one(self, id):
        chance = self.chance
        self.token += 1
        token, amount = str(self.token), chance.randrange(-30, 50)
        how = {"key": f"key {token}"} if chance.random() < 0.4 else {"command_id": f"id {token}"}
        method, *args = chance.choice([
            ("book", token, amount),
            ("book", token, amount),
            ("book_slowly", token, amount, chance.randrange(4)),
            ("book_and_raise", token, amount),
            ("seen",),
        ])  # fmt: skip
        try:
            reply = await self.ask(id, method, *args, **how)
        except (Rejected, ZeroDivisionError, JournalFailed):
            self.refused.append(token)
            return
        except JournalError as error:
            raise AssertionError(f"no caller should hear of {error!r}") from error
        if method == "seen":
            self.queried.append((id, reply))
            return
        self.acknowledged.append(Acknowledged(stream=f"book/{id}", token=token, reply=reply))
        if "key" in how and chance.random() < 0.3:  # whoever has a key may use it again
            self.acknowledged.append(
                Acknowledged(stream=f"book/{id}", token=token, reply=await self.ask(id, method, *args, **how))
            )

    async def ask(self, id, method, *args, **how):
        """As a link does: again while told so, from another line or a second time out of impatience."""
        maybe = False
        while True:
            host = self.host
            client = self.clients.setdefault((host, self.chance.randrange(3)), Client(host))
            calls = [client.start(id, method, *args, maybe=maybe, **how)]
            if self.chance.random() < 0.15:  # the line believes the first lost, and sends it again
                await self.pause(3)
                other = self.clients.setdefault((host, 7), Client(host))
                calls.append(other.start(id, method, *args, maybe=True, **how))
                await asyncio.wait(calls)
            try:
                results = await asyncio.gather(*calls, return_exceptions=True)
                told = [r for r in results if not isinstance(r, Again)]
                if told:
                    done = [r for r in told if not isinstance(r, Exception)]
                    assert method == "seen" or all(d == done[0] for d in done)
                    if done:
                        return done[0]
                    if len(told) == len(results):
                        raise told[0]
                raise results[-1] if isinstance(results[-1], Again) else results[0]
            except Again as again:
                maybe = maybe or again.maybe or len(calls) > 1
                await self.pause(3)

    async def faults(self):
        chance, store = self.chance, self.bench.store
        while not self.over:
            await self.pause(40)
            method = chance.choice(METHODS)
            match chance.randrange(6):
                case 0:
                    store.fail(method, error=JournalUnavailable("a fault"))
                case 1:
                    store.lose(method)
                case 2:
                    store.fail("append", error=JournalFailed("a full disk"))
                case 3:
                    store.reject(VersionConflict("a", 0, 1), streams=[StreamId("book", str(chance.randrange(6)))])
                case 4:
                    with store.hold(method, after=chance.random() < 0.5):
                        await self.pause(30)
                case 5:
                    store.reject(JournalFailed("one row"), streams=[StreamId("book", str(chance.randrange(6)))])

    async def passivations(self):
        while not self.over:
            await self.pause(30)
            await self.host.passivate(str(self.chance.randrange(6)))

    async def successions(self):
        while not self.over:
            await self.pause(150)
            if self.chance.random() < 0.5:
                retiring = asyncio.create_task(self.host.retire())
                await self.pause(10)
                await self.replace_host()
                await retiring
            else:
                await self.replace_host()  # the old one is not told: it finds itself fenced

    async def pause(self, most):
        await turns(self.chance.randrange(most))


@pytest.mark.parametrize("run", RUNS)
def test_whatever_happens_what_was_acknowledged_is_there_once_and_replies_are_what_replay_says(run):
    """And versions are contiguous, nothing refused was written, no query showed what never was."""
    seed = int(CHOSEN) if CHOSEN else random.randrange(2**32)
    print(f"HOLDFAST_SEED={seed}")
    simulate(simulation(seed))


async def simulation(seed):
    async with Bench() as bench:
        run = Run(seed, bench)
        await asyncio.wait_for(run.play(), 1)
        recorded = await bench.store.read_all(limit=1_000_000)
        judge(run.acknowledged, recorded, ledger, refused=run.refused)
        assert len(run.acknowledged) > 80
        streams = contiguous(recorded)
        for id, seen in run.queried:
            assert seen in [[0, 0], *ledger(streams.get(f"book/{id}", [])).values()]
        for id in range(6):
            replayed = ledger(streams.get(f"book/{id}", []))
            assert await run.ask(str(id), "seen") == (list(replayed.values()) or [[0, 0]])[-1]
        for host in bench.hosts:
            assert (await host.statistics()).calls == 0
        assert not run.host._leaving
        assert not run.host._entrance


# -- the judge itself --------------------------------------------------------------------------------------------


def recorded(*tokens, position=1):
    return [
        Recorded(
            position=position + n,
            stream=StreamId("book", "a"),
            version=n + 1,
            type="t",
            payload=b"\x82\xa5token\xa1" + token.encode() + b"\xa6amount\x01",
            command_id="c",
            recorded_at=0,
        )
        for n, token in enumerate(tokens)
    ]


def told(token, reply=None, **how):
    return Acknowledged(stream="book/a", token=token, reply=reply, **how)


def test_the_judge_passes_a_right_run():
    """Whatever order the acknowledgements came in; what writes nothing need not be there."""
    judge([told("y", [2, 2]), told("x", [1, 1]), told("q", writes=False)], recorded("x", "y"), ledger, refused=["z"])


@pytest.mark.parametrize(
    ("acknowledged", "events", "refused", "complaint"),
    [
        ([told("y", [2, 2])], recorded("x"), [], "not in the journal"),
        ([], recorded("x", "x"), [], "more than once"),
        ([], recorded("x"), ["x"], "refused and yet"),
        ([told("x", [1, 7])], recorded("x"), [], "replay says"),
        ([], recorded("x", position=2), [], "position 2"),
        ([], [recorded("x", "y")[1]], [], "position 2"),
    ],
)
def test_the_judge_finds_what_is_wrong(acknowledged, events, refused, complaint):
    """Lost, doubled, invented, misreported, or out of order."""
    with pytest.raises(AssertionError, match=complaint):
        judge(acknowledged, events, ledger, refused=refused)


def test_the_judge_finds_a_gap_in_a_stream():
    """Versions count on their own, beside positions."""
    first, second = recorded("x", "y")
    third = Recorded(**{f: getattr(second, f) for f in second.__struct_fields__ if f != "version"}, version=3)
    with pytest.raises(AssertionError, match="version 3 after 1"):
        contiguous([first, third])
    assert done_once([told("x")], contiguous([first])) is None
    assert replies_match([told("x", [1, 1])], contiguous([first]), ledger) is None
