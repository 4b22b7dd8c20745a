"""What readers of a journal get of older events: projections, reactions, subscriptions, publishers, `read`, `watch`."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hf_project import Ledger, faulty, following, rows, unavailable
from hf_publish import Collecting, bench
from hf_support import eventually
from hf_upcast import Account, Deposited, FeeCharged, FeesOnly, Notes, Sums, write_old

from holdfast.actors import DefinitionError, event, on
from holdfast.actors.testing import stored
from holdfast.journal.codec import CodecError
from holdfast.journal.records import Checkpoint
from holdfast.journal.sqlite import SqliteStore
from holdfast.runtime import Projection, Publisher, Runtime, Sharded
from holdfast.runtime.cluster import incarnation
from holdfast.runtime.frontier import Frontier
from holdfast.runtime.projection_definition import projection_of
from holdfast.runtime.publisher import publisher_plan
from holdfast.runtime.reaction_follower import follower_name
from holdfast.runtime.testing import given_events

PLAIN = stored("hf_upcast.deposited", 1, {"amount": 1})
SPLIT = stored("hf_upcast.deposited", 1, {"amount": 2, "fee": 7})
ONLY_FEE = stored("hf_upcast.deposited", 1, {"amount": 2, "fee": 9, "void": True})
GONE = stored("hf_upcast.deposited", 1, {"amount": 2, "void": True})
RENAMED = stored("hf_upcast.deposit_made", 2, {"cents": 5})
OLD_RENAMED = stored("hf_upcast.deposit_made", 1, {"amount": 3, "fee": 1})
TODAY = stored("hf_upcast.deposited", 2, {"cents": 11})
FEE = stored("hf_upcast.fee_charged", 1, {"cents": 13})
TOO_NEW = stored("hf_upcast.fee_charged", 2, {"pence": 13})
BROKEN = stored("hf_upcast.deposited", 1, {"fee": 1})
ALL = [PLAIN, SPLIT, ONLY_FEE, GONE, RENAMED, OLD_RENAMED, TODAY, FEE]
CENTS, FEES = 100 + 200 + 5 + 300 + 11, 7 + 9 + 1 + 13


def raw(*events: Any) -> list[tuple[str, bytes]]:
    return [(each.type, each.payload) for each in events]


# -- projections -----------------------------------------------------------------------------------------------------


async def test_upcast_a_projection_counts_all_parts_of_older_events(tmp_path: Any) -> None:
    """In pages of any size, with a death after each."""
    for page in (1, 2, 3, 100):
        ledger, url = Ledger(), f"sqlite:///{tmp_path}/read{page}.db"
        await ledger.write_raw("a", *raw(*ALL))
        async with following(ledger, Sums, url, page=page) as run:
            await run.reach()
        await ledger.write_raw("a", *raw(*ALL))
        async with following(ledger, Sums, url, page=page) as run:
            await run.reach()
        assert await rows(url, "SELECT * FROM sums") == [("a", 2 * CENTS, 2 * FEES)]


async def test_upcast_a_projection_that_fails_at_any_step_counts_no_part_twice_and_none_out(tmp_path: Any) -> None:
    """Each step of its transactions fails once, lives of one step more each: the parts of an event are in or not."""
    url, total = f"sqlite:///{tmp_path}/read.db", 0
    ledger = Ledger()
    for nth in range(200):
        seen = fired = 0

        def fault(step: str, nth: int = nth) -> None:
            nonlocal seen, fired
            seen += 1
            if seen == nth + 1:
                fired = 1
                raise unavailable(step)

        await ledger.write_raw("a", *raw(SPLIT, OLD_RENAMED, ONLY_FEE))
        async with following(ledger, Sums, url, page=2, connect=faulty(url, fault)) as run:
            await run.reach()
        assert await rows(url, "SELECT * FROM sums") == [("a", 500 * (nth + 1), 17 * (nth + 1))], nth
        total += fired
        if not fired:
            break
    assert total >= 5


PROGRAM = """
import asyncio, sys
from hf_project import Ledger, faulty, following
from hf_upcast import Sums
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

async def main(journal, url):
    ledger = Ledger(stores=[SqliteStore(journal, SqliteOptions(lock_wait_s=30.0))])
    await ledger.links[0].server.start()
    say = faulty(url, lambda step: print(step, flush=True))
    async with following(ledger, Sums, url, page=3, connect=say) as run:
        await run.reach()
        print("reached", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def life(journal: Path, url: str, steps: int) -> bool:
    """One that is killed after so many steps; whether it had reached the end."""
    command = [sys.executable, "-c", PROGRAM, str(journal), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line.strip())
            if len(seen) >= steps or seen[-1] == "reached":
                process.kill()
    assert seen, "it did not begin"
    return "reached" in seen


async def test_upcast_kill_9_of_a_projection_between_pages_counts_each_part_once(tmp_path: Path) -> None:
    """Lives of a page or two; at the end the table is the fold of the parts."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    journal, url = tmp_path / "old.db", f"sqlite:///{tmp_path}/read.db"
    ledger = Ledger(stores=[SqliteStore(journal)])
    await ledger.links[0].server.start()
    for _ in range(5):
        await ledger.write_raw("a", *raw(*ALL))
    await ledger.links[0].server.stop()
    lives = 1
    while not life(journal, url, chance.randint(20, 50) if lives < 5 else 10**6):
        lives += 1
    assert lives > 1
    assert await rows(url, "SELECT * FROM sums") == [("a", 5 * CENTS, 5 * FEES)]


async def test_upcast_a_projection_finds_in_older_events_what_it_handles(tmp_path: Any) -> None:
    """Also where it knows nothing of the event that held it; with the part's number, and the name of today."""
    ledger, url = Ledger(), f"sqlite:///{tmp_path}/read.db"
    await ledger.write_raw("a", *raw(*ALL))
    async with following(ledger, FeesOnly, url) as run:
        await run.reach()
    name = "hf_upcast.fee_charged"
    expected = [(f"2.1 {name}", 7), (f"3.0 {name}", 9), (f"6.1 {name}", 1), (f"8.0 {name}", 13)]
    assert await rows(url, "SELECT * FROM fees ORDER BY place") == expected


async def test_upcast_a_projection_passes_over_nothing_that_it_cannot_tell(tmp_path: Any) -> None:
    """An event of newer code, and an older one of which its upcaster makes nothing, are dealt with by policy."""
    ledger, url = Ledger(), f"sqlite:///{tmp_path}/read.db"
    await ledger.write_raw("a", *raw(TOO_NEW, FEE, BROKEN))
    async with following(ledger, FeesOnly, url) as run:
        await run.reach()
        letters = await run.follower.dead_letters()
    assert [(letter.position, letter.type) for letter in letters] == [(1, TOO_NEW.type), (3, BROKEN.type)]
    assert "newer code wrote 'hf_upcast.fee_charged' at version 2" in letters[0].problem
    assert "it cannot be upcast" in letters[1].problem


def test_upcast_the_kit_for_projections_takes_events_as_they_were_stored() -> None:
    """Beside those of today."""
    kit = given_events(Sums, ("a", SPLIT), ("a", Deposited(1)))
    assert kit.rows("SELECT * FROM sums") == [("a", 201, 7)]


def test_upcast_a_projection_refuses_events_that_share_a_name() -> None:
    """By an alias too, when its class is made."""
    one = event("hf_upcast.one")(type("One", (), {"__module__": "upcast_one"}))
    two = event("hf_upcast.two", aliases=("hf_upcast.one",))(type("Two", (), {"__module__": "upcast_two"}))

    def first(self: Any, event: Any) -> None: ...
    def second(self: Any, event: Any) -> None: ...

    with pytest.raises(DefinitionError, match=r"are both called 'hf_upcast.one'"):
        type("Both", (Projection,), {"__module__": __name__, "first": on(one)(first), "second": on(two)(second)})


def test_upcast_other_upcasters_are_other_code_of_a_projection() -> None:
    """What runs with the older ones is replaced; a projection of events that never changed has the code it had."""
    assert Deposited in projection_of(Sums).reading.ancestry.evolved
    assert projection_of(Sums).code != projection_of(FeesOnly).code


# -- reactions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://", "memory://?partitions=2"])
async def test_upcast_a_reaction_acts_once_on_each_part(url: str) -> None:
    """Each part goes to the instance that it is for, by a key of its own; delivered again, it does nothing."""
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        await write_old(runtime, "a", *ALL)
        for _ in range(2):
            await runtime.start(Notes)
            await runtime.wait_for(Notes)
            await runtime.stop(Notes)
            await forget_checkpoint(runtime)
        deposits, fees = [await runtime.get(Notes, id).seen() for id in ("deposits", "fees")]
        assert deposits == ["1.0 100", "2.0 200", "5.0 5", "6.0 300", "7.0 11"]
        assert fees == ["2.1 7", "3.0 9", "6.1 1", "8.0 13"]
        assert await runtime.get(Account, "till").both() == (CENTS + FEES, 0)
        commands = [r.context.command_id async for r in runtime.read(Notes, "fees")]
        assert [c.removeprefix("reaction:Notes:").partition(":")[2] for c in commands] == ["2:1", "3", "6:1", "8"]


async def forget_checkpoint(runtime: Any) -> None:
    name = follower_name(Notes)
    epoch = await runtime._journal.claim(f"follower:{name}", incarnation())
    for part in runtime._journal.parts:
        await part.save_checkpoint(Checkpoint(name=name, owner=f"follower:{name}", epoch=epoch, position=0))


async def test_upcast_a_reaction_sets_aside_what_nobody_can_tell() -> None:
    """One letter for the event; the others are delivered."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", BROKEN, SPLIT, TOO_NEW)
        await runtime.start(Notes)
        await runtime.wait_for(Notes)
        letters = await runtime.dead_letters(Notes)
        assert [(letter.position, letter.type) for letter in letters] == [(1, BROKEN.type), (3, TOO_NEW.type)]
        assert await runtime.get(Notes, "fees").seen() == ["2.1 7"]


async def test_upcast_a_frontier_stays_before_an_event_until_its_last_part_has_ended() -> None:
    """In whatever order they end."""
    frontier = Frontier(0, 10)
    await frontier.begin(1, 2)
    await frontier.begin(2)
    frontier.pass_by(3)
    frontier.end(2)
    frontier.end(1)
    assert frontier.reached == 0
    frontier.end(1)
    assert frontier.reached == 3


# -- subscriptions, read, watch --------------------------------------------------------------------------------------

EVERYTHING = [
    (1, 0, Deposited(100)),
    (2, 0, Deposited(200)),
    (2, 1, FeeCharged(7)),
    (3, 0, FeeCharged(9)),
    (5, 0, Deposited(5)),
    (6, 0, Deposited(300)),
    (6, 1, FeeCharged(1)),
    (7, 0, Deposited(11)),
    (8, 0, FeeCharged(13)),
]


@pytest.mark.parametrize(
    ("how", "which"),
    [
        ({"categories": [Account]}, (Deposited, FeeCharged)),
        ({"types": [Deposited, FeeCharged]}, (Deposited, FeeCharged)),
        ({"types": [Deposited]}, (Deposited,)),
        ({"types": [FeeCharged]}, (FeeCharged,)),
        ({"categories": [Account], "types": ["hf_upcast.fee_charged"]}, (FeeCharged,)),
        ({"categories": [Account], "types": ["hf_upcast.deposited"]}, (Deposited,)),
        ({"categories": [Account], "types": ["hf_upcast.deposit_made"]}, (Deposited,)),
        ({"stream": (Account, "a"), "types": [FeeCharged]}, (FeeCharged,)),
    ],
)
async def test_upcast_a_subscription_gives_the_parts_that_its_filter_names(how: Any, which: Any) -> None:
    """A class or a name is all that the journal holds of it: all versions, all aliases, and what was split off."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", *ALL)
        expected = [each for each in EVERYTHING if isinstance(each[2], which)]
        events = runtime.subscribe(**how)
        found = [await anext(events) for _ in expected]
        assert [(each.position, each.part, each.event) for each in found] == expected
        names = {Deposited: "hf_upcast.deposited", FeeCharged: "hf_upcast.fee_charged"}
        assert all(each.type == names[type(each.event)] for each in found)


async def test_upcast_a_subscription_by_name_alone_gives_all_versions_as_they_are() -> None:
    """Where no class is known: the journal's own fields."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", PLAIN, TODAY, RENAMED, FEE)
        events = runtime.subscribe(types=["hf_upcast.deposited"])
        found = [await anext(events) for _ in range(2)]
        assert [(e.type, e.stored_type, e.event) for e in found] == [
            ("hf_upcast.deposited", "hf_upcast.deposited", {"amount": 1}),
            ("hf_upcast.deposited", "hf_upcast.deposited@2", {"cents": 11}),
        ]


async def test_upcast_a_subscription_that_goes_on_between_the_parts_leaves_none_out() -> None:
    """`position` is past an event when its last part was taken; until then it comes again, whole."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", *ALL)
        for left in range(len(EVERYTHING)):
            events = runtime.subscribe(categories=[Account])
            taken = [await anext(events) for _ in range(left)]
            again = runtime.subscribe(after=events.position, categories=[Account])
            rest = [await anext(again) for _ in range(sum(1 for e in EVERYTHING if e[0] > events.position))]
            both = {(e.position, e.part) for e in (*taken, *rest)}
            assert both == {(position, part) for position, part, _ in EVERYTHING}
            assert len(taken) + len(rest) - len(both) <= 1


async def test_upcast_an_event_that_its_class_cannot_take_is_told_to_whoever_looks() -> None:
    """Reading goes on; the payload is there as the journal has it, fields of nobody included."""
    strange = stored("hf_upcast.deposited", 2, {"cents": 1, "colour": "red"})
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", BROKEN, TOO_NEW, strange)
        events = runtime.subscribe(categories=[Account])
        broken, newer, last = [await anext(events) for _ in range(3)]
        for each in (broken, newer):
            with pytest.raises(CodecError):
                _ = each.event
        assert last.event == Deposited(1)
        assert msgspec.msgpack.decode(last.payload) == {"cents": 1, "colour": "red"}


async def test_upcast_read_gives_the_parts_forward_and_backward() -> None:
    """Of one aggregate and of a type."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", *ALL)
        expected = [(version, part, each) for version, part, each in EVERYTHING]
        for how in ((Account,), (Account, "a")):
            assert [(r.version, r.part, r.event) async for r in runtime.read(*how)] == expected
        backward = [(r.version, r.part, r.event) async for r in runtime.read(Account, "a", backward=True)]
        assert backward == expected[::-1]


async def test_upcast_commands_go_on_from_older_events_and_watch_shows_both(tmp_path: Any) -> None:
    """New events behind old ones, over snapshots and reopening."""
    url = f"sqlite:///{tmp_path}/old.db"
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        await write_old(runtime, "a", *ALL)
        states = runtime.watch(Account, "a")
        assert (await anext(states)).cents == CENTS
        for n in range(1, 6):
            assert await runtime.get(Account, "a").deposit(1) == CENTS + n
        await eventually(lambda: _at(states, CENTS + 5))
        assert (await runtime.state_at(Account, "a", version=3)).fees == 16
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        assert await runtime.get(Account, "a").both() == (CENTS + 5, FEES)


async def _at(states: Any, cents: int) -> bool:
    return (await anext(states)).cents == cents


# -- publishers ------------------------------------------------------------------------------------------------------


async def published(*events: Any, sink: Any = None, **how: Any) -> list[Any]:
    """What a sink gets of events of one stream, over two lives that both begin at the beginning."""
    sink = sink or Collecting()
    async with bench() as world:
        for each in events:
            end = await world.append("a", type=each.type, payload=each.payload, category="OldAccount")
        await world.live(sink, end, page=3, batch=2, **how)
        return sink.got


async def test_upcast_what_is_published_of_older_events_is_what_they_are_today() -> None:
    """One envelope for each part, under ids of their own that stay the same; one version for the readers to know."""
    for how in ({"categories": [Account]}, {"types": [Deposited, FeeCharged]}):
        got = await published(*ALL, **how)
        data = [(e.type.rpartition(".")[2], e.attributes.get("eventversion"), msgspec.json.decode(e.data)) for e in got]
        assert data == [
            ("deposited", "2", {"cents": each.cents})
            if isinstance(each, Deposited)
            else ("fee_charged", None, {"cents": each.cents})
            for _, _, each in EVERYTHING
        ]
        assert len({e.id for e in got}) == len(got)
        assert [e.attributes["sequence"].lstrip("0") for e in got] == ["1", "2", "2.1", "3", "5", "6", "6.1", "7", "8"]
        again = await published(*ALL, **how)
        assert [e.id for e in again] == [e.id for e in got]


async def test_upcast_a_publisher_that_knows_no_class_publishes_what_the_journal_holds() -> None:
    """With the version beside it."""
    got = await published(PLAIN, TODAY, RENAMED, types=["hf_upcast.deposited"])
    assert [(e.attributes.get("eventversion"), msgspec.json.decode(e.data)) for e in got] == [
        (None, {"amount": 1}),
        ("2", {"cents": 11}),
    ]


async def test_upcast_a_publisher_of_one_type_finds_it_in_older_events() -> None:
    """And leaves the rest of them."""
    got = await published(*ALL, types=[FeeCharged])
    assert [msgspec.json.decode(e.data)["cents"] for e in got] == [7, 9, 1, 13]


def test_upcast_a_publisher_of_events_that_never_changed_has_the_settings_it_had() -> None:
    """Its code in the journal stays the same over an update of Holdfast; with upcasters they are a part of it."""

    @event("hf_upcast.calm")
    class Calm:
        pass

    calm = Publisher("p", Collecting(), types=[Calm])
    assert set(calm.settings) == {"name", "source", "after", "batch", "data", "categories", "types", "on_error"}
    assert "evolved" in Publisher("p", Collecting(), types=[Deposited]).settings
    assert publisher_plan(calm).code == publisher_plan(Publisher("p", Collecting(), types=["hf_upcast.calm"])).code


# -- Ray -------------------------------------------------------------------------------------------------------------

MAIN = """
import asyncio
from holdfast.actors import Aggregate, command, event, on, query, upcast
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.actors.testing import stored
from holdfast.runtime import Runtime, Sharded

@event("main.deposited", version=2, aliases=("main.paid_in",))
class Deposited:
    cents: int

    @upcast(from_version=1)
    @staticmethod
    def _in_cents(old):
        return [{"cents": old["amount"] * 100}, ("main.fee", {"cents": 1})]

@event("main.fee", split_from=(Deposited,))
class Fee:
    cents: int

class Account(Aggregate):
    cents: int = 0
    fees: int = 0

    @command
    def deposit(self, cents: int) -> int:
        self.emit(Deposited(cents))
        return self.cents

    @query
    def both(self) -> list[int]:
        return [self.cents, self.fees]

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.cents += event.cents

    @on(Fee)
    def _fee(self, event: Fee) -> None:
        self.fees += event.cents

async def main():
    async with Runtime.open("sqlite:///main.db", placement=Sharded(1)) as runtime:
        epoch = await runtime._journal.claim("older", "older")
        old = stored("main.deposited", 1, {"amount": 2}), stored("main.paid_in", 1, {"amount": 3})
        events = tuple(
            NewEvent(type=each.type, payload=each.payload, command_id=str(n), recorded_at=1)
            for n, each in enumerate(old)
        )
        append = Append(stream=StreamId("Account", "a"), owner="older", epoch=epoch, expected_version=0, events=events)
        await runtime._journal.append(append)
        print(await runtime.get(Account, "a").deposit(5), await runtime.get(Account, "a").both())
        print([(r.version, r.part, r.event) async for r in runtime.read(Account, "a")][-2:])

asyncio.run(main())
"""


@pytest.mark.ray
def test_upcast_classes_of_a_program_itself_upcast_in_their_hosts(tmp_path: Any) -> None:
    """Sent by value, with their upcasters."""
    (tmp_path / "program.py").write_text(MAIN)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("(")]
    assert lines == ["505 [505, 2]", "[(2, 1, Fee(cents=1)), (3, 0, Deposited(cents=5))]"]
