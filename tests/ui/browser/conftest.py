"""A real browser in front of a real console: `holdfast ui`, started as a user starts it, in a process of its own.

Not part of the default collection: `make ui-test` sets up what is needed here, and runs it.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent

for folder in (HERE, HERE.parent, HERE.parent.parent / "runtime"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `make ui-test` installs it")

import hf_browser  # noqa: E402
import hf_shop  # noqa: E402


@pytest.fixture(scope="session")
def chromium() -> Iterator["playwright.Browser"]:
    """The system's Chromium, without a window."""
    path = hf_browser.chromium_path()
    if path is None:
        pytest.skip("NO BROWSER: none of this was tested. Install Chromium, or set CHROMIUM to where it is.")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> hf_shop.Shop:
    """The shop's journal. Made in another thread: Playwright has an event loop running in this one."""
    with ThreadPoolExecutor(1) as another:
        return another.submit(asyncio.run, hf_shop.make(tmp_path_factory.mktemp("shop"))).result()


@pytest.fixture(scope="session")
def entrance(shop: hf_shop.Shop) -> Iterator[str]:
    """The address that `holdfast ui` printed, with its token."""
    command = [sys.executable, "-m", "holdfast.runtime.cli", "ui", shop.url, "--module", "hf_shop", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("The console is at http://127.0.0.1:"), line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def visit(chromium, entrance, request) -> Iterator[hf_browser.Visit]:
    """A visitor who has entered, and whose browser is watched: whatever it complains of, and whatever leaves the
    origin, fails the test."""
    with hf_browser.visiting(chromium, entrance, **getattr(request, "param", {})) as visit:
        yield visit
        visit.check()


@pytest.fixture(scope="session")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console over a shop at work, whose hosts it sees."""
    with hf_browser.shop_at_work(tmp_path_factory.mktemp("work")) as address:
        yield address
