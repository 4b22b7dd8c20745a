"""Opening the catalogues of a journal by its URL: one for each partition, whether or not the URL tells how many."""

from contextlib import AsyncExitStack

from .catalogue import Catalogue
from .errors import ForeignPartition, JournalOpenError, PartitionConflict
from .partition import Partition
from .postgres import PostgresStore
from .postgres_catalogue import PostgresCatalogue
from .sqlite_catalogue import SqliteCatalogue
from .sqlite_partitions import partition_path
from .url import JournalUrl

__all__ = ["open_catalogues"]


async def open_catalogues(url: str) -> list[Catalogue]:
    """All partitions, in order, opened beside their writers; nothing is created. Raises `JournalUrlError`,
    `JournalOpenError`s, `JournalUnavailable` where no server answers."""
    parsed = JournalUrl.parse(url)
    async with AsyncExitStack() as opened:
        found: list[Catalogue] = []
        count = parsed.partitions
        while len(found) < count:
            catalogue = await _open(parsed, Partition(len(found), count))
            opened.push_async_callback(catalogue.close)
            if not found and parsed.partitions == 1:
                count = catalogue.membership.partition.count
            asked = Partition(len(found), count)
            if catalogue.membership.partition != asked:
                raise PartitionConflict(catalogue.name, str(catalogue.membership.partition), str(asked))
            found.append(catalogue)
            _check_journal(catalogue, found[0])
        opened.pop_all()
    return found


async def _open(url: JournalUrl, partition: Partition) -> Catalogue:
    if url.scheme == "sqlite":
        return await SqliteCatalogue.open(partition_path(url.path, partition))
    store = url.store(partition.number)
    if isinstance(store, PostgresStore):
        return await PostgresCatalogue.open(store.door)
    raise JournalOpenError(url.redacted, f"a journal of kind {url.scheme} cannot be looked at by its URL")


def _check_journal(catalogue: Catalogue, first: Catalogue) -> None:
    found, wanted = catalogue.membership.journal_id, first.membership.journal_id
    if found != wanted:
        raise ForeignPartition(catalogue.name, found.hex(), wanted.hex())
