"""URLs: what names a journal, and what is answered when one does not."""

import os

import pytest

from holdfast.journal.errors import JournalUrlError
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.url import JournalUrl, open_store


def test_memory_is_a_store_in_memory():
    """And takes nothing else."""
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///bank.db", "bank.db"),
        ("sqlite:///data/bank.db", "data/bank.db"),
        ("sqlite:////var/lib/bank.db", "/var/lib/bank.db"),
        ("sqlite:///a%20b%3F%23%25.db", "a b?#%.db"),
        ("sqlite:///b%C3%A4nk.db", "bänk.db"),
        ("sqlite:///bänk.db", "bänk.db"),
        ("SQLITE:///bank.db", "bank.db"),
    ],
)
def test_three_slashes_are_followed_by_the_path(url, path):
    """Percent-decoded; a fourth slash makes it absolute."""
    assert JournalUrl.parse(url).path == path


def test_options_are_read_with_their_types():
    """Each of the three, and none is the default."""
    assert JournalUrl.parse("sqlite:///j.db").options == {}
    parsed = JournalUrl.parse("sqlite:///j.db?synchronous=normal&cache_mib=128&lock_wait_s=0.5")
    assert parsed.options == {"synchronous": "normal", "cache_mib": 128, "lock_wait_s": 0.5}
    assert isinstance(parsed.store(), SqliteStore)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "accepted are memory://"),
        ("bank.db", "accepted are memory://, sqlite:///relative.db"),
        ("/var/lib/bank.db", "accepted are memory://"),
        ("mysql://host/db", "names no kind of journal"),
        ("sqlite:bank", "sqlite:///relative.db"),
        ("sqlite://bank.db", "three slashes"),
        ("sqlite://", "path is missing"),
        ("sqlite:///", "path is missing"),
        ("sqlite:///?cache_mib=1", "path is missing"),
        ("sqlite:///a.db#b", "%23"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///a%ff", "utf-8"),
        ("sqlite:///a.db?sync=full", "unknown option 'sync'; accepted are synchronous, cache_mib, lock_wait_s"),
        ("sqlite:///a.db?synchronous=off", "accepted are full, normal"),
        ("sqlite:///a.db?synchronous=", "accepted are full, normal"),
        ("sqlite:///a.db?cache_mib=0", "from 1 to 65536"),
        ("sqlite:///a.db?cache_mib=-1", "from 1 to 65536"),
        ("sqlite:///a.db?cache_mib=1.5", "from 1 to 65536"),
        ("sqlite:///a.db?lock_wait_s=-1", "seconds from 0"),
        ("sqlite:///a.db?lock_wait_s=nan", "seconds from 0"),
        ("sqlite:///a.db?lock_wait_s=inf", "seconds from 0"),
        ("sqlite:///a.db?lock_wait_s=soon", "seconds from 0"),
        ("sqlite:///a.db?cache_mib=1&cache_mib=2", "given twice"),
        ("sqlite:///a.db?cache_mib", "bad query field"),
        ("memory://name", "takes nothing after the slashes"),
        ("memory:///path", "takes nothing after the slashes"),
        ("memory://?cache_mib=1", "unknown option 'cache_mib'; accepted are partitions"),
        ("http://[::1", "look at the brackets"),
    ],
)
def test_a_url_that_names_no_journal_says_what_is_accepted(url, problem):
    """A `JournalUrlError`, which is a `ValueError`, with the URL and the reason in it."""
    with pytest.raises(JournalUrlError) as refused:
        open_store(url)
    assert problem in refused.value.problem
    assert isinstance(refused.value, ValueError)
    assert repr(url) in str(refused.value)


def test_an_absolute_url_names_the_same_file_from_anywhere(monkeypatch, tmp_path):
    """The working folder goes into the path, the options stay, and what needs it is encoded."""
    monkeypatch.chdir(tmp_path)
    url = JournalUrl.parse("sqlite:///a%20b%3F.db?cache_mib=8").absolute()
    monkeypatch.chdir("/")
    parsed = JournalUrl.parse(url)
    assert parsed.path == os.fspath(tmp_path / "a b?.db")
    assert parsed.options == {"cache_mib": 8}
    assert parsed.absolute() == url


@pytest.mark.parametrize("url", ["memory://", "sqlite:////var/j.db", "sqlite:///j.db?synchronous=full"])
def test_a_url_is_written_as_it_was_read(url):
    """Taking apart and writing are inverse."""
    assert str(JournalUrl.parse(url)) == url
    assert JournalUrl.parse(url).redacted == url


def test_a_password_never_reaches_a_message():
    """Not even in the error that refuses the URL."""
    for url in ("postgres://bob:p%40ss:w@rd@host/db", "nosql://bob@host/db?user=bob&password=p%40ss:w@rd"):
        with pytest.raises(JournalUrlError) as refused:
            open_store(url)
        for text in (str(refused.value), repr(refused.value)):
            assert "bob" in text
            assert "***" in text
            assert "p%40ss" not in text
            assert "w@rd" not in text


async def test_a_store_of_a_url_opens_at_its_path(tmp_path):
    """The odd name included."""
    url = JournalUrl(scheme="sqlite", path=os.fspath(tmp_path / "a b?#%ä.db"))
    store = open_store(str(url))
    await store.open()
    assert await store.list_streams(after=StreamId("a", "b")) == []
    await store.close()
    assert "a b?#%ä.db" in os.listdir(tmp_path)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///bank.db", "postgres://ann@db/shop"])
def test_one_partition_is_what_a_journal_has_by_itself(url):
    """Said or not, it is the same journal; several are another one."""
    plain, one, four = (JournalUrl.parse(url + query) for query in ("", "?partitions=1", "?partitions=4"))
    assert plain == one
    assert plain.absolute() == one.absolute()
    assert (plain.partitions, one.partitions, four.partitions) == (1, 1, 4)
    assert four.absolute().endswith("?partitions=4")


@pytest.mark.parametrize("value", ["0", "65", "-1", "1.0", "four", "", "²"])
def test_partitions_are_a_whole_number_within_the_bound(value):
    """Each is a process, and two connections."""
    with pytest.raises(JournalUrlError, match="whole numbers from 1 to 64"):
        JournalUrl.parse(f"sqlite:///bank.db?partitions={value}")


def test_a_schema_leaves_room_for_the_number_of_the_last_partition():
    """PostgreSQL would cut the name, and two partitions would be one."""
    url = "postgres://ann@db/shop?schema=" + "s" * 60
    JournalUrl.parse(f"{url}&partitions=1")
    JournalUrl.parse(f"{url}&partitions=10")
    with pytest.raises(JournalUrlError, match="too long to have _p10 added"):
        JournalUrl.parse(f"{url}&partitions=11")
