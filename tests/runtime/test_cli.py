"""The command line: its words, its exit status, what goes to stdout and what to stderr."""

import asyncio
import json
import os
import pty
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from holdfast.actors import Aggregate, command, event, on
from holdfast.journal.codec import encode_plain
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.runtime import Runtime
from holdfast.runtime import cli as command_line
from holdfast.runtime.cli_report import shown


@event("test_cli.noted")
class Noted:
    text: str


class Notes(Aggregate):
    lines: int = 0

    @command
    def note(self, text: str) -> int:
        self.emit(Noted(text))
        return self.lines

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.lines += 1


async def write(path, *ids, type="test_cli.noted", category="Notes"):
    store = SqliteStore(path)
    await store.open()
    epoch = await store.claim("host", str(ids))
    new = NewEvent(type=type, payload=encode_plain({"text": "x"}), command_id="c", recorded_at=1)
    for id in ids:
        name = StreamId(category, id)
        await store.append([Append(stream=name, owner="host", epoch=epoch, expected_version=0, events=(new,))])
    await store.close()


@pytest.fixture
def url(tmp_path):
    asyncio.run(write(tmp_path / "notes.db", "a", "b"))
    return f"sqlite:///{tmp_path}/notes.db"


def damage(url):
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_update")
        raw.execute("UPDATE events SET recorded_at = 5 WHERE position = 2")


def run(*args):
    return CliRunner().invoke(command_line.cli, ["verify", *args])


def test_a_good_journal_ends_with_status_0(url):
    """And says what was looked at."""
    result = run(url)
    assert result.exit_code == 0, result.output
    assert "up to position 2: 2 events; as of now: 2 streams, 0 keyed replies, 0 snapshots, 1 owner, " in result.stdout
    assert "1 owner, 0 checkpoints, 0 reminders\nno problem found" in result.stdout
    assert result.stdout.endswith("no problem found\n")
    assert not result.stderr


def test_a_damaged_journal_ends_with_status_1_and_the_place(url):
    """In lines, when nobody looks: what, where, problem."""
    damage(url)
    result = run(url)
    assert result.exit_code == 1, result.output
    assert "event  Notes/b version 1 (position 2)  the checksum does not match" in result.stdout.splitlines()
    assert "PROBLEMS FOUND: 2" in result.stdout
    assert "the trigger events_keep_update is missing" in result.stdout


def test_json_is_one_object_with_verdict_counts_and_places(url):
    """On stdout, and nothing else there."""
    good = json.loads(run(url, "--json").stdout)
    assert good["good"] is True
    assert good["counts"]["events"] == good["upto"] == 2
    assert all(name.isidentifier() for name in good["counts"])
    damage(url)
    result = run(url, "--json")
    bad = json.loads(result.stdout)
    assert result.exit_code == 1
    assert bad["good"] is False
    assert {"kind": "event", "stream": "Notes/b", "version": 1, "position": 2} in [
        {key: problem[key] for key in ("kind", "stream", "version", "position")} for problem in bad["problems"]
    ]
    (trigger,) = [problem for problem in bad["problems"] if problem["kind"] == "storage"]
    assert (trigger["stream"], trigger["version"], trigger["position"]) == (None, None, None)


def test_what_is_one_is_counted_as_one_and_a_missing_position_is_named_once(tmp_path):
    """As a person would say it."""
    asyncio.run(write(tmp_path / "notes.db", "a", "b"))
    with closing(sqlite3.connect(tmp_path / "notes.db", isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_delete")
        raw.execute("DELETE FROM events WHERE position = 1")
    result = run(f"sqlite:///{tmp_path}/notes.db", "--module", __name__)
    assert "position  1  is missing" in result.stdout.splitlines()
    assert "up to position 2: 1 event, 1 event replayed, 0 snapshots replayed; as of now: 2 streams" in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sqlite:///none.db"], "there is no such file"),
        (["sqlite:///."], "is a folder"),
        (["nothing"], "The journal is a URL, as sqlite:///bank.db"),
        (["my.db"], "The journal is a URL, as sqlite:///my.db"),
        (["memory://"], "cannot be verified"),
        (["sqlite:////etc/passwd"], "is not an SQLite file"),
        ([], "no journal was named"),
        (["URL", "--category", "Nope"], "'Nope'; there are: Notes"),
        (["URL", "--module", "no_such_module"], "ModuleNotFoundError"),
        (["URL", "--module", "json"], "no aggregate class"),
    ],
    ids=str,
)
def test_what_cannot_be_verified_ends_with_status_2_and_a_reason(url, args, said):
    """One line on stderr, no traceback."""
    result = run(*(url if arg == "URL" else arg for arg in args))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.stderr


def test_a_module_has_its_aggregates_replayed(url, tmp_path):
    """What the bytes cannot say: that an event is one that its class knows."""
    result = run(url, "--module", __name__)
    assert result.exit_code == 0, result.output
    assert "2 events replayed" in result.stdout
    asyncio.run(write(tmp_path / "notes.db", "c", type="test_cli.unknown"))
    assert run(url).exit_code == 0
    result = run(url, "--module", __name__)
    assert result.exit_code == 1
    assert "replay  Notes/c version 1 (position 3)  no @on method of Notes applies 'test_cli.unknown'" in result.stdout


def test_one_category_is_verified_alone(url):
    """And the summary says so."""
    result = run(url, "--category", "Notes")
    assert result.exit_code == 0
    assert "(category Notes)" in result.stdout


def test_an_interrupted_verification_is_neither_good_nor_bad(url, monkeypatch):
    """Its status is that of an interrupt."""

    async def interrupted(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "verify", interrupted)
    assert run(url).exit_code == 130


def test_a_bug_of_ours_is_not_taken_for_a_problem_of_the_journal(url, monkeypatch, capsys):
    """Status 1 means that the journal has problems."""

    async def broken(*args, **how):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command_line, "verify", broken)
    monkeypatch.setattr(sys, "argv", ["holdfast", "verify", url])
    with pytest.raises(SystemExit) as exit:
        command_line.main()
    assert exit.value.code == 2
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_names_reach_the_terminal_without_control_sequences():
    """Ids are whatever callers chose."""
    assert shown("a\x1b[31m\nb é") == "a\\x1b[31m\\nb é"


def test_a_terminal_gets_a_table_and_a_bar(url):
    """The bar on stderr, and gone in the end; the table on stdout."""
    damage(url)
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as screen:
        with os.fdopen(child, "wb") as terminal:
            command = [sys.executable, "-m", "holdfast.runtime.cli", "verify", url]
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
            done = subprocess.run(command, stdout=terminal, stderr=terminal, env=environment, check=False, timeout=60)
        seen = b""
        try:
            while chunk := screen.read(65536):
                seen += chunk
        except OSError:  # how Linux says that the other side of a terminal is closed
            pass
    assert done.returncode == 1
    text = seen.decode()
    assert "│ event   │ Notes/b version 1 (position 2) │ the checksum does not match" in text
    assert "events" in text
    assert "\x1b[?25l" in text  # the bar hides the cursor while it moves


def test_help_and_version_come_without_ray():
    """In a process of its own: what is imported is what a user waits for."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["holdfast"] == "holdfast.runtime.cli:main"
    code = (
        "import sys; from holdfast.runtime import cli; sys.argv = ['holdfast', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "finally: print(sorted({'ray', 'rich', 'asyncpg', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    for args, said in (
        (["--help"], "verify"),
        (["verify", "--help"], "--module"),
        (["--version"], f"holdfast {version('holdfast')}"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert done.stderr.strip() == "[]"


def test_a_journal_of_partitions_is_verified_whole(tmp_path):
    """Also when the URL does not say so; each problem with its partition."""
    url = f"sqlite:///{tmp_path}/notes.db"
    with Runtime.local(f"{url}?partitions=2") as runtime:
        for id in "abcdef":
            runtime.get(Notes, id).note("x")
        heads = [sum(event.partition == number for event in runtime.read()) for number in (0, 1)]
    result = run(url)
    assert result.exit_code == 0, result.output
    assert f" in 2 partitions, up to positions {heads[0]} · {heads[1]}: 6 events; as of now: 6 streams" in result.stdout
    damage(f"{url}.p1")
    result = run(url)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("event  partition 1, Notes/")]
    assert len(lines) == 1
    assert lines[0].endswith("version 1 (position 2)  the checksum does not match")
    assert json.loads(run(f"{url}?partitions=2", "--json").stdout)["problems"][0]["partition"] == 1
    assert run(f"{url}?partitions=3").exit_code == 2


def commands(group=command_line.cli, path=()):
    """Each command, with its words."""
    for name, one in group.commands.items():
        yield (*path, name), one
        if isinstance(one, click.Group):
            yield from commands(one, (*path, name))


def test_each_command_is_listed_in_a_section_with_a_line_that_is_not_cut_off():
    """On a terminal of the usual width."""
    listed = CliRunner().invoke(command_line.cli, ["-h"], terminal_width=80).stdout
    assert not any(line.endswith("...") for line in listed.splitlines()[1:])
    assert "Other:" not in listed
    assert all(one.short_help for _, one in commands())


def test_an_option_is_the_same_in_all_commands_that_have_it():
    """Its short form, the variable it may come from, and what its value is called."""
    shared = ("journal", "module", "address", "namespace", "category", "json", "limit", "force")
    for name in shared:
        found = {
            (tuple(option.opts), option.envvar, option.metavar)
            for _, one in commands()
            for option in one.params
            if f"--{name}" in option.opts
        }
        assert len(found) == 1, (name, found)


@pytest.mark.parametrize("args", [["verify"], ["check", "--module", __name__], ["digest"], ["stats"], ["tail"]])
def test_json_of_any_command_holds_no_control_character(tmp_path, args):
    """Not even those that JSON itself would let through."""
    url = f"sqlite:///{tmp_path}/odd.db"
    asyncio.run(write(tmp_path / "odd.db", "a", "b", category="No\x9btes\u202e"))
    if args == ["verify"]:  # which names what is damaged alone
        damage(url)
    result = CliRunner().invoke(command_line.cli, [*args, url, "--json"])
    assert all(each.isprintable() for each in result.stdout.splitlines()), result.stdout
    assert all(json.loads(each) for each in result.stdout.splitlines())
    assert "No\\u009btes\\u202e" in result.stdout
