"""What the index of reminders must be: a fold over the events of a journal, and nothing else."""

import msgspec

from holdfast.journal.reminders import REMINDER_TYPES

EVER = 1 << 62


def folded(recorded):
    """The five-line model: (stream, name) -> due, of what is pending."""
    index = {}
    for event in recorded:
        if event.type in REMINDER_TYPES:
            said = msgspec.msgpack.decode(event.payload)
            index[event.stream, said["name"]] = said.get("due")
    return {key: due for key, due in index.items() if due is not None}


async def indexed(store, category="Account", until=EVER):
    """The same, as a store tells it; in the order of time, each once."""
    found = await store.due_reminders(category=category, until=until, limit=1_000_000)
    assert [reminder.due for reminder in found] == sorted(reminder.due for reminder in found)
    index = {(reminder.stream, reminder.name): reminder.due for reminder in found}
    assert len(index) == len(found), "a reminder came twice"
    return index
