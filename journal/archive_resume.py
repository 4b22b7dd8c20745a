"""Going on with an archive that was cut short: what of it is whole, and what comes next.

Each frame is read and checked as an import would. What counts is the last whole frame of keyed replies or events:
whatever stands after it is cut off, and written again. Checkpoints and snapshots are few, and come anew.

Before this: a file that an export left without its end. After this: the export goes on where it stopped.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from .archive import COMPRESSIONS, EVENTS, KEYS, Header, encode_record, fact_of
from .archive_digest import ContentsDigest
from .archive_errors import ArchiveDamaged, ArchiveMismatch
from .archive_frames import Chain
from .archive_reader import ArchiveReader, Placed
from .archive_source import ArchiveSource

__all__ = ["Begun", "begun_in", "check_begun"]


@dataclass(slots=True, kw_only=True)
class Begun:
    """What is there of an archive. `size`: bytes of it that are whole, and stay. `ended`: nothing is missing."""

    header: Header
    chain: Chain | None = None
    contents: ContentsDigest | None = None
    size: int = 0
    last_key: tuple[str, str, str] | None = None
    last_events: Sequence[Placed] = ()
    ended: bool = False

    @property
    def has_events(self) -> bool:
        """Whether its keyed replies are all there."""
        return bool(self.last_events)


def begun_in(file: BinaryIO, name: str) -> Begun:
    """What is whole of the archive in a file. Raises `NotAnArchive`, `ArchiveTooNew`; `ArchiveTorn`
    where there is a part of a header, and nothing to go on from."""
    reader = ArchiveReader(file, name)
    begun = Begun(header=reader.open(), chain=reader.chain.copy(), contents=reader.digest, size=reader.offset)
    last: dict[int, Placed] = {}
    whole = 0, 0
    try:
        for block in reader.blocks():
            if block.section not in (KEYS, EVENTS):
                continue
            if block.keys:
                begun.last_key = block.keys[-1].category, block.keys[-1].id, block.keys[-1].key
            last.update((event.partition, event) for event in block.events)
            begun.last_events = list(last.values())
            begun.size, begun.chain = block.end, reader.chain.copy()
            whole = reader.digest.events, reader.digest.keyed_replies
        begun.ended = True
    except ArchiveDamaged:  # what is damaged is written again, and all that comes after it
        if whole != (reader.digest.events, reader.digest.keyed_replies):
            raise  # its digests are right and its records are not: nobody of ours wrote that
    return begun


async def check_begun(
    begun: Begun,
    sources: Sequence[ArchiveSource],
    *,
    categories: Collection[str],
    snapshots: bool,
    compress: bool,
    name: str,
) -> None:
    """Raise `ArchiveMismatch` unless this is an archive of that journal, begun as is asked for now."""
    header = begun.header
    asked = tuple(sorted(set(categories))), snapshots, COMPRESSIONS[compress]
    if (header.categories, header.snapshots, header.compression) != asked:
        raise ArchiveMismatch(name, "it was begun with other options")
    heads = tuple([await source.head() for source in sources])
    if len(heads) != header.partitions or any(cut > head for cut, head in zip(header.upto, heads, strict=True)):
        raise ArchiveMismatch(name, f"it was begun of a journal that goes up to {header.upto}, this one to {heads}")
    for placed in begun.last_events:
        before = placed.position - 1
        async for page in sources[placed.partition].events(before, placed.position, header.categories):
            if [encode_record(fact_of(event)) for event in page] != [encode_record(placed.fact)]:
                problem = f"it was begun of another journal: this one has another event at position {placed.position}"
                raise ArchiveMismatch(name, problem)
