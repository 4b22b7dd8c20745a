"""The storages of a partitioned journal: made together, each knowing its place, and never taken for another one."""

import asyncio
import contextlib
import os
import subprocess
import sys

import postgres_server
import pytest

from holdfast.journal import sqlite_file
from holdfast.journal.errors import (
    ForeignPartition,
    JournalLocked,
    JournalOpenError,
    JournalUnavailable,
    PartitionConflict,
)
from holdfast.journal.partition import Partition, partition_of
from holdfast.journal.records import StreamId
from holdfast.journal.sqlite_file import SqliteOptions, connect_writer, membership_of
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_sources


class Files:
    """A journal in files."""

    def __init__(self, folder):
        self.path = folder / "bank.db"

    def url(self, count):
        return f"sqlite:///{self.path}?partitions={count}&lock_wait_s=0"

    def beside(self, number):
        """A journal of its own, where a partition would be."""
        return f"sqlite:///{self.path}.p{number}?lock_wait_s=0"

    async def there(self):
        names = (path.name for path in self.path.parent.iterdir())
        return sorted(name for name in names if not name.endswith((".writer", "-wal", "-shm", "another")))

    async def lose(self, number):
        os.unlink(self.path_of(number))

    async def replace(self, number, other):
        """Have that partition of another journal in the place of ours."""
        os.replace(other.path_of(number), self.path_of(number))

    async def content(self, number):
        return self.path_of(number).read_bytes()

    def path_of(self, number):
        return self.path.with_name(self.made[number])

    def another(self):
        folder = self.path.parent / "another"
        folder.mkdir()
        return Files(folder)

    made = ["bank.db", "bank.db.p1", "bank.db.p2"]


class Schemas:
    """A journal in the schemas of a database."""

    def __init__(self, folder):
        self.server = postgres_server.server()
        self.name = self.server.schema()
        self.made = [self.name, f"{self.name}_p1", f"{self.name}_p2"]

    def url(self, count):
        return self.server.url(self.name, partitions=count)

    def beside(self, number):
        return self.server.url(f"{self.name}_p{number}")

    async def there(self):
        async with self.server.raw() as raw:
            found = await raw.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ $1", f"^{self.name}(_|$)")
        return sorted(name for (name,) in found)

    async def lose(self, number):
        async with self.server.raw() as raw:
            await raw.execute(f"DROP SCHEMA {self.made[number]} CASCADE")

    async def replace(self, number, other):
        await self.lose(number)
        async with self.server.raw() as raw:
            await raw.execute(f"ALTER SCHEMA {other.made[number]} RENAME TO {self.made[number]}")

    async def content(self, number):
        async with self.server.raw(self.made[number]) as raw:
            return [await raw.fetch(f"TABLE {table}") for table in ("journal", "writer", "owners")]

    def another(self):
        return Schemas(None)


@pytest.fixture(params=[Files, Schemas])
def place(request, tmp_path):
    return request.param(tmp_path)


@contextlib.asynccontextmanager
async def opened(url, number=0):
    store = open_store(url, number)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def refused(kind, url, number=0):
    with pytest.raises(JournalOpenError if kind is not JournalUnavailable else kind) as error:
        async with opened(url, number):
            pass
    assert type(error.value) is kind
    return error.value


async def test_the_first_partition_makes_them_all(place):
    """None of the others makes itself: until the first one has been opened, it is to be asked again."""
    for number in (2, 1):
        assert (await refused(JournalUnavailable, place.url(3), number)).retryable
    assert await place.there() == []
    async with opened(place.url(3)):
        assert await place.there() == place.made
    for number in (2, 1, 0):
        async with opened(place.url(3), number) as store:
            assert await store.head() == 0


@pytest.mark.parametrize("asked", [1, 2, 4])
async def test_another_count_is_refused_with_both(place, asked):
    """And nothing is made, or changed: it opens as what it is."""
    async with opened(place.url(3)) as store:
        await store.claim("host", "first")
    error = await refused(PartitionConflict, place.url(asked))
    assert (error.recorded, error.asked) == ("partition 0 of 3", f"partition 0 of {asked}")
    assert error.recorded in str(error)
    assert error.asked in str(error)
    assert await place.there() == place.made
    async with opened(place.url(3)) as store:
        await store.confirm("host", 1)


async def test_a_journal_without_partitions_gets_none(place):
    """It is partition 0 of 1."""
    async with opened(place.url(1)):
        pass
    error = await refused(PartitionConflict, place.url(2))
    assert (error.recorded, error.asked) == ("partition 0 of 1", "partition 0 of 2")
    assert await place.there() == place.made[:1]


@pytest.mark.parametrize(("made", "number", "asked"), [(2, 3, 4), (2, 1, 4), (2, 1, 3), (1, 1, 2)])
async def test_a_partition_that_its_journal_never_had_was_not_lost(place, made, number, asked):
    """It was asked for with another count, and hears of both."""
    async with opened(place.url(made)):
        pass
    error = await refused(PartitionConflict, place.url(asked), number)
    assert (error.recorded, error.asked) == (f"partition 0 of {made}", f"partition {number} of {asked}")
    assert await place.there() == place.made[:made]


async def test_a_partition_of_another_journal_is_refused(place):
    """Number and count are right, and yet its events are others, under other epochs."""
    other = place.another()
    for each in (place, other):
        async with opened(each.url(2)), opened(each.url(2), 1) as store:
            await store.claim("host", "first", 1)
    await place.replace(1, other)
    before = [await place.content(number) for number in range(2)]
    error = await refused(ForeignPartition, place.url(2), 1)
    assert error.recorded != error.wanted
    assert "another journal" in str(error)
    for url in (place.url(1), place.url(2)):
        with pytest.raises(ForeignPartition) as found:
            await open_sources(url)
        assert (found.value.recorded, found.value.wanted) == (error.recorded, error.wanted)
    assert [await place.content(number) for number in range(2)] == before
    async with opened(place.url(2)) as first:
        assert await first.head() == 0


async def test_a_partition_that_is_gone_is_not_made_again(place):
    """Its streams would begin anew."""
    async with opened(place.url(3)):
        pass
    await place.lose(1)
    assert "lost" in str(await refused(JournalOpenError, place.url(3), 1))
    async with opened(place.url(3)), opened(place.url(3), 2):
        pass
    assert await place.there() == [place.made[0], place.made[2]]


@pytest.mark.parametrize("asked", [1, 2, 3, 4])
async def test_a_first_partition_that_is_gone_is_not_made_again(place, asked):
    """It had the epochs. What there is stays as it is, also where the URL says another count, or none."""
    async with opened(place.url(3)), opened(place.url(3), 2) as last:
        await last.claim("host", "first", 1)
    await place.lose(0)
    assert "lost" in str(await refused(JournalOpenError, place.url(asked)))
    assert await place.there() == place.made[1:]


async def test_a_journal_beside_it_that_is_no_partition_is_not_in_its_way(place):
    """What has such a name may be another journal."""
    async with opened(place.beside(1)) as other:
        await other.claim("host", "first")
    async with opened(place.url(1)) as store:
        assert await store.head() == 0
    assert await place.there() == place.made[:2]


async def test_partitions_are_written_by_one_process_each(place):
    """Two writers of one are refused, of two not."""
    async with opened(place.url(2)), opened(place.url(2), 1):
        for number in (0, 1):
            await refused(JournalLocked, place.url(2), number)


async def test_a_file_in_the_place_of_another_is_refused(tmp_path):
    """Its own word counts, not its name."""
    place = Files(tmp_path)
    async with opened(place.url(3)):
        pass
    first, second = (f"{place.path}.p{number}" for number in (1, 2))
    os.rename(first, place.path.with_name("aside"))
    os.rename(second, first)
    error = await refused(PartitionConflict, place.url(3), 1)
    assert (error.path, error.recorded, error.asked) == (first, "partition 2 of 3", "partition 1 of 3")
    assert (await refused(PartitionConflict, f"sqlite:///{first}")).asked == "partition 0 of 1"


async def test_a_journal_of_schema_1_is_partition_0_of_1(tmp_path, monkeypatch):
    """Opened as that it is migrated; opened as anything else it stays what it is."""
    place = Files(tmp_path)
    with monkeypatch.context() as before:
        before.setattr(sqlite_file, "_MIGRATIONS", ("schema.sql",))
        connect_writer(place.path, SqliteOptions()).close()
    old = place.path.read_bytes()
    assert (await refused(PartitionConflict, place.url(2))).recorded == "partition 0 of 1"
    assert place.path.read_bytes() == old
    async with opened(place.url(1)):
        pass
    with contextlib.closing(sqlite_file.connect_reader(place.path, SqliteOptions())) as raw:
        migrated = sqlite_file.recorded_membership(raw, place.path)
        assert (migrated.partition, len(migrated.journal_id)) == (Partition(0, 1), 16)


async def test_what_two_starts_left_behind_is_no_one_journal(tmp_path):
    """A file that was moved while there was no partition 0 yet: none is made to go with it."""
    place = Files(tmp_path)
    for number in (1, 2):
        id = bytes([number]) * 16
        connect_writer(place.path_of(number), SqliteOptions(), Partition(number, 3), id).close()
    error = await refused(ForeignPartition, place.url(3))
    assert (error.path, error.recorded, error.wanted) == (str(place.path_of(2)), "02" * 16, "01" * 16)
    assert await place.there() == place.made[1:]


async def test_what_is_recorded_stays(tmp_path):
    """No tool turns a journal into another layout by mistake."""
    async with opened(Files(tmp_path).url(2)):
        pass
    for statement in (
        "UPDATE journal SET partitions = 3",
        "UPDATE journal SET id = zeroblob(16)",
        "DELETE FROM journal",
    ):
        with (
            contextlib.closing(sqlite_file.sqlite3.connect(tmp_path / "bank.db.p1")) as raw,
            pytest.raises(sqlite_file.sqlite3.IntegrityError, match="fixed"),
        ):
            raw.execute(statement)


async def test_a_partition_may_lie_on_another_disk(tmp_path):
    """Where its name is a link to; two names of one journal are one journal."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "bank.db.p1").symlink_to(elsewhere / "second.db")
    (tmp_path / "other.db").symlink_to(tmp_path / "bank.db")
    async with opened(f"sqlite:///{tmp_path}/other.db?partitions=2"):
        pass
    assert (elsewhere / "second.db").stat().st_size > 0
    async with opened(Files(tmp_path).url(2), 1):
        assert (elsewhere / "second.db-wal").exists()


CRASH = """
import os, signal, sys
from holdfast.journal import sqlite_partitions
from holdfast.journal.url import open_store
import asyncio
left = int(sys.argv[2])
connect = sqlite_partitions.connect_writer
def crashing(*args):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return connect(*args)
sqlite_partitions.connect_writer = crashing
from holdfast.journal import sqlite
sqlite.connect_writer = crashing
asyncio.run(open_store(sys.argv[1]).open())
"""


@pytest.mark.parametrize("made", range(3))
async def test_a_crash_while_they_are_made_leaves_what_the_next_start_accepts(tmp_path, made):
    """However many there are by then: the first one is the last that is made."""
    place = Files(tmp_path)
    command = [sys.executable, "-c", CRASH, place.url(3), str(made)]
    killed = await asyncio.to_thread(subprocess.run, command, check=False)
    assert killed.returncode == -9
    assert await place.there() == place.made[1 : 1 + made]
    await refused(JournalUnavailable, place.url(3), 1)
    before = [membership_of(place.path_of(number)).journal_id for number in range(1, 1 + made)]
    async with opened(place.url(3)), opened(place.url(3), 1), opened(place.url(3), 2):
        assert await place.there() == place.made
        ids = {membership_of(place.path_of(number)).journal_id for number in range(3)}
    assert len(ids) == 1
    assert ids >= set(before)


@pytest.mark.parametrize(
    ("name", "count", "number"),
    [("Account/alice", 4, 2), ("Account/bob", 4, 1), ("Wallet/ann", 4, 2), ("log/ä", 7, 3), ("x/y/z", 64, 43)],
)
def test_where_a_stream_lies_never_changes(name, count, number):
    """Part of the format: these were worked out with another program's CRC-32."""
    assert partition_of(StreamId(*name.split("/", 1)), count) == number


def test_streams_spread_evenly():
    """No partition of four has more than a tenth above its share of ten thousand."""
    numbers = [partition_of(StreamId("Account", f"{number}"), 4) for number in range(10_000)]
    assert max(map(numbers.count, range(4))) < 2750
