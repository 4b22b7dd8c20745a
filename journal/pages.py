"""Pages: how much one answer of a journal may hold. By count, as its reader asks; and by bytes, as told here.

An event may be sixteen megabytes and a page a thousand events, so the count alone bounds nothing. A page ends before
the event that would take it over `PAGE_BYTES_MAX`; one event goes even if it is larger, so that every page gets its
reader on. **A page that is short is not the end: the end is a page without events.**
"""

from collections.abc import Callable, Iterable, Sequence

from .errors import JournalBusy, JournalError
from .records import Load, Loaded, NewEvent, Recorded

__all__ = [
    "EARLIEST",
    "LATEST",
    "LOADS_BYTES_MAX",
    "NUMBER_MAX",
    "PAGE_BYTES_MAX",
    "answer_loads",
    "bounded",
    "page_of",
    "weight",
]

PAGE_BYTES_MAX = 8 << 20
"""Bytes of payload, metadata and replies in one page, unless it is a single event."""

LOADS_BYTES_MAX = 32 << 20
"""Bytes of snapshots and events in the answer to one batch of loads, beyond which its other loads are put off."""

NUMBER_MAX = (1 << 63) - 1
"""The largest version, position, time or count that a journal knows: 64 bits, signed."""

EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The times that a `datetime` can tell, in µs since 1970 UTC: of the years 1 to 9999."""


def weight(event: Recorded | NewEvent) -> int:
    """What an event counts for against the bytes of a page."""
    reply = event.reply
    return len(event.payload) + len(event.metadata) + (0 if reply is None else len(reply))


def page_of(events: Iterable[Recorded]) -> list[Recorded]:
    """The first of these events that make a page. Takes one more from them than it returns, at most."""
    page: list[Recorded] = []
    left = PAGE_BYTES_MAX
    for event in events:
        left -= weight(event)
        if left < 0 and page:
            break
        page.append(event)
    return page


def answer_loads(
    batch: Sequence[Load], load: Callable[[Load], tuple[Loaded | JournalError, int]]
) -> list[Loaded | JournalError]:
    """Load one after the other, until their bytes have used up the batch's; the first is always answered. The rest
    get `JournalBusy`: asked again, in a batch of their own, they come first.

    `load`: one answer, and the bytes that its events and snapshot took where they are stored."""
    answers: list[Loaded | JournalError] = []
    left = LOADS_BYTES_MAX
    for each in batch:
        if left < 0:
            answers.append(JournalBusy("one batch of loads (bytes)", LOADS_BYTES_MAX))
            continue
        answer, size = load(each)
        answers.append(answer)
        left -= size
    return answers


def bounded(number: int) -> int:
    """A count or a place as a reader gave it, brought into what a journal knows."""
    return min(max(number, 0), NUMBER_MAX)
