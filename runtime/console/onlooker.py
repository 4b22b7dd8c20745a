"""An onlooker in a running cluster: what runs there, at one moment, and how much it has done since the last one.

It looks through a `Bystander`, which starts nothing and ends nothing, and gets that in the background: a console is
there before its cluster is, and after it. Nobody looks, nobody is asked; however many do, the cluster is asked at most
once in `FRESH_S`.
"""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.actors.host import HostStatistics
from holdfast.journal.errors import JournalUnavailable
from holdfast.journal.records import StoreStatistics
from holdfast.journal.subject import Log, Subject
from holdfast.journal.url import JournalUrl
from holdfast.runtime.config import Config
from holdfast.runtime.errors import NamespaceConflict
from holdfast.runtime.follower import FollowerStatistics

if TYPE_CHECKING:
    from holdfast.runtime.bystander import Bystander

__all__ = ["ABSENT", "HostView", "Onlooker", "View", "category_of", "onlooker_at"]

log = Log(__name__)

FRESH_S = 1.0
LOOK_S = 10.0
JOIN_AGAIN_S = 5.0
PATIENCE = Config(paused_s=3.0, journal_patience_s=3.0)
"""How long whoever looks waits for what may be paused; changes have `timeout_s`."""
IDS_ASKED_MAX = 5000
"""A host that holds more is not asked which they are: the list would be long to make and to carry."""
IDS_SHOWN_MAX = 48
RATES = ("commands", "queries", "events", "hydrations")

Join = Callable[[], Awaitable["Bystander"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """One host. `rates`: of its counters, per second since it was looked at before; None at first. `ids`: of what it
    holds, the most recently used first. None of it for a host that did not answer."""

    name: str
    statistics: HostStatistics | None = None
    rates: Mapping[str, float] | None = None
    ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A cluster at one moment. `joined`: whether there is one to see; else `problem` says why not. `silent`: followers
    that run and did not answer."""

    joined: bool
    problem: str = ""
    journal: StoreStatistics | None = None
    journal_rates: Mapping[str, float] | None = None
    hosts: Sequence[HostView] = ()
    followers: Sequence[FollowerStatistics] = ()
    silent: Sequence[str] = ()

    def total(self, name: str) -> int:
        """Of a figure, over the hosts that answered."""
        return sum(getattr(host.statistics, name) for host in self.hosts if host.statistics is not None)

    def rate(self, name: str) -> float | None:
        """Of a counter, per second, over all hosts; None until it was looked at twice."""
        rates = [host.rates[name] for host in self.hosts if host.rates is not None]
        return sum(rates) if rates or not self.hosts else None


ABSENT = View(joined=False)


class Onlooker:
    """Looks at one namespace, where the journal of `url` is to run. One event loop."""

    def __init__(
        self, join: Join, url: str, namespace: str = "default", now: Callable[[], float] = time.monotonic
    ) -> None:
        """`join`: to the cluster; raises while there is none. `now`: its clock, in seconds."""
        self._join, self._namespace, self._now = join, namespace, now
        self._journal = JournalUrl.parse(JournalUrl.parse(url).absolute()).redacted
        self._bystander: Bystander | None = None
        self._problem = "the cluster is being joined"
        self._joining: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._view, self._at = ABSENT, float("-inf")
        self._hosts_before: dict[tuple[str, int], tuple[float, HostStatistics]] = {}
        self._journal_before: tuple[float, StoreStatistics] | None = None

    def start(self) -> None:
        """Join the cluster in the background, now or as soon as there is one."""
        self._joining = asyncio.get_running_loop().create_task(self._keep_joining())

    async def close(self) -> None:
        """Leave it."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait({self._joining})
        await self._leave()

    @property
    def joined(self) -> "Bystander":
        """The way to ask for something. Raises `JournalUnavailable` while there is no cluster."""
        if self._bystander is None:
            raise JournalUnavailable(self._problem)
        return self._bystander

    async def view(self) -> View:
        """How the cluster is, at most `FRESH_S` ago."""
        async with self._looking:
            if self._bystander is not None and self._now() - self._at >= FRESH_S:
                self._view = await self._look(self._bystander)
                self._at = self._now()
            return self._view if self._bystander is not None else View(joined=False, problem=self._problem)

    async def _keep_joining(self) -> None:
        while self._bystander is None:
            try:
                self._bystander = await self._join()
            except Exception as error:  # whatever Ray raises where there is no cluster
                self._problem = str(error) or type(error).__name__
                log.warning(Subject("console"), "the cluster cannot be joined: %s", self._problem)
                await asyncio.sleep(JOIN_AGAIN_S)

    async def _leave(self) -> None:
        bystander, self._bystander = self._bystander, None
        if bystander is not None:
            await bystander.close()

    async def _look(self, bystander: "Bystander") -> View:
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._seen(bystander)
        except NamespaceConflict as error:
            return View(joined=False, problem=str(error))
        except Exception as error:  # a cluster that has gone raises what it likes; it may come back as another one
            self._problem = f"the cluster does not answer: {error or type(error).__name__}"
            await self._leave()
            self.start()
            return View(joined=False, problem=self._problem)

    async def _seen(self, bystander: "Bystander") -> View:
        serves = await bystander.journal()
        if _place(serves) != _place(self._journal):  # its hosts hold other streams of the same names
            raise NamespaceConflict(self._namespace, serves, self._journal)
        found, hosts, followers = await asyncio.gather(
            bystander.statistics(), bystander.host_names(), bystander.follower_names()
        )
        answered = {each.name: each for each in found.hosts}
        asked = [self._host(bystander, name, answered.get(name)) for name in sorted({*hosts, *answered}, key=_natural)]
        views = await asyncio.gather(*asked)
        self._hosts_before = {(each.name, each.epoch): (self._now(), each) for each in found.hosts}
        return View(
            joined=True,
            journal=found.journal,
            journal_rates=self._journal_rates(found.journal),
            hosts=views,
            followers=found.followers,
            silent=sorted({*followers} - {each.name for each in found.followers}),
        )

    async def _host(self, bystander: "Bystander", name: str, found: HostStatistics | None) -> HostView:
        if found is None:
            return HostView(name=name)
        ids = await bystander.live(name) if 0 < found.live <= IDS_ASKED_MAX else []
        before = self._hosts_before.get((name, found.epoch))
        rates = None if before is None else _rates(before[1], found, RATES, self._now() - before[0])
        return HostView(name=name, statistics=found, rates=rates, ids=ids[::-1][:IDS_SHOWN_MAX])

    def _journal_rates(self, found: StoreStatistics) -> Mapping[str, float] | None:
        before, self._journal_before = self._journal_before, (self._now(), found)
        return None if before is None else _rates(before[1], found, ("appends", "commits"), self._now() - before[0])


def onlooker_at(url: str, address: str, namespace: str) -> Onlooker:
    """One that joins the Ray cluster of an address (`"auto"`: the one on this machine). It never starts one."""

    async def join() -> "Bystander":
        # Ray takes most of a second to import, which is not for whoever looks at a file.
        opened: type[Bystander] = importlib.import_module("holdfast.runtime.bystander").Bystander
        return await opened.open(address=address, namespace=namespace, config=PATIENCE)

    return Onlooker(join, url, namespace)


def category_of(host: str, categories: Iterable[str]) -> str:
    """Of the aggregates of a host that is named as `Dedicated` and `Sharded` name them; empty if it is not."""
    return next((each for each in categories if host.startswith((f"{each}#", f"{each}/"))), "")


def _rates(before: object, now: object, names: Iterable[str], passed_s: float) -> Mapping[str, float] | None:
    """Of counters, per second. One that has fallen belongs to another life: nothing is said of it."""
    if passed_s <= 0:
        return None
    return {name: max(0.0, getattr(now, name) - getattr(before, name)) / passed_s for name in names}


def _place(url: str) -> str:
    """Where a journal lies, whatever options it is opened with."""
    return url.partition("?")[0]


def _natural(name: str) -> tuple[str, int]:
    """`Loan#10` comes after `Loan#9`."""
    head, _, number = name.rpartition("#")
    return (head, int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else (name, -1)
