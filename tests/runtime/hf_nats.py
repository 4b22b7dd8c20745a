"""A real NATS server with JetStream for the tests: that of this machine, else the one of a package of the `dev` group.

It ends with the tests, whatever ends them.
"""

import contextlib
import ctypes
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

_PR_SET_PDEATHSIG = 1


def program() -> str:
    """Where `nats-server` is. A test that needs it is skipped, and says so, where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip("NO NATS SERVER: nothing was tested against JetStream. Install the group dev of pyproject.toml")
    return found


class NatsServer:
    """One server, with files of its own. May be killed, and started again on the same files and port."""

    def __init__(self, folder: Path) -> None:
        self._program, self._folder = program(), folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        assert self._ports is not None, "it runs"
        return f"nats://127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Start it, and return when its streams can be used."""
        client, monitor = self._ports or (-1, -1)  # -1: any that is free
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{client}"\nhttp: "127.0.0.1:{monitor}"\nports_file_dir: "{self._folder}"\n'
            f'jetstream {{ store_dir: "{self._folder}/store" }}\nmax_payload: 1MB\n'
        )
        with (self._folder / "log").open("ab") as log:
            command = [self._program, "-c", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_end_with_parent)
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        self._until(ports.exists)
        self._until(lambda: ports.read_text().strip().endswith("}"))
        found = json.loads(ports.read_text())
        self._ports = tuple(int(found[kind][0].rpartition(":")[2]) for kind in ("nats", "monitoring"))
        self._until(self._is_healthy)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        assert self._process is not None, "it runs"
        self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _is_healthy(self) -> bool:
        assert self._ports is not None, "it runs"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[1]}/healthz", timeout=5) as answer:
                return json.load(answer) == {"status": "ok"}
        except OSError:
            return False

    def _until(self, ready: Any) -> None:
        give_up = time.monotonic() + 30
        while not ready():
            assert self._process is not None, "it runs"
            assert self._process.poll() is None, f"it ended: {(self._folder / 'log').read_text()[-2000:]}"
            assert time.monotonic() < give_up, f"it does not start: {(self._folder / 'log').read_text()[-2000:]}"
            time.sleep(0.005)


@contextlib.asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[Any]:
    """A client of the tests' own."""
    connection = await nats.connect(url)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def stored(url: str, stream: str) -> list[Any]:
    """All messages of a stream, as it stores them."""
    async with jetstream(url) as context:
        state = (await context.stream_info(stream)).state
        return [await context.get_msg(stream, seq) for seq in range(1, state.last_seq + 1)]


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
