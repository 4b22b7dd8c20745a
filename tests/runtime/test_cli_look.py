"""The command line's looks at a journal: what they show is what is there, whatever it is called and whoever writes."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hf_look import NOON, Written, make, paid, url_of

from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import NewEvent, StreamId
from holdfast.journal.sqlite_catalogue import SqliteCatalogue
from holdfast.journal.url import JournalUrl, open_store
from holdfast.runtime import cli_show
from holdfast.runtime.cli import SECTIONS, cli
from holdfast.runtime.cli_event import json_line, value_text
from holdfast.runtime.inspection import Inspection

KINDS = ["sqlite", "sqlite3", "memory3", "postgres2"]
ANN = "Purse/ann"
HOSTILE = [
    "\x1b]0;owned\x07",
    "\x9b31m",
    "[red]x[/red]",
    "\u202egnp.exe",
    "a\nb",
    "a\tb",
    "\x7f",
    "</script>",
    "'; --",
    "%00",
]


def run(*args, **env):
    return CliRunner().invoke(cli, list(args), env={"HOLDFAST_URL": None, "HOLDFAST_MODULE": None, **env})


def maps(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(params=KINDS)
def look(request, tmp_path, monkeypatch):
    """Runs a command on a journal of one kind, in which purses of ann (5, 7, 9) and others are."""
    kind = request.param
    stores = [MemoryStore() for _ in range(3)]
    url = None if kind == "memory3" else url_of(kind, tmp_path)

    async def write():
        opened = stores if url is None else [open_store(url, each) for each in range(JournalUrl.parse(url).partitions)]
        written = await Written(opened).start()
        await written.pay("ann", 5, 7)
        await written.pay("bob", 1)
        await written.pay("ann", 9)
        await written.pay("zoe", 2, category="Alpha")
        await written.snapshot("bob", 1)
        await written.checkpoint("mails", [0] * len(opened))
        await written.close()

    asyncio.run(write())
    if url is None:

        async def opened(cls, named, classes=()):
            return Inspection.over(stores, classes)

        monkeypatch.setattr(Inspection, "open", classmethod(opened))
        url = "memory://"
    return lambda *args: run(*args, "--journal", url)


# On journals of each kind


def test_cli_streams_are_listed_with_their_versions(look):
    """By category and id; as lines, or as JSON with all that is known."""
    assert look("streams").stdout.splitlines() == ["Alpha/zoe  1", "Purse/ann  3", "Purse/bob  1"]
    assert [(each["category"], each["id"], each["version"]) for each in maps(look("streams", "--json"))] == [
        ("Alpha", "zoe", 1),
        ("Purse", "ann", 3),
        ("Purse", "bob", 1),
    ]


def test_cli_streams_are_filtered_limited_and_counted(look):
    """What was left out is told on stderr, with how to get it."""
    assert look("streams", "--category", "Purse", "--contains", "nn").stdout == "Purse/ann  3\n"
    limited = look("streams", "--limit", "1")
    assert limited.stdout == "Alpha/zoe  1\n"
    assert "--after Alpha/zoe" in limited.stderr
    assert look("streams", "--after", "Purse/ann", "--limit", "0").stdout == "Purse/bob  1\n"
    assert look("streams", "--count").stdout == "3\n"
    assert maps(look("streams", "--count", "--json", "--contains", "o")) == [{"count": 2}]


def test_cli_show_tells_events_with_time_type_payload_and_command(look):
    """One to a line, without any class."""
    result = look("show", ANN)
    assert result.exit_code == 0, result.output
    first, *lines = result.stdout.splitlines()
    assert first == "Purse/ann, version 3"
    assert lines[0] == '1  2023-11-14T22:13:21.000Z  hf_look.paid  {"amount":5}  by c1'
    events = maps(look("show", ANN, "--json", "--after", "1", "--limit", "1"))
    assert [(each["version"], each["payload"], each["command_id"]) for each in events] == [(2, {"amount": 7}, "c2")]


def test_cli_show_tells_the_state_at_a_version_and_what_each_event_changed(look):
    """With the class; the state is that of the version, not the newest."""
    at = maps(look("show", ANN, "--at", "2", "--json", "--module", "hf_look"))
    assert at == [
        {
            "stream": ANN,
            "version": 2,
            "head": 3,
            "time": "2023-11-14T22:13:22Z",
            "state": {"owner": "", "total": 12, "lines": [{"amount": 5}, {"amount": 7}], "tags": []},
        }
    ]
    result = look("show", ANN, "--at", "2", "--diff", "--module", "hf_look")
    assert result.stdout.splitlines()[0] == "Purse/ann, version 2 of 3, 2023-11-14T22:13:22.000Z"
    assert "     total: 5 → 12" in result.stdout.splitlines()
    assert "  total  12" in result.stdout.splitlines()
    changes = [each["changes"] for each in maps(look("show", ANN, "--diff", "--json", "--module", "hf_look"))]
    assert [one for each in changes for one in each if one["path"] == "total"] == [
        {"path": "total", "before": before, "after": after} for before, after in ((0, 5), (5, 12), (12, 21))
    ]


def test_cli_tail_shows_the_newest_last(look):
    """Of all, of a category, of a type, of a stream."""
    assert [each["stream"] for each in maps(look("tail", "-n", "3", "--json"))] == ["Purse/bob", ANN, "Alpha/zoe"]
    assert [each["version"] for each in maps(look("tail", "--json", "--stream", ANN, "-n", "2"))] == [2, 3]
    assert len(maps(look("tail", "--json", "--category", "Purse"))) == 4
    assert len(maps(look("tail", "--json", "--type", "hf_look.paid", "-n", "4"))) == 4
    assert look("tail", "--type", "nothing.like.it").stdout == ""
    assert look("tail", "-n", "1").stdout.endswith(
        'Alpha/zoe@1  2023-11-14T22:13:25.000Z  hf_look.paid  {"amount":2}  by c5\n'
    )


def test_cli_stats_tell_what_there_is(look):
    """Events, streams, snapshots, of each category; and how far followers are."""
    (found,) = maps(look("stats", "--json"))
    assert (found["events"], found["streams"], found["snapshots"]) == (5, 3, 1)
    assert found["categories"] == [
        {"name": "Alpha", "streams": 1, "events": 1},
        {"name": "Purse", "streams": 2, "events": 4},
    ]
    if found["kind"] != "store":
        assert [(each["name"], each["lag"]) for each in found["followers"]] == [("mails", 5)]
        assert (found["keyed_replies"], found["reminders"], found["owners"]) == (0, 0, 1)
    text = look("stats").stdout
    assert re.search(r"^events +5$", text, re.MULTILINE)
    assert "Purse  2  4" in text


def test_cli_of_a_stream_that_is_not_there_says_so(look):
    """Status 2, and nothing on stdout."""
    result = look("show", "Purse/nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no stream 'Purse/nobody'" in result.stderr


# Which journal


def test_cli_takes_the_journal_from_an_argument_an_option_a_variable_or_the_folder(tmp_path, monkeypatch):
    """In this order; for every command alike."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    urls = {name: make(tmp_path / name / "a.db", (name, 1)) for name in ("one", "two", "three")}
    monkeypatch.chdir(tmp_path / "three")
    (tmp_path / "three" / "notes.db").write_text("no journal")
    assert run("streams").stdout == "Purse/three  1\n"
    assert run("streams", HOLDFAST_URL=urls["two"]).stdout == "Purse/two  1\n"
    assert run("streams", "--journal", urls["one"], HOLDFAST_URL=urls["two"]).stdout == "Purse/one  1\n"
    assert run("streams", urls["one"], "-j", urls["two"]).stdout == "Purse/one  1\n"
    assert run("show", urls["one"], "Purse/one").exit_code == 0
    assert run("show", "Purse/one", urls["one"]).exit_code == 0
    assert "sqlite:///a.db" in run("stats").stdout
    assert "no problem found" in run("verify").stdout


def test_cli_without_a_journal_or_with_several_in_the_folder_asks_for_one(tmp_path, monkeypatch):
    """And says how it is named."""
    monkeypatch.chdir(tmp_path)
    for said in ("there is none", "several in this folder: a.db, b.db"):
        result = run("stats")
        assert result.exit_code == 2
        assert said in result.stderr
        assert "HOLDFAST_URL" in result.stderr
        make(tmp_path / "a.db", ("ann", 1))
        make(tmp_path / "b.db", ("ann", 1))


@pytest.mark.parametrize("command", ["streams", "tail", "stats", "show", "verify"])
@pytest.mark.parametrize(
    ("url", "said"),
    [("sqlite:///none.db", "no such file"), ("memory://", "memory"), ("nothing://x", "names no kind of journal")],
)
def test_cli_of_what_is_no_journal_ends_with_status_2(command, url, said, tmp_path, monkeypatch):
    """One line on stderr, no traceback, nothing created."""
    monkeypatch.chdir(tmp_path)
    result = run(command, url, *([ANN] if command == "show" else []))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ("streams", "sqlite:///a.db", "sqlite:///b.db"),
        ("streams", "bank.db"),
        ("show",),
        ("show", "ann"),
        ("show", "/ann"),
        ("show", ANN, "Purse/bob"),
        ("show", ANN, "--at", "yesterday"),
        ("show", ANN, "--at", "-1y"),
        ("tail", "--stream", ANN, "--category", "Alpha"),
        ("projections", "replay", "X", "here"),
        ("completion", "tcsh"),
    ],
    ids=" ".join,
)
def test_cli_says_what_is_wrong_with_its_arguments(args):
    """Status 2, as for whatever could not run."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert "Error:" in result.stderr


# Moments


def test_cli_moments_are_versions_and_times():
    """A time without an offset is UTC; relative ones go back from now."""
    convert = lambda text: cli_show.Moment().convert(text, None, None)  # noqa: E731
    assert convert("20") == 20
    assert convert("2026-05-01") == datetime(2026, 5, 1, tzinfo=UTC)
    assert convert("2026-05-01T10:30Z") == datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
    assert convert("2026-05-01T10:30+02:00") == datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
    before = datetime.now(UTC)
    assert before <= convert("now") <= datetime.now(UTC)
    ago = timedelta(days=1, hours=12)
    assert before - ago <= convert("-1d12h") <= datetime.now(UTC) - ago


def test_cli_show_at_a_time_finds_the_version_then(tmp_path):
    """Before the first event there was nothing; now is the newest; beyond the last version is the last."""
    url = make(tmp_path / "a.db", ("ann", 5, 7, 9))

    def at(moment):
        (found,) = maps(run("show", ANN, url, "--at", moment, "--json", "--module", "hf_look"))
        return found["version"], found["state"]["total"]

    assert at("2023-11-14T22:13:22.5Z") == (2, 12)
    assert at("2000-01-01") == (0, 0)
    assert at("now") == (3, 21)
    assert at("-2h") == (3, 21)
    assert at("99") == (3, 21)
    assert "before its first event" in run("show", ANN, url, "--at", "0", "--module", "hf_look").stdout


def test_cli_show_without_its_class_tells_events_and_what_is_missing(tmp_path):
    """It is a note, not a failure."""
    url = make(tmp_path / "a.db", ("ann", 5, 7, 9))
    result = run("show", ANN, url, "--at", "2", "--diff")
    assert result.exit_code == 0
    assert "--module" in result.stderr
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[1:]] == ["1", "2"]
    assert maps(run("show", ANN, url, "--at", "2", "--json"))[0]["state"] is None
    assert '{"amount":7}' in run("show", ANN, url, "--at", "2").stdout


def test_cli_takes_modules_from_a_variable(tmp_path):
    """So that they need not be named each time."""
    url = make(tmp_path / "a.db", ("ann", 5))
    assert "total  5" in run("show", ANN, url, "--at", "1", HOLDFAST_MODULE="hf_look").stdout
    assert run("show", ANN, url, "--module", "no_such_module").exit_code == 2


# What is in a journal is not what a terminal obeys


def hostile(path):
    async def write():
        url = f"sqlite:///{path}"
        written = await Written([open_store(url)]).start()
        for id in HOSTILE:
            stream = StreamId("Purse", id)
            payload = msgspec.msgpack.encode(
                {id: [id, {"k": id}], "raw": b"\x1b[2J", "ext": msgspec.msgpack.Ext(7, b"\x1b")}
            )
            metadata = msgspec.msgpack.encode({"causation_id": id})
            await written.write(
                stream,
                NewEvent(type=f"t{id}", payload=payload, command_id=f"c{id}", recorded_at=NOON, metadata=metadata),
            )
        await written.close()
        return url

    return asyncio.run(write())


@pytest.mark.parametrize("args", ["streams", "tail", "stats", "streams --json", "tail --json"])
def test_cli_shows_hostile_names_and_values_escaped(args, tmp_path):
    """No control sequence, no direction override, no line of its own making."""
    result = run(*args.split(), hostile(tmp_path / "a.db"))
    assert result.exit_code == 0, result.output
    assert all(line.isprintable() for line in result.stdout.split("\n"))


def test_cli_json_of_hostile_names_is_what_they_are(tmp_path):
    """Escaped as JSON has it, so that a program gets the same text back."""
    url = hostile(tmp_path / "a.db")
    assert [each["id"] for each in maps(run("streams", url, "--json"))] == sorted(HOSTILE)
    for id in HOSTILE:
        (event,) = maps(run("show", url, f"Purse/{id}", "--json"))
        assert (event["type"], event["command_id"], event["causation_id"]) == (f"t{id}", f"c{id}", id)
        assert event["payload"][id] == [id, {"k": id}]
        assert event["payload"]["ext"] == {"ext": 7, "bytes": "Gw=="}


def test_cli_errors_show_hostile_names_escaped(tmp_path):
    """What a user typed comes back in a message."""
    url = make(tmp_path / "a.db", ("ann", 1))
    result = run("show", url, "Purse/\x1b[31m")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_cli_values_are_told_whatever_they_are():
    """Of bytes their length, of numbers that JSON has no word for their name."""
    assert value_text({"a": b"123", 1: float("nan"), "e": msgspec.msgpack.Ext(5, b"12")}) == (
        '{"a":"<3 bytes>","1":"nan","e":"<extension 5, 2 bytes>"}'
    )
    assert json.loads(json_line({"x": float("inf"), "y": "\U000e0001", "z": "\x9b"})) == {
        "x": "inf",
        "y": "\U000e0001",
        "z": "\x9b",
    }


def on_terminal(*args):
    """What a terminal gets to see of a command, and its status."""
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as screen:
        with os.fdopen(child, "wb") as terminal:
            command = [sys.executable, "-m", "holdfast.runtime.cli", *args]
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
            done = subprocess.run(command, stdout=terminal, stderr=terminal, env=environment, check=False, timeout=60)
        seen = b""
        try:
            while chunk := screen.read(65536):
                seen += chunk
        except OSError:  # how Linux says that the other side of a terminal is closed
            pass
    return seen.decode(), done.returncode


def test_cli_tables_on_a_terminal_take_no_markup_from_names(tmp_path):
    """Brackets are brackets."""

    async def write():
        written = await Written([open_store(f"sqlite:///{tmp_path}/a.db")]).start()
        await written.pay("ann", 1, category="[red]Purse[/red]")
        await written.close()

    asyncio.run(write())
    seen, status = on_terminal("stats", f"sqlite:///{tmp_path}/a.db")
    assert status == 0, seen
    assert "│ [red]Purse[/red] │ 1       │ 1" in seen


# Beside others


def test_cli_changes_no_file_and_leaves_none(tmp_path):
    """Of a journal that nobody has open."""
    url = make(tmp_path / "a.db", ("ann", 1, 2), partitions=2)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    for args in (["streams", "--contains", "a"], ["show", ANN, "--diff", "--module", "hf_look"], ["tail"], ["stats"]):
        assert run(*args, url).exit_code == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


WRITER = """
import asyncio, sys
from hf_look import Written
from holdfast.journal.url import open_store

async def main():
    written = await Written([open_store(sys.argv[1])]).start()
    await written.pay("ann", 1)
    print("it writes", flush=True)
    while True:
        await written.pay("ann", 1)

asyncio.run(main())
"""


@pytest.fixture
def writer(tmp_path):
    """Another process that appends to ann's purse for ever."""
    url = f"sqlite:///{tmp_path}/a.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    try:
        yield url, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_cli_looks_beside_another_process_that_writes(writer):
    """Whole events without a gap, a state that is that of its version, and a writer that goes on."""
    url, process = writer
    at = 0
    for _ in range(10):
        (found,) = maps(run("show", url, ANN, "--at", "now", "--json", "--module", "hf_look"))
        assert found["state"]["total"] == found["version"] >= at
        at = found["version"]
        versions = [each["version"] for each in maps(run("show", url, ANN, "--json", "--limit", "0"))]
        assert versions == list(range(1, len(versions) + 1))
        assert len(versions) >= at
        assert maps(run("stats", url, "--json"))[0]["events"] >= len(versions)
        assert run("streams", url).stdout.startswith("Purse/ann  ")
    while maps(run("show", url, ANN, "--at", "now", "--json"))[0]["version"] == at:
        assert process.poll() is None


@contextlib.contextmanager
def following(*args):
    command = [sys.executable, "-m", "holdfast.runtime.cli", "tail", "-f", "--json", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # unless it has ended, as it should have


def test_cli_tail_follows_another_process_without_a_gap_until_it_is_interrupted(writer):
    """Each event once, the newest first ones too; Ctrl-C is status 130 and no traceback."""
    url, _ = writer
    with following(url, "-n", "3") as process:
        versions = [json.loads(process.stdout.readline())["version"] for _ in range(50)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert versions == list(range(versions[0], versions[0] + 50))
    assert process.returncode == 130, said
    assert "Traceback" not in said


def test_cli_tail_follows_from_a_journal_at_rest_into_one_that_is_written(tmp_path):
    """Opened while nobody had the file open, it sees who opens it then."""
    url = make(tmp_path / "a.db", ("ann", 1))
    with following(url, "--stream", ANN) as process:
        assert json.loads(process.stdout.readline())["version"] == 1

        async def write():
            written = Written([open_store(url)])
            await written.stores[0].open()
            written.epochs = [await written.stores[0].claim("host", "second")]
            written.versions[StreamId("Purse", "ann")] = 1
            await written.pay("bob", 1)
            await written.pay("ann", 2, 3)
            await written.close()

        asyncio.run(write())
        assert [json.loads(process.stdout.readline())["payload"]["amount"] for _ in range(2)] == [2, 3]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    "args", [("streams", "--limit", "0"), ("tail", "-n", "5000"), ("show", ANN, "--limit", "0")], ids=" ".join
)
def test_cli_whose_reader_has_gone_ends_without_a_word(args, tmp_path):
    """As with `| head -1`: status 141, no traceback."""
    url = make(tmp_path / "a.db", ("ann", *range(3000)), *((f"{n}", 1) for n in range(3000)))
    command = [sys.executable, "-m", "holdfast.runtime.cli", *args, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, "")


# Large, and damaged


def huge(path, events):
    async def write():
        written = await Written([open_store(f"sqlite:///{path}")]).start()
        for start in range(0, events, 10_000):
            batch = [paid(number) for number in range(start + 1, start + 10_001)]
            await written.write(StreamId("Purse", "ann"), *batch)
        await written.snapshot("ann", events // 2)
        await written.close()

    asyncio.run(write())
    return f"sqlite:///{path}"


def test_cli_shows_a_part_of_a_stream_of_a_hundred_thousand_events(tmp_path, monkeypatch):
    """It reads that part and not the stream: a state starts from the snapshot before it, a time is found by halving."""
    url = huge(tmp_path / "a.db", 100_000)
    read = []
    load, read_stream = SqliteCatalogue.load, SqliteCatalogue.read_stream

    async def counted_load(self, asked):
        answer = await load(self, asked)
        read.append(len(answer.events))
        return answer

    async def counted_read(self, *args, **how):
        page = await read_stream(self, *args, **how)
        read.append(len(page))
        return page

    monkeypatch.setattr(SqliteCatalogue, "load", counted_load)
    monkeypatch.setattr(SqliteCatalogue, "read_stream", counted_read)
    events = maps(run("show", url, ANN, "--json", "--after", "99990"))
    assert [each["version"] for each in events] == list(range(99_991, 100_001))
    assert sum(read) <= 20
    read.clear()
    time = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOON, seconds=50_500)).isoformat()
    (found,) = maps(run("show", url, ANN, "--at", time, "--json", "--module", "hf_look"))
    assert (found["version"], found["state"]["total"]) == (50_500, 1500)  # of which 1000 are the snapshot's
    assert sum(read) <= 1600
    result = run("show", url, ANN)
    assert "99900 more: --after 100" in result.stderr
    assert len(result.stdout.splitlines()) == 101


def damage(path, position):
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_update")
        raw.execute("UPDATE events SET payload = x'81a161' WHERE position = ?", (position,))


def test_cli_of_a_damaged_journal_names_the_place_and_shows_the_rest(tmp_path):
    """Status 1: that is a problem of the journal, and not of the command."""
    url = make(tmp_path / "a.db", ("ann", *range(9)), ("bob", 1))
    damage(tmp_path / "a.db", 5)
    result = run("show", url, ANN)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["1", "2", "3", "4"]
    assert "Purse/ann version 5 (position 5): the checksum does not match" in result.stderr
    after = run("show", url, ANN, "--after", "5")
    assert (after.exit_code, len(after.stdout.splitlines())) == (0, 5)
    assert run("show", url, "Purse/bob", "--at", "1", "--module", "hf_look").exit_code == 0
    assert run("show", url, ANN, "--at", "4", "--module", "hf_look").exit_code == 0
    assert run("show", url, ANN, "--at", "6", "--module", "hf_look").exit_code == 1
    assert run("streams", url).stdout == "Purse/ann  9\nPurse/bob  1\n"
    assert run("stats", url).exit_code == 0


def test_cli_of_a_file_that_was_cut_short_ends_with_a_word(tmp_path):
    """And not with a signal."""
    url = make(tmp_path / "a.db", *((f"{n}", *range(20)) for n in range(100)))
    os.truncate(tmp_path / "a.db", 40_960)
    for args in (["streams", "--limit", "0"], ["tail"], ["stats"], ["show", "Purse/99"]):
        command = [sys.executable, "-m", "holdfast.runtime.cli", *args, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 1, 2), done
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or done.stderr.startswith("holdfast: ")


# The command line itself


def commands(group=cli, before=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        yield (*before, name)


def test_cli_help_groups_commands_and_names_the_journal_once():
    """Every command is in a group, and the rule is told."""
    said = run("--help").stdout
    for section, names in SECTIONS.items():
        assert f"{section}:" in said
        assert all(f"\n  {name}" in said for name in names if name in cli.commands)
    assert "HOLDFAST_URL" in said
    assert "Exit status" in said


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_cli_help_of_each_command_has_an_example(words):
    """One that a user could type."""
    said = run(*words, "--help").stdout
    assert re.search(rf"Examples?:\n +holdfast {' '.join(words)}", said), said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_cli_completion_prints_what_the_shell_needs(shell):
    """And what that asks is answered."""
    assert "_HOLDFAST_COMPLETE" in run("completion", shell).stdout
    environment = {
        **os.environ,
        "_HOLDFAST_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "holdfast st",
        "COMP_CWORD": "1",
    }
    environment["COMP_CWORD"] = "st" if shell == "fish" else "1"
    program = Path(sys.executable).with_name("holdfast")
    answer = subprocess.run([program], capture_output=True, text=True, env=environment, check=False, timeout=60).stdout
    assert {"streams", "stats"} <= set(re.split(r"[\s,:]+", answer)), answer


def test_cli_looks_come_without_ray_or_rich(tmp_path):
    """What is imported is what a user waits for."""
    url = make(tmp_path / "a.db", ("ann", 1))
    code = (
        "import sys; from holdfast.runtime import cli; sys.argv = ['holdfast', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "finally: print(sorted({'ray', 'rich', 'asyncpg', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    for args in (["streams"], ["show", ANN], ["tail"], ["stats"], ["live", "--help"], ["demo", "--help"]):
        words = [*args, *([] if "--help" in args else [url])]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr.strip()) == (0, "[]"), args
