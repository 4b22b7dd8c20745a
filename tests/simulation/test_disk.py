"""The simulated disk: checkpoints and reminders last as events do, whoever dies, and a torn commit leaves neither."""

import random

import msgspec
import pytest

from holdfast.journal.errors import Fenced, JournalFailed
from holdfast.journal.records import Append, Checkpoint, NewEvent, Reminder, StreamId
from holdfast.journal.reminders import SET

from .clock import Clock
from .disk import Disk, SimulatedStore
from .faults import Faults

ALICE = StreamId("Account", "alice")


class World:
    """One disk, and processes that come and go."""

    def __init__(self, *kinds):
        self.clock = Clock(random.Random(7))
        self.faults = Faults(random.Random(7), kinds or ("message slow",))
        self.disk = Disk(self.faults)

    def live(self, life):
        """A new process opens the disk and lives; then it is killed."""
        process = self.clock.process("journal", 0.001)

        async def work():
            store = SimulatedStore(self.disk)
            await store.open()
            return await life(store)

        task = process.create_task(work())
        self.clock.run_until(task.done, 60.0, 100_000)
        process.kill()
        return task.result()


def reminding(at, name, due):
    payload = msgspec.msgpack.encode({"name": name, "due": due})
    event = NewEvent(type=SET, payload=payload, command_id=f"c{at}", recorded_at=0)
    return Append(stream=ALICE, owner="host", epoch=1, expected_version=at, events=(event,))


def checkpoint(position, epoch=1):
    return Checkpoint(name="balances", owner="host", epoch=epoch, position=position)


def test_checkpoints_and_reminders_outlive_the_process_that_saved_them():
    """The next process finds them, and who was fenced moves nothing."""
    world = World()

    async def first(store):
        await store.claim("host", "first")
        await store.append([reminding(0, "a", 7), reminding(1, "b", 8)])
        await store.append([reminding(2, "b", None)])
        await store.save_checkpoint(checkpoint(3))

    async def second(store):
        await store.claim("host", "second")
        with pytest.raises(Fenced):
            await store.save_checkpoint(checkpoint(9))
        return await store.find_checkpoint("balances"), await store.due_reminders(category="Account", until=100)

    world.live(first)
    assert world.live(second) == (3, [Reminder(stream=ALICE, name="a", due=7)])


def test_a_torn_commit_leaves_no_checkpoint_and_no_reminder():
    """What was cut short is dropped by whoever opens the disk next, whole."""
    world = World("disk tears")

    async def first(store):
        world.faults.healed = True
        await store.claim("host", "first")
        world.faults.healed, world.faults.rates = False, {"disk tears": 1.0}
        with pytest.raises(JournalFailed):
            await store.append([reminding(0, "a", 7)])
        with pytest.raises(JournalFailed):
            await store.save_checkpoint(checkpoint(3))
        world.faults.heal()

    async def second(store):
        return await store.find_checkpoint("balances"), await store.due_reminders(category="Account", until=100)

    world.live(first)
    assert world.live(second) == (0, [])
    assert world.disk.repairs == 1
