"""`holdfast ui`, as it is started from a shell."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.runtime.cli import cli
from holdfast.runtime.console.serve import AddressTaken, is_loopback

HERE = Path(__file__).parent


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast.runtime.cli", "ui", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE)} | environment,
    )


def test_it_prints_where_it_is_and_ends_with_an_interrupt(shop):
    """The address lets in whoever opens it; Ctrl-C ends it without a complaint; neither the token nor a request is in
    what it logs; and Ray was never imported."""
    process = started(shop.url, "--port", "0")
    address = ""
    try:
        address = process.stdout.readline().split()[-1]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"Entering" in opener.open(address).read()
        home = address.partition("?")[0]
        assert b"Order" in opener.open(home).read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(home)
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert "/ray/" not in loaded
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert address.partition("token=")[2] not in out + err
    assert "Traceback" not in err


def test_without_the_extra_it_says_what_to_install(shop, tmp_path):
    """One line, and the status of what could not run."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    process = started(shop.url, PYTHONPATH=str(tmp_path))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.strip() == "holdfast: holdfast ui needs starlette: pip install 'holdfast[ui]'"
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-token", "--host", "0.0.0.0"], "loopback"),
        (["--module", "no_such_module"], "no_such_module"),
        (["Account/alice"], "Account/alice"),
        (["--port", "70000"], "70000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_listens(shop, arguments, says):
    """With the usual status of a wrong use."""
    result = CliRunner().invoke(cli, ["ui", shop.url, *arguments])
    assert result.exit_code == 2
    assert says in result.output


def test_a_port_that_is_taken_is_told(shop):
    """By number, and not as a traceback."""
    first = started(shop.url, "--port", "0", "--no-token")
    try:
        port = first.stdout.readline().rstrip("/\n").rpartition(":")[2]
        result = CliRunner().invoke(cli, ["ui", shop.url, "--port", port])
        assert result.exit_code == 2
        assert f"127.0.0.1 port {port}: another program listens there" in result.output
    finally:
        first.terminate()
        first.communicate(timeout=30)


def test_an_error_crosses_with_its_fields():
    """As all errors of Holdfast."""
    error = AddressTaken("127.0.0.1", 80, "Permission denied")
    assert error.args == (error.host, error.port, error.problem)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("desk.example", False),
    ],
)
def test_loopback_is_known_by_its_numbers(host, wanted):
    """A name that is not `localhost` may be anybody's."""
    assert is_loopback(host) is wanted
