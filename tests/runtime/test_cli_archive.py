"""`holdfast export`, `import`, `digest` and `backup`: what goes where, and the exit status of each end."""

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from archive_stories import Place, story, write
from click.testing import CliRunner

from holdfast.journal.url import open_store
from holdfast.runtime.cli import cli

MAIN = [sys.executable, "-c", "from holdfast.runtime.cli import main; main()"]


def run(*args, input=None):
    return CliRunner().invoke(cli, list(map(str, args)), input=input)


def program(*args, **how):
    return subprocess.run([*MAIN, *map(str, args)], capture_output=True, check=False, timeout=120, **how)


def make(url, seed=41, length=60):
    async def made():
        store = open_store(url)
        await store.open()
        await write([store], story(seed, length=length))
        await store.close()

    asyncio.run(made())
    return url


@pytest.fixture
def bank(tmp_path):
    return make(f"sqlite:///{tmp_path}/bank.db?lock_wait_s=0")


def digest(url):
    return json.loads(run("digest", url, "--json").stdout)


def test_export_into_import_gives_an_equal_journal(bank, tmp_path):
    """Through a pipe: the archive on stdout, the digests on stderr, and the same ones from the import."""
    exported = run("export", bank)
    assert exported.exit_code == 0, exported.stderr
    imported = run("import", f"sqlite:///{tmp_path}/copy.db", input=exported.stdout_bytes)
    assert imported.exit_code == 0, imported.stderr
    lines = exported.stderr.splitlines()
    assert imported.stdout.splitlines()[: len(lines)] == lines == run("digest", bank).stdout.splitlines()
    assert "positions are kept; 1 checkpoints of followers with them" in imported.stdout
    assert lines[-1].endswith("keyed replies")
    assert "  total: " in lines[-1]
    assert digest(f"sqlite:///{tmp_path}/copy.db") == digest(bank)


def test_sqlite_into_postgres_and_back_through_real_pipes_is_the_same_archive(bank, tmp_path):
    """Three journals, three archives, one sequence of bytes."""
    between, back = Place("postgres", tmp_path).url, f"sqlite:///{tmp_path}/back.db"
    archives = [program("export", bank).stdout]
    for source, target in ((bank, between), (between, back)):
        with subprocess.Popen([*MAIN, "export", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as exporting:
            done = program("import", target, stdin=exporting.stdout)
            assert done.returncode == 0, done.stderr
            exporting.communicate()
        assert exporting.returncode == 0
        archives.append(program("export", target).stdout)
    assert archives[0] == archives[1] == archives[2] != b""
    assert digest(bank) == digest(between) == digest(back)


def test_export_into_a_file_has_another_name_until_it_is_whole(bank, tmp_path):
    """And the digests go to stdout, as one object if that is asked for."""
    file = tmp_path / "bank.hfa"
    result = run("export", bank, "-o", file, "--compress", "--snapshots", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == digest(bank)
    assert not Path(f"{file}.part").exists()
    assert run("import", f"sqlite:///{tmp_path}/copy.db", "-i", file, "--json").exit_code == 0
    again = run("export", bank, "-o", file)
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert run("export", bank, "-o", file, "--force").exit_code == 0
    assert file.read_bytes() == run("export", bank).stdout_bytes


def test_resume_goes_on_with_what_is_there(bank, tmp_path):
    """From a part of the archive, from a part of its header, from an empty file; not without being told to."""
    file, part = tmp_path / "bank.hfa", tmp_path / "bank.hfa.part"
    whole = run("export", bank).stdout_bytes
    for size in (len(whole) - 10, len(whole) // 2, 20, 0):
        part.write_bytes(whole[:size])
        refused = run("export", bank, "-o", file)
        assert refused.exit_code == 2
        assert "--resume" in refused.stderr
        resumed = run("export", bank, "-o", file, "--resume")
        assert resumed.exit_code == 0, resumed.stderr
        assert file.read_bytes() == whole
        file.unlink()
    assert run("export", bank, "-o", file, "--resume").exit_code == 2
    assert run("export", bank, "--resume").exit_code == 2
    part.write_bytes(whole[:-10])
    other = run("export", bank, "-o", file, "--resume", "--compress")
    assert (other.exit_code, "other options" in other.stderr) == (2, True)
    assert part.read_bytes() == whole[:-10]


def test_export_does_not_write_to_a_terminal(bank):
    """An archive is no text; and an import does not wait for somebody to type one."""
    for command, said in ((["export", bank], b"-o FILE"), (["import", bank], b"-i FILE")):
        terminal, end = pty.openpty()
        try:
            done = subprocess.run([*MAIN, *command], stdin=end, stdout=end, stderr=subprocess.PIPE, check=False)
        finally:
            os.close(end)
            os.close(terminal)
        assert done.returncode == 2
        assert said in done.stderr


def test_import_of_a_damaged_or_torn_archive_ends_with_status_1_and_says_where(bank, tmp_path):
    """What is whole of it was taken; what is no archive makes no journal."""
    whole = run("export", bank).stdout_bytes
    target = f"sqlite:///{tmp_path}/copy.db"
    torn = run("import", target, input=whole[:-10])
    assert torn.exit_code == 1
    assert "stdin: block 4, at byte" in torn.stderr
    changed = bytearray(whole)
    changed[-200] ^= 1
    damaged = run("import", target, input=bytes(changed))
    assert damaged.exit_code == 1
    assert "its digest does not match" in damaged.stderr
    again = run("import", target, input=whole)
    assert again.exit_code == 0, again.stderr
    assert "0 events written" in again.stdout
    none = run("import", f"sqlite:///{tmp_path}/none.db", input=b"hello")
    assert none.exit_code == 1
    assert "is no Holdfast archive" in none.stderr
    assert not (tmp_path / "none.db").exists()


def test_import_over_another_history_ends_with_status_1_and_the_version(bank, tmp_path):
    """And says which stream it is of."""
    other = make(f"sqlite:///{tmp_path}/other.db", seed=42)
    result = run("import", other, input=run("export", bank).stdout_bytes)
    assert result.exit_code == 1
    assert " version " in result.stderr
    assert "another" in result.stderr


def test_export_and_import_change_the_number_of_partitions(bank, tmp_path):
    """The digests of contents are the same, and it is said that positions are new."""
    target = f"sqlite:///{tmp_path}/four.db?partitions=4"
    result = run("import", target, input=run("export", bank).stdout_bytes)
    assert result.exit_code == 0, result.stderr
    assert "positions are new" in result.stdout
    assert "1 checkpoints of followers were left" in result.stdout
    found, wanted = digest(f"sqlite:///{tmp_path}/four.db"), digest(bank)
    assert (found["digest"], found["categories"]) == (wanted["digest"], wanted["categories"])
    assert len(found["partitions"]) == 4


def test_export_of_one_category_is_digested_as_that_category(bank):
    """`digest --category` reads the same."""
    assert (
        run("export", bank, "--category", "Loan", "--json").stderr
        == run("digest", bank, "--category", "Loan", "--json").stdout
    )


def test_backup_makes_a_journal_that_verify_finds_whole(bank, tmp_path):
    """And says what it made, with its SHA-256; another one is not written over it."""
    copy = tmp_path / "copy.db"
    result = run("backup", bank, copy)
    assert result.exit_code == 0, result.stderr
    assert "copy.db: " in result.stdout
    assert len(result.stdout.split()[0]) == 64
    assert run("verify", f"sqlite:///{copy}").exit_code == 0
    assert digest(f"sqlite:///{copy}") == digest(bank)
    assert run("backup", bank, copy).exit_code == 2
    again = run("backup", bank, copy, "--force", "--json")
    assert json.loads(again.stdout)["files"][0]["file"] == "copy.db"


def test_backup_of_postgres_is_an_archive_that_import_brings_back(tmp_path):
    """And prints the digests of what is in it."""
    url = make(Place("postgres", tmp_path).url)
    result = run("backup", url, tmp_path / "bank.hfa", "--compress", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["contents"] == digest(url)
    assert run("import", f"sqlite:///{tmp_path}/back.db", "-i", tmp_path / "bank.hfa").exit_code == 0
    assert digest(f"sqlite:///{tmp_path}/back.db") == digest(url)


@pytest.mark.parametrize("command", [["export"], ["digest"], ["backup", "FILE"]])
def test_archive_commands_that_cannot_run_end_with_status_2_and_a_line(command, tmp_path):
    """No journal, no URL, a journal in memory: a line on stderr, nothing on stdout, nothing made."""
    name, *rest = command
    for url in (f"sqlite:///{tmp_path}/none.db", "bank.db", "memory://"):
        result = run(name, url, *(str(tmp_path / "out") for _ in rest))
        assert result.exit_code == 2, (url, result.output)
        assert result.stderr.splitlines()[-1].startswith(("holdfast: ", "Error: what is 'bank.db'?"))
        assert not result.stdout
    assert not list(tmp_path.iterdir())


def test_import_into_a_journal_that_is_in_use_ends_with_status_2(bank, tmp_path):
    """It says who has it."""
    archive = run("export", bank).stdout_bytes

    async def held():
        store = open_store(bank)
        await store.open()
        result = await asyncio.to_thread(run, "import", bank, input=archive)
        await store.close()
        return result

    result = asyncio.run(held())
    assert result.exit_code == 2
    assert f"already open for writing by pid {os.getpid()}" in result.stderr


def test_export_into_a_pipe_that_nobody_reads_any_more_ends_quietly(tmp_path):
    """With the status for that; no traceback, neither from the command nor from Python's own end."""
    bank = make(f"sqlite:///{tmp_path}/long.db", length=3000)
    with subprocess.Popen([*MAIN, "export", bank], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as exporting:
        assert exporting.stdout.read(1) == b"\x93"
        exporting.stdout.close()
        told = exporting.stderr.read().decode()
    assert exporting.returncode == 141
    assert told == ""


def test_export_and_import_that_are_interrupted_say_how_to_go_on(bank, tmp_path):
    """SIGINT while they wait for the other end of a pipe; both can be run again."""
    with subprocess.Popen([*MAIN, "import", f"sqlite:///{tmp_path}/copy.db"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as importing:  # fmt: skip
        archive = run("export", bank).stdout_bytes
        importing.stdin.write(archive[:-10])
        importing.stdin.flush()
        wait_for(tmp_path / "copy.db", importing)
        importing.send_signal(signal.SIGINT)
        told = importing.stderr.read().decode()
    assert importing.returncode == 130, told
    assert told == "holdfast: interrupted; run it again, and it goes on\n"
    assert run("import", f"sqlite:///{tmp_path}/copy.db", input=archive).exit_code == 0


def wait_for(path, process):
    """Until a journal is there, with a log of its writer."""
    log = Path(f"{path}-wal")
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None
        os.sched_yield()


def test_export_reads_and_changes_nothing(bank, tmp_path):
    """The journal's files, their bytes and their times are as they were."""
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    for command in (["export"], ["digest"], ["export", "--category", "Loan", "--snapshots", "--compress"]):
        assert run(*command[:1], bank, *command[1:]).exit_code == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_a_damaged_journal_is_not_exported(bank, tmp_path):
    """Status 1, the event named, and the file never gets its name."""
    with closing(sqlite3.connect(tmp_path / "bank.db", isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_update")
        raw.execute("UPDATE events SET recorded_at = 5 WHERE position = 20")
    result = run("export", bank, "-o", tmp_path / "bank.hfa")
    assert result.exit_code == 1
    assert "(position 20): the checksum does not match" in result.stderr
    assert not (tmp_path / "bank.hfa").exists()
