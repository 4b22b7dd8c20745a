"""Key stores, one suite for all: keys are made, found, destroyed, and then found in no byte of the store."""

import asyncio
import os
import sqlite3
from contextlib import asynccontextmanager

import postgres_server
import pytest

from holdfast.journal.cipher import KEY_BYTES
from holdfast.journal.errors import JournalFailed, JournalOpenError, JournalTooNew, JournalUrlError
from holdfast.journal.keys import STREAM, DataSubject, KeyId, Wanted
from holdfast.journal.keys_sqlite import SqliteKeys
from holdfast.journal.keys_url import KeysUrl, open_keys

ANN, BOB = DataSubject("customer", "ann"), DataSubject("customer", "bob")
MASTER = "ab" * KEY_BYTES


@pytest.fixture(params=["memory", "sqlite", "sqlite, wrapped", "postgres", "postgres, wrapped"])
def url(request, tmp_path, monkeypatch):
    kind, _, wrapped = request.param.partition(", ")
    monkeypatch.setenv("HOLDFAST_TEST_KEY", MASTER)
    made = {
        "memory": lambda: "memory://",
        "sqlite": lambda: f"sqlite:///{tmp_path / 'keys.db'}",
        "postgres": lambda: postgres_server.server().url().replace("&lock_wait_s=0", ""),
    }[kind]()
    return f"{made}{'&' if '?' in made else '?'}wrap=env:HOLDFAST_TEST_KEY" if wrapped else made


@asynccontextmanager
async def opened(url):
    store = open_keys(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def prepared(store, *wanted):
    return await store.prepare([Wanted(*each) for each in wanted])


async def test_a_key_is_made_once_and_found_by_its_id(url):
    """The same key for every stream of a subject, another one for every other subject, and for each stream."""
    async with opened(url) as store:
        first, second = await prepared(store, ("P/1", 0, (ANN, BOB)), ("P/2", 0, (ANN,)))
        assert [(key.kind, key.id, key.generation) for key in first] == [(STREAM, "P/1", 1), (*ANN, 1), (*BOB, 1)]
        assert first[1] == second[1]
        secrets = {key.secret for key in (*first, *second)}
        assert len(secrets) == 4
        assert all(len(secret) == KEY_BYTES for secret in secrets)
        asked = [KeyId(*ANN, 1), KeyId(*BOB, 1), KeyId(*ANN, 2), KeyId("customer", "eve", 1)]
        assert await store.find(asked) == [first[1].secret, first[2].secret, None, None]
        assert first[1].secret.hex() not in repr(first[1])
        assert repr(first[1].secret) not in repr(first[1])


async def test_a_destroyed_key_is_never_made_again_and_takes_its_streams_with_it(url):
    """A later use of the subject gets another generation; the other subject of the stream keeps its key."""
    async with opened(url) as store:
        ((own, ann, bob),) = await prepared(store, ("P/1", 0, (ANN, BOB)))
        destroyed = await store.destroy(ANN)
        assert (destroyed.generation, destroyed.streams) == (1, ("P/1",))
        ids = [KeyId(key.kind, key.id, key.generation) for key in (own, ann, bob)]
        assert await store.find(ids) == [b"", b"", bob.secret]
        ((again, ann_again, bob_again),) = await prepared(store, ("P/1", 0, (ANN, BOB)))
        assert (again.generation, ann_again.generation, bob_again.generation) == (2, 2, 1)
        assert ann_again.secret != ann.secret
        assert again.secret != own.secret
        assert (await store.destroy(ANN)).streams == ("P/1",)
        assert (await store.destroy(ANN)) == (await store.destroy(ANN))
        assert (await store.destroy(DataSubject("customer", "nobody"))).generation == 0


async def test_who_goes_by_a_destroyed_key_of_its_stream_gets_no_others(url):
    """Its state may hold what was forgotten: it has to read it again before it writes of anybody."""
    async with opened(url) as store:
        ((own, _),) = await prepared(store, ("P/1", 0, (ANN,)))
        assert await prepared(store, ("P/1", own.generation, (BOB,))) != [None]
        await store.destroy(ANN)
        assert await prepared(store, ("P/1", own.generation, (BOB,)), ("P/1", own.generation)) == [None, None]
        ((newer,),) = await prepared(store, ("P/1", 0))
        assert await prepared(store, ("P/1", own.generation, (BOB,))) == [None]
        assert await prepared(store, ("P/1", newer.generation, (BOB,))) != [None]


async def test_keys_survive_the_store_unless_it_is_in_memory(url):
    """What was made, and what was destroyed, is so after the store was opened again."""
    if url.startswith("memory"):
        return
    async with opened(url) as store:
        ((_, ann, bob),) = await prepared(store, ("P/1", 0, (ANN, BOB)))
        await store.destroy(ANN)
    async with opened(url) as store:
        assert await store.find([KeyId(*ANN, 1), KeyId(*BOB, 1)]) == [b"", bob.secret]
        ((_, again),) = await prepared(store, ("P/1", 0, (ANN,)))
        assert again.generation == 2
        assert again.secret != ann.secret


async def test_many_keys_at_once(url):
    """More than one statement holds, and the same one twice."""
    async with opened(url) as store:
        wanted = [(f"P/{n}", 0, (DataSubject("customer", str(n % 450)),)) for n in range(500)]
        keys = [found[1] for found in await prepared(store, *wanted)]
        ids = [KeyId(key.kind, key.id, key.generation) for key in keys]
        assert await store.find(ids) == [key.secret for key in keys]


async def test_a_secret_that_was_destroyed_is_in_no_byte_of_the_file_or_its_log(tmp_path):
    """Before it is, it can be found: the search is not blind."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    async with opened(url) as store:
        found = await prepared(store, *((f"P/{n}", 0, (DataSubject("customer", str(n)),)) for n in range(300)))
        secrets = {key.secret for each in found for key in each}
        assert all(secret in bytes_of(tmp_path) for secret in secrets)
        for n in range(0, 300, 3):
            await store.destroy(DataSubject("customer", str(n)))
            gone = {key.secret for key in found[n]}
            secrets -= gone
            everything = bytes_of(tmp_path)
            assert not any(secret in everything for secret in gone)
        assert all(secret in bytes_of(tmp_path) for secret in secrets)


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_a_secret_that_was_destroyed_is_in_no_row_and_no_page_of_postgres():
    """The table as SQL shows it, and, after the VACUUM that destroying runs, the file of the table."""
    url = postgres_server.server().url().replace("&lock_wait_s=0", "")
    schema = url.partition("schema=")[2].partition("&")[0]
    async with opened(url) as store:
        ((own, ann, bob),) = await prepared(store, ("P/1", 0, (ANN, BOB)))
        await store.destroy(ANN)
        async with postgres_server.server().raw(schema) as raw:
            rows = await raw.fetch("SELECT kind, id, secret FROM keys WHERE secret IS NOT NULL")
            assert [(row["kind"], row["id"], row["secret"]) for row in rows] == [(*BOB, bob.secret)]
            await raw.execute("CHECKPOINT")
            path = postgres_server.server().data / await raw.fetchval("SELECT pg_relation_filepath('keys')")
        pages = path.read_bytes()
        assert bob.secret in pages
        assert ann.secret not in pages
        assert own.secret not in pages


async def test_wrapped_keys_open_nothing_without_their_master_key(tmp_path, monkeypatch):
    """No secret stands in the file; another master key, and none, are refused when the store is opened."""
    plain = f"sqlite:///{tmp_path / 'keys.db'}"
    wrapped = f"{plain}?wrap=env:HOLDFAST_TEST_KEY"
    monkeypatch.setenv("HOLDFAST_TEST_KEY", MASTER)
    async with opened(wrapped) as store:
        (keys,) = await prepared(store, ("P/1", 0, (ANN,)))
        assert not any(key.secret in bytes_of(tmp_path) for key in keys)
    with pytest.raises(JournalOpenError, match=r"wrap=env:NAME"):
        await open_keys(plain).open()
    monkeypatch.setenv("HOLDFAST_TEST_KEY", "cd" * KEY_BYTES)
    with pytest.raises(JournalOpenError, match="another master key"):
        await open_keys(wrapped).open()
    monkeypatch.setenv("HOLDFAST_TEST_KEY", "short")
    with pytest.raises(JournalOpenError, match="is no master key"):
        open_keys(wrapped)
    monkeypatch.delenv("HOLDFAST_TEST_KEY")
    with pytest.raises(JournalOpenError, match="is not set"):
        open_keys(wrapped)


async def test_personal_keys_are_refused_in_a_file_that_is_none(tmp_path):
    """Something else is left as it is; a newer format, a folder, a store that is closed are told."""
    path = tmp_path / "keys.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalOpenError, match="no key store"):
        await SqliteKeys(str(path)).open()
    assert path.read_bytes() == before
    with pytest.raises(JournalOpenError):
        await SqliteKeys(str(tmp_path)).open()
    newer = tmp_path / "newer.db"
    store = SqliteKeys(str(newer))
    await store.open()
    await store.close()
    with sqlite3.connect(newer) as raw:
        raw.execute("UPDATE key_store SET format = 99")
    raw.close()
    with pytest.raises(JournalTooNew):
        await SqliteKeys(str(newer)).open()
    with pytest.raises(JournalFailed):
        await store.find([KeyId(*ANN, 1)])


async def test_a_reader_of_the_log_keeps_destroying_from_being_told_as_done(tmp_path, monkeypatch):
    """While another connection reads an older state the log cannot be cut: it is said so, and done the next time."""
    monkeypatch.setattr("holdfast.journal.keys_sqlite.BUSY_S", 0.05)
    path = tmp_path / "keys.db"
    async with opened(f"sqlite:///{path}") as store:
        ((own, ann),) = await prepared(store, ("P/1", 0, (ANN,)))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM keys").fetchone()
        with pytest.raises(JournalFailed, match="try again"):
            await store.destroy(ANN)
        assert await store.find([KeyId(*ANN, 1)]) == [b""]
        reader.close()
        await store.destroy(ANN)
        assert ann.secret not in bytes_of(tmp_path)
        assert own.secret not in bytes_of(tmp_path)


async def test_personal_keys_of_a_crash_are_whole_or_not_there(tmp_path):
    """The process dies between the key and whatever it was for: the key is there, and good."""
    pid = os.fork()
    if not pid:
        try:
            asyncio.new_event_loop().run_until_complete(_prepare_and_die(str(tmp_path / "keys.db")))
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 7 << 8  # noqa: ASYNC222
    async with opened(f"sqlite:///{tmp_path / 'keys.db'}") as store:
        (secret,) = await store.find([KeyId(*ANN, 1)])
        assert len(secret) == KEY_BYTES
        assert (await store.destroy(ANN)).streams == ("P/1",)


async def _prepare_and_die(path):
    store = SqliteKeys(path)
    await store.open()
    await prepared(store, ("P/1", 0, (ANN,)))
    os._exit(7)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:///k.db?partitions=2", "no option 'partitions'"),
        ("sqlite:///k.db?wrap=env:A&wrap=env:B", "given twice"),
        ("mysql://x/y", "names no kind"),
    ],
)
def test_a_url_of_personal_keys_is_checked_whole(url, problem):
    """As a journal's is."""
    with pytest.raises(JournalUrlError, match=problem):
        KeysUrl.parse(url)


def test_a_url_of_personal_keys_keeps_its_password_to_itself():
    """It is in what the journal's process gets, and in nothing that is shown; `wrap` is in both."""
    url = KeysUrl.parse("postgres://ann:secret@db/vault?schema=vault&wrap=env:KEY")
    assert "secret" in url.absolute()
    assert "secret" not in url.redacted + repr(url)
    assert KeysUrl.parse(url.absolute()) == url
    assert url.redacted.endswith("?schema=vault&wrap=env:KEY")
    with pytest.raises(JournalOpenError, match="names no master key"):
        open_keys("sqlite:///k.db?wrap=file:x")
