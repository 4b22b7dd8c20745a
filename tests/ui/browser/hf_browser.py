"""What the tests in a browser share with those who make the pictures: where it is, a watched visit, a shop at work."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hf_shop
import uvicorn
from hf_shop import Order, Sales, Shipping

from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.bystander import Bystander
from holdfast.runtime.console import Console, Onlooker, Source, app_of

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium_path() -> str | None:
    """Where the browser is: what CHROMIUM names, or the first that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Visit:
    """One browser window. `complaints`: what the console of the browser said; `abroad`: requests that left the origin;
    `dialogs`: what a script of a hostile page would open."""

    page: Any
    origin: str
    complaints: list[str] = field(default_factory=list)
    abroad: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def go(self, path: str, **query: object) -> Any:
        """To a page of the console."""
        self.page.goto(f"{self.origin}{path}" + (f"?{urlencode(query)}" if query else ""))
        return self.page

    def said(self, message: Any) -> None:
        """In the console of the browser."""
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def asked(self, request: Any) -> None:
        """By whatever is in a page."""
        if not request.url.startswith(f"{self.origin}/"):
            self.abroad.append(request.url)

    def failed(self, request: Any) -> None:
        """What a new page leaves unanswered is no failure."""
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url}: {request.failure}")

    def check(self) -> None:
        """Nothing went wrong that nobody looked at."""
        assert self.complaints == []
        assert self.abroad == []
        assert self.dialogs == []
        assert self.page.evaluate("window.hacked") is None


@contextlib.contextmanager
def visiting(browser: Any, entrance: str, **options: Any) -> Iterator[Visit]:
    """Enter by the printed address, in a window of its own. Violations of the content policy are complaints as well:
    the browser says them."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
    try:
        page = context.new_page()
        visit = Visit(page, entrance.partition("/?")[0])
        page.on("console", visit.said)
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("requestfailed", visit.failed)
        page.on("request", visit.asked)
        page.on("dialog", lambda dialog: (visit.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(entrance)
        page.wait_for_url(f"{visit.origin}/")
        yield visit
    finally:
        context.close()


@contextlib.contextmanager
def shop_at_work(folder: Path) -> Iterator[str]:
    """A runtime with customers, its followers, and a console that looks on, in a thread of their own. Gives the address
    to enter by."""
    started, over = threading.Event(), threading.Event()
    address: list[str] = []

    def run() -> None:
        asyncio.run(_work(folder, address, started, over))

    thread = threading.Thread(target=run, name="shop", daemon=True)
    thread.start()
    assert started.wait(120), "the shop did not open"
    try:
        yield address[0]
    finally:
        over.set()
        thread.join(60)


async def _work(folder: Path, address: list[str], started: threading.Event, over: threading.Event) -> None:
    url = f"sqlite:///{folder / 'bookshop.db'}"
    async with Runtime.local(f"{url}?synchronous=normal", placement=Sharded(3)) as runtime:
        await hf_shop.trade(runtime, orders=16)
        await runtime.start(Sales, f"sqlite:///{folder}/sales.db")
        await runtime.start(Shipping)
        await runtime.wait_for(Shipping)

        async def join() -> Bystander:
            return Bystander(runtime._cluster, await runtime._cluster.journals(), Config())

        onlooker = Onlooker(join, url)
        console = Console(source=Source(url, hf_shop.CLASSES), onlooker=onlooker, allow_changes=True)
        server = uvicorn.Server(uvicorn.Config(app_of(console), port=0, log_level="warning", access_log=False))
        serving = asyncio.create_task(server.serve())
        customers = asyncio.create_task(_customers(runtime))
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        address.append(f"http://127.0.0.1:{port}/?token={console.keys.token}")
        started.set()
        await asyncio.to_thread(over.wait)
        customers.cancel()
        await asyncio.wait({customers})
        server.should_exit = True
        await serving


async def _customers(runtime: Runtime) -> None:
    """They move house, over and over: some work for the hosts."""
    number = 0
    while True:
        number += 1
        await runtime.get(Order, f"2026-{1 + number % 16}").move(f"Canal Street {number}", "Turku")
        await asyncio.sleep(0.02)
