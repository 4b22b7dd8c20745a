"""Logs: one subject to a line, the same as fields; nothing configured unasked; no secret in any of them."""

import ast
import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from hf_sight import Shop, Strict
from hf_support import eventually, texts

from holdfast.journal.errors import HoldfastError
from holdfast.journal.subject import Log, Subject
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.logs import JsonFormatter, configure

ROOT = Path(__file__).parents[2]
FILES = sorted(path for layer in ("journal", "actors", "runtime") for path in (ROOT / layer).rglob("*.py"))
OWN = {"journal/subject.py", "runtime/logs.py"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@pytest.fixture
def holdfast_logger() -> Iterator[logging.Logger]:
    """The logger, which is afterwards as it was."""
    logger = logging.getLogger("holdfast")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def lines_of(path: Path) -> Iterator[ast.Call]:
    """The calls of a file that log something."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            whose = node.func.value
            if (isinstance(whose, ast.Name) and whose.id in ("log", "logger", "LOG", "logging")) or (
                isinstance(whose, ast.Attribute) and whose.attr in ("log", "logger", "_logger", "_log")
            ):
                yield node


def test_the_log_calls_are_found() -> None:
    """The tests below look at something."""
    assert sum(1 for path in FILES for _ in lines_of(path)) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_log_line_begins_with_its_subject(path: Path) -> None:
    """`log.warning(subject, "what happened: %s", …)`: a `Subject` first, then words, in lower case and without it."""
    if str(path.relative_to(ROOT)) in OWN:
        return
    source = path.read_text()
    assert "getLogger" not in source, "use Log(__name__) of holdfast.journal.subject"
    for call in lines_of(path):
        where = f"line {call.lineno}: "
        assert isinstance(call.func, ast.Attribute)
        assert call.func.attr in ("debug", "info", "warning", "error"), where + "Log has debug, info, warning, error"
        assert len(call.args) >= 2, where + "a subject, and what happened"
        subject, words = call.args[:2]
        assert not isinstance(subject, ast.Constant | ast.JoinedStr), where + "the subject comes first"
        assert isinstance(words, ast.Constant), where + "constant words, arguments behind them"
        assert isinstance(words.value, str)
        assert re.match(r"[a-z%]", words.value), where + "lower case"
        assert words.value.count("%") == len(call.args) - 2, where + "as many arguments as places"


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (Subject("Account", "alice", version=17), "Account<alice@17>"),
        (Subject("host", "Account#0", epoch=3, live=2), "host<Account#0@3>"),
        (Subject("line", "Account#0"), "line<Account#0>"),
        (Subject("spares"), "spares"),
    ],
)
def test_the_log_writes_subjects_the_same_way(subject: Subject, said: str) -> None:
    """Category, which of it, and its version or epoch, if it has one."""
    assert str(subject) == said


def test_log_records_carry_what_they_are_about_as_fields(caplog: Any) -> None:
    """With the kind of error, and the place where it was logged."""
    log = Log("holdfast.test")
    log.warning(Subject("Account", "alice", version=17, host="Account#0"), "it failed: %s", ValueError("why"))
    (record,) = caplog.records
    assert record.getMessage() == "Account<alice@17>: it failed: why"
    assert record.holdfast == {
        "category": "Account", "id": "alice", "version": 17, "host": "Account#0", "error": "ValueError",
    }  # fmt: skip
    assert record.filename == Path(__file__).name
    assert record.funcName == "test_log_records_carry_what_they_are_about_as_fields"


def test_log_lines_as_json_are_one_object_each(holdfast_logger: logging.Logger) -> None:
    """With fields beside the message, which they do not replace; tracebacks inside; anything printable."""
    out = io.StringIO()
    configure(level="INFO", json=True, stream=out)
    log = Log("holdfast.test")
    log.info(Subject("Account", "z\nö", version=1, message="not this"), "two\nlines %s", object)
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        log.error(Subject("x"), "bad", exc_info=error)
    log.debug(Subject("x"), "not at this level")
    holdfast_logger.warning("somebody else's %d", 5)
    first, second, third = map(json.loads, out.getvalue().splitlines())
    assert first["message"] == "Account<z\nö@1>: two\nlines <class 'object'>"
    assert (first["level"], first["logger"], first["id"], first["version"]) == ("INFO", "holdfast.test", "z\nö", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
    assert second["error"] == "ZeroDivisionError"
    assert second["traceback"].splitlines()[-1] == "ZeroDivisionError: why"
    assert third["message"] == "somebody else's 5"


def test_configuring_the_log_leaves_the_root_logger_alone(holdfast_logger: logging.Logger) -> None:
    """A second call replaces the first, and not what others have put there."""
    root, theirs = logging.getLogger(), logging.NullHandler()
    before = root.handlers[:], root.level
    holdfast_logger.addHandler(theirs)
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(level="ERROR", stream=second)
    Log("holdfast.test").error(Subject("x"), "said")
    Log("holdfast.test").warning(Subject("x"), "not said")
    assert first.getvalue() == ""
    assert second.getvalue().endswith("ERROR holdfast.test x: said\n")
    assert second.getvalue().count("\n") == 1
    assert theirs in holdfast_logger.handlers
    assert (root.handlers, root.level) == before


@pytest.mark.parametrize("level", ["LOUD", "info", ""])
def test_a_level_of_the_log_that_is_none_is_refused(level: str) -> None:
    """Where it is configured, and where a runtime's processes are told of it."""
    with pytest.raises(ValueError, match="level is one of"):
        configure(level=level)
    with pytest.raises(ValueError, match="log_level is one of"):
        Config(log_level=level)


async def test_opening_a_runtime_configures_no_log_of_this_process(holdfast_logger: logging.Logger) -> None:
    """Whatever the config says: that is for the processes that it starts."""
    before = holdfast_logger.handlers[:], holdfast_logger.level, holdfast_logger.propagate
    async with Runtime.local(config=Config(log_level="DEBUG", log_json=True)) as runtime:
        await runtime.get(Shop, "a").add(1)
    assert (holdfast_logger.handlers, holdfast_logger.level, holdfast_logger.propagate) == before


async def test_no_secret_is_in_the_log(caplog: Any) -> None:
    """The password of a URL: not of a journal that cannot be opened, and not in anything said on the way."""
    caplog.set_level(logging.DEBUG)
    url = "postgres://me:s3cr3t-word@127.0.0.1:1/nowhere"
    config = Config(journal_patience_s=0.2)
    with pytest.raises(HoldfastError) as raised:
        await Runtime.local(url, config=config)
    Log("holdfast.test").error(Subject("journal"), "it failed: %s", raised.value, exc_info=raised.value)
    formatter = JsonFormatter()
    said = "\n".join([*map(formatter.format, caplog.records), repr(raised.value), str(raised.value)])
    assert "it failed" in said
    assert "s3cr3t-word" not in said
    assert "s3cr3t-word" not in repr(config)


async def test_a_follower_that_stops_says_so_in_the_log(caplog: Any) -> None:
    """Under its name, with the epoch of its claim, and the problem."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.get(Shop, "a").add(13)
        await runtime.start(Strict)
        await eventually(lambda: "stopped: " in caplog.text)
    (record,) = [r for r in caplog.records if "stopped: " in r.getMessage()]
    assert record.getMessage().startswith("follower<reaction/Strict@1>: stopped: hf_sight.added at position 1")
    assert (record.holdfast["kind"], record.levelname) == ("reaction", "ERROR")


@pytest.mark.ray
async def test_the_processes_that_a_runtime_starts_log_as_it_says(world: Any, tmp_path: Path) -> None:
    """As JSON, to their stderr, which Ray keeps in its folder of logs."""
    config = Config(log_level="INFO", log_json=True, slow_command_s=0.05)
    id = f"logged-{world.namespace}"
    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    async with world.open(placement=Sharded(1), config=config) as runtime:
        waits = asyncio.create_task(runtime.get(Shop, id).wait_for(f"{tmp_path}/gate"))

        def told() -> list[Any]:
            lines = [line for text in texts(folder, "worker-*.err") for line in text.splitlines()]
            return [json.loads(line) for line in lines if line.startswith("{") and id in line]

        (line,) = await eventually(told)
        (tmp_path / "gate").touch()
        await waits
    assert (line["level"], line["logger"], line["id"]) == ("WARNING", "holdfast.actors.watchdog", id)
    assert line["message"].startswith(f"Shop<{id}@0>: wait_for has been running for ")
