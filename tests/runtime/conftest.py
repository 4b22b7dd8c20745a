"""Fixtures of the runtime's tests: one Ray for the session, and for each test a journal and a namespace of its own."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)  # `hf_bank` is imported by its name here, and by the hosts, which inherit the variable
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH", "")]))

if (TESTS := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(TESTS)

import hf_support  # noqa: E402
import postgres_server  # noqa: E402
import ray  # noqa: E402

from holdfast.runtime import Runtime  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need Ray come last: what takes milliseconds is told first."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray of the session, for all tests that share one. No process of it may be left behind."""
    before = hf_support.descendants(os.getpid())
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=2,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 << 20,
    )
    started = hf_support.descendants(os.getpid()) - before
    try:
        yield
    finally:
        ours = hf_support.descendants(os.getpid()) - before | started
        ours = {pid for pid in ours if hf_support.program(pid) != "postgres"}  # it serves the whole session
        ray.shutdown()
        left = lambda: not any(map(hf_support.is_running, ours))  # noqa: E731
        asyncio.run(hf_support.eventually(left))


class World:
    """One test's namespace and journal on the shared Ray."""

    def __init__(self, path: Path, namespace: str) -> None:
        self.path, self.namespace, self.url = path, namespace, f"sqlite:///{path}"

    def open(self, **how: Any) -> Any:
        return Runtime.open(self.url, namespace=self.namespace, **how)

    def actors(self) -> list[str]:
        """The names of this namespace's actors."""
        named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
        return [a["name"] for a in named if a["namespace"] == f"holdfast-{self.namespace}"]

    def handle(self, name: str) -> Any:
        return ray.get_actor(name, f"holdfast-{self.namespace}")

    def pid_of(self, name: str) -> int:
        """The process of one of this namespace's actors."""
        id = self.handle(name)._actor_id.hex()
        return int(ray._private.state.actors(id)["Pid"])

    def journal_pid(self) -> int:
        return hf_support.writer_pid(self.path)

    async def host_pids(self, runtime: Any, aggregate: type, ids: list[str]) -> list[int]:
        return sorted(set(await asyncio.gather(*(runtime.get(aggregate, id).pid() for id in ids))))

    def kill_journal(self) -> None:
        if pid := self.journal_pid():
            _kill(pid)

    def clear(self) -> None:
        for name in self.actors():
            try:
                ray.kill(self.handle(name))
            except ValueError:  # it has gone meanwhile
                continue


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.fixture
def kill() -> Callable[..., None]:
    """Send SIGKILL, or another signal, to a process that may have gone."""
    return _kill


@pytest.fixture
def world(ray_cluster: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A namespace and a journal file of the test's own; its actors end with it."""
    world = World(tmp_path / "journal.db", f"test-{os.getpid()}-{abs(hash(request.node.nodeid))}")
    try:
        yield world
    finally:
        world.clear()


@pytest.fixture(params=["sqlite", "postgres"])
def model_url(request: Any, tmp_path: Path) -> str:
    """A read model that nobody has used, in either database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'read.db'}"
    server = postgres_server.server()
    where = f"{postgres_server.USER}@:{server.port}/{postgres_server.DATABASE}"
    return f"postgres://{where}?host={server.folder}&schema={server.schema()}"
