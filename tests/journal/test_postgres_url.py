"""URLs of PostgreSQL journals: what they name, what is refused, and that no password is ever shown."""

import pickle

import pytest

from holdfast.journal.errors import JournalUrlError
from holdfast.journal.postgres import PostgresStore
from holdfast.journal.postgres_session import PostgresAddress, PostgresOptions
from holdfast.journal.url import JournalUrl, open_store

SECRET = "p@ss/w?rd:#%&ü"
QUOTED = "p%40ss%2Fw%3Frd%3A%23%25%26%C3%BC"


def test_a_url_names_a_database_and_a_schema_in_it():
    """Everything in it reaches the store, decoded and with its type."""
    url = (
        f"postgres://ann:{QUOTED}@db.example:6432/shop?schema=orders&synchronous=normal&lock_wait_s=1.5"
        "&answer_wait_s=5&readers=4&sslmode=verify-full"
    )
    door = open_store(url)._door
    assert door.address == PostgresAddress(host="db.example", port=6432, user="ann", password=SECRET, database="shop")
    assert door.options == PostgresOptions(
        schema="orders", synchronous="normal", lock_wait_s=1.5, answer_wait_s=5.0, readers=4, sslmode="verify-full"
    )


@pytest.mark.parametrize(
    ("url", "host", "port", "user"),
    [
        ("postgres://db/shop", "db", 5432, None),
        ("postgres://[::1]:6432/shop", "::1", 6432, None),
        ("postgres://ann@10.0.0.7/shop", "10.0.0.7", 5432, "ann"),
        ("postgres:///shop?host=/run/postgresql", "/run/postgresql", 5432, None),
        ("postgres://ann@:6432/shop?host=/run/postgresql", "/run/postgresql", 6432, "ann"),
    ],
)
def test_a_server_is_reached_by_its_name_or_through_a_socket(url, host, port, user):
    """What a URL leaves out the driver looks for: PGUSER, PGPASSWORD, ~/.pgpass."""
    address = open_store(url)._door.address
    assert (address.host, address.port, address.user, address.password) == (host, port, user, None)
    assert JournalUrl.parse(url).absolute() == url


def test_two_spellings_of_one_journal_are_equal():
    """The other name of the scheme, and the port that it is anyway."""
    urls = ["postgres://ann@db/shop", "postgresql://ann@db/shop", "postgres://ann@db:5432/shop"]
    assert len({JournalUrl.parse(url).absolute() for url in urls}) == 1
    assert JournalUrl.parse(urls[0]) == JournalUrl.parse(urls[1])


def test_a_url_is_the_same_from_anywhere_and_tells_whether_it_is_a_local_file():
    """A database is no file of this machine: its journal may be opened on any node."""
    url = JournalUrl.parse(f"postgres://ann:{QUOTED}@db/shop?schema=orders")
    assert JournalUrl.parse(url.absolute()) == url
    assert JournalUrl.parse(url.absolute()).password == SECRET
    assert not url.is_local_file
    assert JournalUrl.parse("sqlite:///j.db").is_local_file
    assert not JournalUrl.parse("memory://").is_local_file


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgres://", "one database is named"),
        ("postgres://db", "one database is named"),
        ("postgres://db/", "one database is named"),
        ("postgres://db/a/b", "one database is named"),
        ("postgres://db/shop#a", "one database is named"),
        ("postgres:///shop", "postgres:///database?host="),
        ("postgres://db/shop?host=/run/postgresql", "postgres:///database?host="),
        ("postgres:///shop?host=db.example", "absolute path of the folder"),
        ("postgres://db:0/shop", "a host and, if need be"),
        ("postgres://db:65536/shop", "a host and, if need be"),
        ("postgres://one,two/shop", "a host and, if need be"),
        ("postgres://db:port/shop", "a host and, if need be"),
        ("postgres://:secret@db/shop", "the user is missing"),
        ("postgres://@db/shop", "the user is missing"),
        ("postgres://db/shop?cache_mib=3", "unknown option 'cache_mib'; accepted are schema, synchronous"),
        ("postgres://db/shop?schema=Orders", "a-z, 0-9 and _"),
        ("postgres://db/shop?schema=pg_orders", "not starting with"),
        ("postgres://db/shop?schema=", "a-z, 0-9 and _"),
        ('postgres://db/shop?schema=a";DROP', "a-z, 0-9 and _"),
        ("postgres://db/shop?synchronous=off", "accepted are full, normal"),
        ("postgres://db/shop?readers=0", "from 1 to 64"),
        ("postgres://db/shop?answer_wait_s=0", "seconds above 0"),
        ("postgres://db/shop?sslmode=maybe", "accepted are disable"),
        ("postgres://db/sh%00op", "NUL"),
        ("postgres://db/sh%ffop", "utf-8"),
    ],
)
def test_a_url_that_names_no_journal_says_what_is_accepted(url, problem):
    """Before anything is opened."""
    with pytest.raises(JournalUrlError) as refused:
        open_store(url)
    assert problem in refused.value.problem
    assert "secret" not in str(refused.value)


def shown(thing):
    return [str(thing), repr(thing), f"{thing}", ascii(thing)]


def test_a_password_is_in_no_repr_and_no_text():
    """Neither of the URL, nor of the store, its address, or anything in between."""
    url = JournalUrl.parse(f"postgres://ann:{QUOTED}@db/shop?schema=orders")
    store = url.store()
    assert isinstance(store, PostgresStore)
    for thing in (url, url.redacted, store, store._door, store._door.address, store._door.options, store._name):
        for text in shown(thing):
            assert SECRET not in text
            assert QUOTED not in text
    assert url.redacted == str(url) == "postgres://ann:***@db/shop?schema=orders"


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ann:s3cr@t@db/shop",
        "postgres://ann:s3/cr@db/shop",
        "postgres://ann:s3?cr@db/shop",
        "postgres://ann:s3#cr@db/shop",
        "postgres://ann:s3[cr@db/shop",
        "postgres://ann:s3%ffcr@db/shop",
        "postgres://ann:s3%00cr@db/shop",
        "postgres://ann:s3℀cr@db/shop",
        "postgres://ann:s3 cr@db/shop?nonsense=1",
        "postgres://ann:s3&cr=1@db/shop?schema=X",
        "postgres://ann:s3cr",
        "postgres://ann:s3cr/shop",
        "postgres:ann:s3cr@db/shop",
        "postgres//ann:s3cr@db/shop",
        "mysql://ann:s3cr@db/shop",
        "sqlite://ann:s3cr@db/shop",
        "memory://ann:s3cr@db/shop",
        "postgres://db/shop?password=s3cr",
        "postgres://db/shop?sslpassword=s3cr&schema=a",
        "postgres://db/shop?Password=s3cr",
    ],
)
def test_a_wrong_url_shows_no_part_of_its_password(url):
    """Whatever is wrong with it; what caused the error is not told along with it either."""
    with pytest.raises(JournalUrlError) as refused:
        open_store(url)
    error = refused.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    for text in (*shown(error), *shown(error.args), *shown(pickle.loads(pickle.dumps(error)))):
        assert "s3" not in text
        assert "cr@" not in text
        assert "cr=" not in text
