"""Fixtures for the tests of those who use Holdfast. pytest finds them by itself where Holdfast is installed.

    async def test_a_deposit_is_in_the_balance(holdfast_runtime):      # pytest-asyncio, or anyio on asyncio
        assert await holdfast_runtime.get(Account, "alice").deposit(5) == 5

    def test_the_same_without_asyncio(holdfast_runtime):               # a plain function: the blocking twin
        assert holdfast_runtime.get(Account, "alice").deposit(5) == 5

`holdfast_runtime` is a whole runtime in the process of the test, without Ray, on a journal in memory, by a clock that
stands still until the test moves it. What it is made with are fixtures too, to be overridden in a module or a
`conftest.py` (`holdfast_url`, `holdfast_keys`, `holdfast_placement`, `holdfast_config`, `holdfast_clock`), or said for
one test:

    @pytest.mark.holdfast(placement=Sharded(4), config=Config(timeout_s=2))

Every pytest in the environment imports this module, also where nobody uses it: it costs what it imports, so it imports
pytest, and the rest when a fixture is asked for.
"""

import importlib
import inspect
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from holdfast.actors import VirtualClock

    from .blocking import BlockingRuntime
    from .config import Config
    from .placement import Placement
    from .runtime import Opening

__all__ = [
    "holdfast_clock",
    "holdfast_config",
    "holdfast_journal_url",
    "holdfast_keys",
    "holdfast_opening",
    "holdfast_placement",
    "holdfast_ray",
    "holdfast_ray_keys",
    "holdfast_ray_opening",
    "holdfast_ray_url",
    "holdfast_runtime",
    "holdfast_url",
]

MARK = "holdfast"
OPTIONS = ("url", "keys", "placement", "config", "clock")
STARTED = datetime(2030, 1, 1, 12, tzinfo=UTC)
LOOP_SCOPES = ("function", "class", "module", "package", "session")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker takes, and have pytest-asyncio, where it is at work, open runtimes in its loops."""
    config.addinivalue_line("markers", f"{MARK}({', '.join(OPTIONS)}): what the test's holdfast_runtime is made with")
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(_opened_by_pytest_asyncio(), "holdfast-asyncio")


@pytest.fixture
def holdfast_url(request: pytest.FixtureRequest) -> str:
    """The journal of `holdfast_runtime`: in memory, unless the test says otherwise."""
    url: str = _said(request, "url", "memory://")
    return url


@pytest.fixture
def holdfast_keys(request: pytest.FixtureRequest, holdfast_url: str) -> str | None:
    """The store for the keys of personal data: in memory with a journal in memory, else a file of the test's own."""
    found: str | None = _said(request, "keys", "")
    if found == "":
        in_memory = holdfast_url.startswith("memory:")
        found = "memory://" if in_memory else f"sqlite:///{request.getfixturevalue('tmp_path') / 'keys.db'}"
    return found


@pytest.fixture
def holdfast_placement(request: pytest.FixtureRequest) -> "Placement | None":
    """Where its aggregates live. None: `Dedicated()`, which costs no process here."""
    placement: Placement | None = _said(request, "placement", None)
    return placement


@pytest.fixture
def holdfast_config(request: pytest.FixtureRequest) -> "Config | None":
    """Its bounds. None: `Config()`."""
    config: Config | None = _said(request, "config", None)
    return config


@pytest.fixture
def holdfast_clock(request: pytest.FixtureRequest) -> "VirtualClock":
    """What its commands, reminders and timers go by: a `VirtualClock` that stands at noon of 1 January 2030, UTC.

    In a test that is async, `await holdfast_clock.advance(timedelta(days=30))`; in a plain one,
    `holdfast_runtime.wait(holdfast_clock.advance(…))`. Override it with `MACHINE` of `holdfast.actors.clock` for the
    machine's time."""
    clock: VirtualClock = _said(request, "clock", None) or _actors().VirtualClock(STARTED)
    return clock


@pytest.fixture
def holdfast_journal_url(tmp_path: Path) -> str:
    """The URL of a journal in a file of the test's own, in which nothing is yet: for what must outlive a runtime. Open
    it, close it and open it again, or have `holdfast_url` return it, and `holdfast_runtime` uses it."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def holdfast_opening(
    holdfast_url: str, holdfast_keys: str | None, holdfast_placement: Any, holdfast_config: Any, holdfast_clock: Any
) -> "Opening":
    """`holdfast_runtime`, not opened yet: for tests that open it themselves, `async with` or `with`."""
    opening: Opening = _front().Runtime.local(
        holdfast_url, keys=holdfast_keys, placement=holdfast_placement, config=holdfast_config, clock=holdfast_clock
    )
    return opening


@pytest.fixture
def holdfast_runtime(request: pytest.FixtureRequest) -> Any:
    """A runtime of the test's own, in its process, without Ray, closed when the test is over: a `Runtime` in the event
    loop of an async test, a `BlockingRuntime` for a plain function."""
    return request.getfixturevalue(f"_holdfast_local_{_runner_of(request)}")


@pytest.fixture(scope="session")
def holdfast_ray_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The journal of `holdfast_ray`: one file for all tests of the session, so each uses ids of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('holdfast') / 'journal.db'}"


@pytest.fixture(scope="session")
def holdfast_ray_keys(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store for its keys of personal data."""
    return f"sqlite:///{tmp_path_factory.mktemp('holdfast-keys') / 'keys.db'}"


@pytest.fixture(scope="session")
def holdfast_ray(holdfast_ray_url: str, holdfast_ray_keys: str) -> "Iterator[BlockingRuntime]":
    """A `BlockingRuntime` on Ray, started on first use (seconds) and ended with the session: for what only processes
    show. Async tests take `holdfast_ray_opening`."""
    with _on_ray(holdfast_ray_url, holdfast_ray_keys) as runtime:
        yield runtime


@pytest.fixture
def holdfast_ray_opening(holdfast_ray: "BlockingRuntime", holdfast_ray_url: str, holdfast_ray_keys: str) -> "Opening":
    """Another runtime on the Ray and the journal of `holdfast_ray`: `async with holdfast_ray_opening as runtime`."""
    return _on_ray(holdfast_ray_url, holdfast_ray_keys)


def _on_ray(url: str, keys: str) -> "Opening":
    front = _front()
    opening: Opening = front.Runtime.open(url, keys=keys, placement=front.Sharded(1))
    return opening


@pytest.fixture
def _holdfast_local_blocking(holdfast_opening: "Opening") -> "Iterator[BlockingRuntime]":
    with holdfast_opening as runtime:
        yield runtime


@pytest.fixture
async def _holdfast_local_anyio(holdfast_opening: "Opening") -> AsyncIterator[Any]:
    """Run by anyio's plugin, as every async fixture of a test that it runs."""
    async with holdfast_opening as runtime:
        yield runtime


def _opened_by_pytest_asyncio() -> ModuleType:
    """Fixtures that pytest-asyncio runs, one for each of the loops that a test may run in."""
    fixture: Any = importlib.import_module("pytest_asyncio").fixture
    fixtures = ModuleType("holdfast_asyncio_fixtures")
    for scope in LOOP_SCOPES:

        async def opened(holdfast_opening: "Opening") -> AsyncIterator[Any]:
            async with holdfast_opening as runtime:
                yield runtime

        name = f"_holdfast_local_{scope}"
        setattr(fixtures, name, fixture(opened, loop_scope=scope, name=name))
    return fixtures


def _runner_of(request: pytest.FixtureRequest) -> str:
    """Who runs the test, and so has the event loop in which its runtime belongs."""
    test: pytest.Function = request.node
    if not inspect.iscoroutinefunction(inspect.unwrap(test.obj)):
        return "blocking"
    if "anyio_backend" in request.fixturenames:
        if (backend := request.getfixturevalue("anyio_backend_name")) != "asyncio":
            pytest.fail(f"holdfast_runtime needs asyncio; this test runs on {backend}", pytrace=False)
        return "anyio"
    marker = test.get_closest_marker("asyncio")
    if marker is None or not request.config.pluginmanager.hasplugin("asyncio"):
        pytest.fail(
            "holdfast_runtime is opened in the event loop of an async test, which pytest-asyncio or anyio runs;"
            " where something else does: async with holdfast_opening as runtime",
            pytrace=False,
        )
    scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
    return str(scope)


def _said(request: pytest.FixtureRequest, option: str, default: Any) -> Any:
    """What the test's marker says of an option."""
    said = {
        key: value for mark in reversed(list(request.node.iter_markers(MARK))) for key, value in mark.kwargs.items()
    }
    if unknown := sorted(said.keys() - set(OPTIONS)):
        pytest.fail(f"@pytest.mark.{MARK} takes {', '.join(OPTIONS)}, not {', '.join(unknown)}", pytrace=False)
    return said.get(option, default)


def _front() -> Any:
    return importlib.import_module(__package__ or "")


def _actors() -> Any:
    return importlib.import_module("holdfast.actors")
