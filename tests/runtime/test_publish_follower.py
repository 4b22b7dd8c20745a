"""Publishers: at least once, in order per stream, the checkpoint only after the broker has confirmed."""

import asyncio
import logging
import pickle
import random

import pytest
from hf_bank import Account, Deposited
from hf_publish import (
    OWNER,
    Collecting,
    Killed,
    assert_all_in_order,
    away,
    bench,
    first_copies,
    refuses,
)

from holdfast.actors.policy import DeadLetter, Retry, Stop
from holdfast.journal.errors import Fenced
from holdfast.journal.positions import Positions
from holdfast.journal.records import Checkpoint
from holdfast.runtime import (
    EventRefused,
    FollowerStopped,
    Kafka,
    NotAnAggregate,
    Publisher,
    SinkUnavailable,
    Webhook,
)
from holdfast.runtime.dead_letters import NoSuchLetter
from holdfast.runtime.follower import FollowerPhase
from holdfast.runtime.publisher import publisher_plan


async def test_publish_all_there_was_and_all_that_comes():
    """In pages and batches, each event once where nothing fails."""
    async with bench() as world:
        end = await world.append("a", 25)
        end = await world.append("b", 25)
        sink = Collecting()
        desk = await world.live(sink, end, page=20, batch=7)
        assert sink.places == [("a", n) for n in range(1, 26)] + [("b", n) for n in range(1, 26)]
        assert max(sink.batches) == 7
        assert await world.checkpoint() == end
        assert (desk.progress.events, desk.progress.errors, desk.progress.phase) == (50, 0, FollowerPhase.LIVE)


async def test_publish_goes_on_from_the_checkpoint():
    """What was confirmed and saved is not sent again by the next life."""
    async with bench() as world:
        sink = Collecting()
        await world.live(sink, await world.append("a", 5))
        await world.live(sink, await world.append("a", 5))
        assert sink.places == [("a", n) for n in range(1, 11)]


async def test_publish_only_what_is_wanted_and_gets_past_the_rest():
    """By category and type; Holdfast's own events only by name."""
    async with bench() as world:
        await world.append("a")
        await world.append("t", category="Teller")
        await world.append("a", type="account.closed")
        end = await world.append("a", type="holdfast.note")
        all_of_it, some, closed, own = Collecting(), Collecting(), Collecting(), Collecting()
        await world.live(all_of_it, end)
        assert [event.type for event in all_of_it.got] == ["account.deposited", "account.deposited", "account.closed"]
        for sink, wanted in (
            (some, {"categories": [Account], "types": ["account.deposited"]}),
            (closed, {"categories": ["Account", "Teller"], "types": ["account.closed"]}),
            (own, {"types": ["holdfast.note"]}),
        ):
            desk = await world.desk()
            await world.journal.save_checkpoint(Checkpoint(name=OWNER, owner=OWNER, epoch=desk.epoch, position=0))
            await world.live(sink, end, desk=desk, **wanted)
        assert [event.stream for event in some.got] == ["Account/a"]
        assert [event.type for event in closed.got] == ["account.closed"]
        assert [event.type for event in own.got] == ["holdfast.note"]


async def test_publish_the_checkpoint_waits_for_the_broker():
    """While a batch is not confirmed, the checkpoint stays before it."""
    async with bench() as world:
        end = await world.append("a", 10)
        seen = []

        async def look(sink, batch):
            seen.append(await world.checkpoint())

        sink = Collecting(look, look, look)
        await world.live(sink, end, batch=4)
        assert seen == [0, 4, 8]


async def test_publish_a_crash_between_confirmation_and_checkpoint_repeats_with_the_same_ids():
    """At least once, and recognizable."""
    async with bench() as world:
        end = await world.append("a", 5)
        sink = Collecting()
        world.link.dies_at = "save_checkpoint"
        with pytest.raises(Killed):
            await world.live(sink, end)
        assert await world.checkpoint() == 0
        await world.live(sink, end)
        assert [event.id for event in sink.got[:5]] == [event.id for event in sink.got[5:]]
        assert len({event.id for event in sink.got}) == 5


async def test_publish_a_stale_owner_cannot_move_the_checkpoint():
    """It was paused in the middle of a batch, and succeeded meanwhile."""
    async with bench() as world:
        end = await world.append("a", 5)
        sent, resumed = asyncio.Event(), asyncio.Event()

        async def paused(sink, batch):
            sent.set()
            await resumed.wait()

        stale = asyncio.create_task(world.live(Collecting(paused), end))
        await sent.wait()
        successor = Collecting()
        await world.live(successor, end)
        await world.append("a", 5)
        resumed.set()
        with pytest.raises(Fenced):
            await stale
        assert await world.checkpoint() == end
        assert len(successor.got) == 5


async def test_publish_a_stale_owner_that_waits_for_its_broker_ends():
    """It does not try for ever what its successor does."""
    async with bench() as world:
        end = await world.append("a", 5)

        async def succeeded(sink, batch):
            await world.desk()
            raise away()

        with pytest.raises(Fenced):
            await world.live(Collecting(succeeded, *[away() for _ in range(50)]), end)
        assert len(world.pauses.taken) == 1


async def test_publish_waits_for_a_broker_that_is_away_longer_and_longer(caplog):
    """For ever, up to a minute at a time, loudly; and is as fast as ever once it is back."""
    async with bench() as world:
        end = await world.append("a", 5)
        sink = Collecting(*[away() for _ in range(12)])
        with caplog.at_level(logging.WARNING):
            desk = await world.live(sink, end)
        assert world.pauses.taken == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0, 60.0]
        assert sink.places == [("a", n) for n in range(1, 6)]
        assert (desk.progress.errors, desk.progress.retries) == (12, 12)
        assert sum("no connection" in message for message in caplog.messages) == 12
        assert sink.opened[0] == 13
        assert sink.closed[0] == 13  # before each that opens it anew, and at the end


async def test_publish_tells_what_it_waits_for():
    """The statistics say that it retries, and why; afterwards that all is well."""
    async with bench() as world:
        end = await world.append("a", 5)
        desk, phases = await world.desk(), []

        async def look(sink, batch):
            phases.append((desk.progress.phase, desk.progress.problem))

        await world.live(Collecting(away(), look), end, desk=desk)
        assert phases == [(FollowerPhase.RETRYING, "broker: no connection")]
        assert (desk.progress.phase, desk.progress.problem) == (FollowerPhase.LIVE, "")


async def test_publish_waits_as_long_as_the_broker_asks_for():
    """A broker that says when may be asked later than the back-off would, and not sooner."""
    async with bench() as world:
        end = await world.append("a", 5)
        await world.live(Collecting(away(after_s=30.0), away(after_s=0.1)), end)
        assert world.pauses.taken == [30.0, 0.4]


async def test_publish_anything_that_a_sink_raises_is_tried_again():
    """Also a bug in it: the events are in the journal, and can wait."""
    async with bench() as world:
        end = await world.append("a", 5)
        sink = Collecting(ZeroDivisionError("oops"), OSError("broken pipe"))
        await world.live(sink, end)
        assert sink.places == [("a", n) for n in range(1, 6)]


async def test_publish_an_event_that_is_refused_stops_it_where_it_is():
    """The default: nothing is left out unless somebody says so."""
    async with bench() as world:
        end = await world.append("a", 5)
        sink = Collecting(refuses("a", 3))
        with pytest.raises(FollowerStopped, match=r"Account/a version 3 cannot be published: broker: no"):
            await world.live(sink, end)
        assert sink.places == [("a", 1), ("a", 2)]
        assert await world.checkpoint() == 0
        await world.live(sink, end)  # mended, and started again
        assert_all_in_order(sink.places, ["a"], 5)


async def test_publish_an_event_that_is_refused_may_become_a_dead_letter(caplog):
    """It is logged with its place and counted, and those after it are published."""
    async with bench() as world:
        await world.append("a", 5)
        end = await world.append("b", 2)
        sink = Collecting(refuses("a", 3))
        desk = await world.live(sink, end, on_error=DeadLetter())
        assert first_copies(sink.places) == {"a": [1, 2, 4, 5], "b": [1, 2]}
        assert len(sink.places) == 6  # what was confirmed with the refusal was not sent again
        assert desk.progress.dead_letters == 1
        assert "dead letter: Account/a version 3 cannot be published" in caplog.text
        assert world.pauses.taken == []


async def test_publish_a_dead_letter_stays_one_over_lives_until_it_is_replayed():
    """It is an event of the journal: its page may come again, without another try. Replayed it goes out by itself, and
    what fails again stays."""
    async with bench() as world:
        end = await world.append("a", 3)
        sink = Collecting(refuses("a", 2))
        await world.live(sink, end, on_error=DeadLetter())
        desk = await world.desk()
        follower = world.follower(sink, on_error=DeadLetter())
        await world.journal.save_checkpoint(Checkpoint(name=OWNER, owner=OWNER, epoch=desk.epoch, position=0))
        running = asyncio.create_task(follower.run(desk))
        assert await desk.progress.wait(Positions((end,)), 30)
        assert sink.places == [("a", 1), ("a", 3), ("a", 1), ("a", 3)]
        (letter,) = await follower.dead_letters()
        assert (letter.place, letter.id, letter.attempts, desk.progress.dead_letters) == ((0, 2), "a", 1, 1)
        assert "broker: no" in letter.problem
        sink.troubles.append(refuses("a", 2))
        with pytest.raises(EventRefused):
            await follower.replay(0, 2)
        assert len(await follower.dead_letters()) == 1
        await follower.replay(0, 2)
        assert sink.places[4:] == [("a", 2)]
        assert (await follower.dead_letters(), desk.progress.dead_letters) == ([], 0)
        with pytest.raises(NoSuchLetter):
            await follower.replay(0, 2)
        running.cancel()
        await asyncio.wait({running})
        await follower.close()


async def test_publish_a_refusal_of_what_was_confirmed_is_nobody_s_fault():
    """A sink that says both, of the last event of a batch: what is confirmed is."""

    async def both(sink, batch):
        sink.got.extend(batch)
        raise EventRefused("broker", "no", batch[-1].id, tuple(event.id for event in batch))

    async with bench() as world:
        end = await world.append("a", 3)
        sink = Collecting(both)
        desk = await world.live(sink, end)
        assert sink.places == [("a", 1), ("a", 2), ("a", 3)]
        assert desk.progress.phase is FollowerPhase.LIVE


@pytest.mark.parametrize("then", ["dead letter", "stop"])
async def test_publish_an_event_that_the_broker_fails_at_is_tried_as_often_as_the_policy_says(then):
    """And then set aside, or stopped at; the patience is the policy's."""
    async with bench() as world:
        end = await world.append("a", 3)
        sink = Collecting(*[refuses("a", 2, error=SinkUnavailable)] * 3)
        policy = Retry(times=2, first_s=1.0, most_s=1.5, then=then)
        if then == "stop":
            with pytest.raises(FollowerStopped, match="version 2"):
                await world.live(sink, end, on_error=policy)
        else:
            await world.live(sink, end, on_error=policy)
            assert sink.places == [("a", 1), ("a", 3)]
        assert world.pauses.taken == [1.0, 1.5]


async def test_publish_a_broker_that_is_away_is_no_business_of_the_policy():
    """A `Retry` counts only what is one event's fault: else an hour without a broker would set everything aside."""
    async with bench() as world:
        end = await world.append("a", 3)
        sink = Collecting(*[away() for _ in range(20)])
        desk = await world.live(sink, end, on_error=Retry(times=2, then="dead letter"))
        assert sink.places == [("a", 1), ("a", 2), ("a", 3)]
        assert desk.progress.dead_letters == 0


@pytest.mark.parametrize("policy", [Stop(), DeadLetter()], ids=repr)
async def test_publish_an_event_that_fits_into_no_envelope_is_dealt_with_in_its_turn(policy):
    """What is before it is published first; then its policy says."""
    async with bench() as world:
        await world.append("a", 2)
        await world.append("a", payload=b"\x81\xa1x\xc7\x01\x05x")  # an extension type, which JSON has not
        end = await world.append("a", 2)
        sink = Collecting()
        if isinstance(policy, Stop):
            with pytest.raises(FollowerStopped, match="version 3"):
                await world.live(sink, end, on_error=policy)
            assert sink.places == [("a", 1), ("a", 2)]
        else:
            await world.live(sink, end, on_error=policy)
            assert sink.places == [("a", 1), ("a", 2), ("a", 4), ("a", 5)]
        raw = Collecting()
        await world.live(raw, end, data="msgpack")
        assert len(raw.got) == (5 if isinstance(policy, Stop) else 0)


@pytest.mark.parametrize("seed", range(20))
async def test_publish_keeps_the_order_of_each_stream_whatever_fails(seed):
    """Batches lost before and after they were taken, events that fail for a while, crashes: a first copy is never
    overtaken, and none is missing."""
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def lost_unheard(sink, batch):
        sink.got.extend(batch[: chance.randrange(len(batch) + 1)])
        raise away()

    async with bench() as world:
        sink, end = Collecting(), 0
        for _ in range(30):
            end = await world.append(chance.choice("abc"))
        for _ in range(40):
            one = refuses(chance.choice("abc"), chance.randrange(1, 12), error=SinkUnavailable)
            sink.troubles.append(chance.choice([None, away(), lost_unheard, one]))
        counts = {stream.id: version for stream, version in world._versions.items()}
        for _ in range(3):
            world.link.dies_at = chance.choice(["save_checkpoint", "confirm", ""])
            try:
                await world.live(sink, end, page=chance.randrange(1, 40), batch=chance.randrange(1, 12))
            except Killed:
                continue
        world.link.dies_at = ""
        await world.live(sink, end)
        assert first_copies(sink.places) == {id: list(range(1, count + 1)) for id, count in counts.items()}


async def test_publish_from_now_on_leaves_out_what_was_before():
    """And what comes before the first life has published anything is not left out by the second."""
    async with bench() as world:
        await world.append("a", 3)
        first, sink = world.follower(Collecting(), after="now"), Collecting()
        assert await first.begin(await world.desk()) == Positions((3,))  # and is killed
        end = await world.append("a", 2)
        await world.live(sink, end, after="now")
        assert sink.places == [("a", 4), ("a", 5)]


async def test_publish_from_now_on_in_an_empty_journal_means_everything_that_comes():
    """Position 0 was decided on, which is not the same as nothing decided."""
    async with bench() as world:
        follower, sink = world.follower(Collecting(), after="now"), Collecting()
        assert await follower.begin(await world.desk()) == Positions((0,))
        end = await world.append("a", 2)
        await world.live(sink, end, after="now")
        assert sink.places == [("a", 1), ("a", 2)]


async def test_publish_after_a_position_begins_there_once():
    """Positions of another journal are refused."""
    async with bench() as world:
        end = await world.append("a", 5)
        sink = Collecting()
        await world.live(sink, end, after=Positions((3,)))
        await world.live(sink, await world.append("a", 1), after=Positions((3,)))
        assert sink.places == [("a", 4), ("a", 5), ("a", 6)]
        with pytest.raises(FollowerStopped, match="partitions"):
            await world.live(sink, end, after=Positions((3, 4)))


async def test_publish_a_slow_broker_holds_two_pages_and_no_writer():
    """Writers append while a batch hangs; the publisher asks for nothing more meanwhile."""
    async with bench() as world:
        sent, taken = asyncio.Event(), asyncio.Event()

        async def hangs(sink, batch):
            sent.set()
            await taken.wait()

        await world.append("a", 10)
        sink = Collecting(hangs)
        living = asyncio.create_task(world.live(sink, 510, page=10))
        await sent.wait()
        asked = world.link.asked.count("follow")
        for _ in range(5):
            await world.append("a", 100)
        assert world.link.asked.count("follow") == asked
        taken.set()
        await living
        assert_all_in_order(sink.places, ["a"], 510)
        assert max(sink.batches) == 10


async def test_publish_a_rare_type_does_not_write_to_the_journal_for_every_page():
    """A checkpoint that only moves past other people's events can wait."""
    async with bench() as world:
        end = await world.append("a", 50)
        await world.live(Collecting(), end, page=5, types=["account.closed"])
        assert world.link.asked.count("save_checkpoint") == 0
        end = await world.append("a", 1, type="account.closed")
        await world.live(Collecting(), end, page=5, types=["account.closed"])
        assert world.link.asked.count("save_checkpoint") == 1
        assert await world.checkpoint() == end


def test_publish_a_declaration_is_checked_where_it_is_made():
    """And says which publisher."""
    sink = Collecting()
    for error, arguments in (
        (ValueError, {"name": ""}),
        (TypeError, {"sink": object()}),
        (ValueError, {"data": "xml"}),
        (ValueError, {"after": "yesterday"}),
        (ValueError, {"batch": 0}),
        (ValueError, {"on_error": "stop"}),
        (TypeError, {"categories": "Account"}),
        (TypeError, {"types": [int]}),
        (NotAnAggregate, {"categories": [int]}),
    ):
        with pytest.raises(error):
            Publisher(**{"name": "test", "sink": sink, **arguments})


def test_publish_a_declaration_survives_pickling_and_another_one_is_other_code():
    """The same settings are the same code in any process; a new secret is not, and nobody is shown it."""
    made = Publisher("bank", Webhook("https://example.org", b"old secret"), categories=[Account], types=[Deposited])
    plan = publisher_plan(pickle.loads(pickle.dumps(made)))
    assert (plan.name, plan.code) == ("publisher/bank", publisher_plan(made).code)
    same = Publisher("bank", Webhook("https://example.org", b"old secret"), types=[Deposited], categories=["Account"])
    assert publisher_plan(same).code == plan.code
    other = Publisher("bank", Webhook("https://example.org", b"new secret"), categories=[Account], types=[Deposited])
    assert publisher_plan(other).code != plan.code
    assert "secret" not in repr(made)
    assert "hunter2" not in repr(Kafka("localhost:1", topic="t", options={"sasl_plain_password": "hunter2"}))
