"""What a console shows of what runs, and what it may change there: over a cluster in this very process."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import hf_shop
import httpx2
import pytest
from hf_shop import Sales, Shipping, Stock
from hf_support import eventually
from test_ui_pages import text_of

from holdfast.journal.records import StreamId
from holdfast.runtime import Runtime, Sharded
from holdfast.runtime.bystander import Bystander
from holdfast.runtime.cluster import PeerGone
from holdfast.runtime.config import Config
from holdfast.runtime.console import Console, Keys, Onlooker, Source, app_of


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def shop_at_work(tmp_path, **options) -> AsyncIterator[tuple[Runtime, Console, httpx2.AsyncClient, Clock]]:
    """A runtime with orders in memory, a console that looks on, and somebody who reads its pages."""
    url, clock = f"sqlite:///{tmp_path}/live.db", Clock()
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        await hf_shop.trade(runtime, orders=4)
        onlooker = onlooker_of(runtime, clock)
        console = Console(source=Source(url, hf_shop.CLASSES), onlooker=onlooker, keys=Keys(token=None), **options)
        onlooker.start()
        await eventually(lambda: onlooker._bystander is not None)
        transport = httpx2.ASGITransport(app=app_of(console))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            try:
                yield runtime, console, client, clock
            finally:
                await onlooker.close()
                await console.source.close()


def onlooker_of(runtime: Runtime, clock: Clock, url: str | None = None) -> Onlooker:
    """One that has joined the cluster that this runtime lives in."""

    async def join() -> Bystander:
        return Bystander(runtime._cluster, await runtime._cluster.journals(), Config())

    return Onlooker(join, url or runtime._spec.url, now=clock)


async def page_of(client: httpx2.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, text_of(answer.text)
    return answer.text


async def test_hosts_and_live_aggregates_are_shown(tmp_path):
    """Each host with what it holds, and a link to each aggregate in memory."""
    async with shop_at_work(tmp_path) as (runtime, _, client, _):
        page = await page_of(client, "/live/now")
        live = (await runtime.statistics()).live
        assert f"Aggregates in memory {live}" in text_of(page)
        assert "Order#0" in page
        assert "Stock#1" in page
        assert 'href="/stream?of=Order%2F2026-1"' in page


async def test_rates_are_of_the_time_between_two_looks(tmp_path):
    """Ten commands in two seconds are five a second; before the second look no rate is claimed."""
    async with shop_at_work(tmp_path) as (runtime, console, _, clock):
        assert (await console.view()).rate("commands") is None
        for _ in range(10):
            await runtime.get(Stock, "Solaris").receive(1)
        clock.now += 2
        view = await console.view()
        assert view.rate("commands") == 5.0
        assert view.journal_rates is not None
        assert view.journal_rates["appends"] > 0


async def test_many_lookers_cost_one_look(tmp_path):
    """Within a second nobody is asked twice."""
    async with shop_at_work(tmp_path) as (_, console, _, clock):
        first = await console.view()
        assert all(each is first for each in await asyncio.gather(*(console.view() for _ in range(20))))
        clock.now += 1
        assert await console.view() is not first


async def test_followers_are_shown_with_phase_and_lag(tmp_path):
    """A projection and a reaction that have caught up, and what the reaction has set aside."""
    async with shop_at_work(tmp_path) as (runtime, _, client, clock):
        await runtime.start(Sales, f"sqlite:///{tmp_path}/sales.db")
        await runtime.start(Shipping)
        await runtime.wait_for(Shipping)
        await runtime.wait_for(Sales)
        clock.now += 1
        page = await page_of(client, "/followers")
        shown = text_of(page)
        assert "projection/Sales" in shown
        assert re.search(r"reaction/Shipping (live|catching up) \d", shown)
        assert "nobody knows where 2026-3 goes" in shown
        assert '<button type="submit"' not in page


async def test_a_host_that_does_not_answer_is_told_and_left_alone(tmp_path):
    """A runtime would end it; whoever only watches must not."""
    async with shop_at_work(tmp_path) as (runtime, _, client, _):
        peer = await runtime._cluster.find_host("Order#0")

        async def silent(method, *args):
            raise PeerGone("Order#0", "on purpose")

        peer.ask = silent
        page = await page_of(client, "/live/now")
        assert "silent" in text_of(page)
        assert await runtime._cluster.find_host("Order#0") is peer


async def test_a_namespace_of_another_journal_is_not_taken_for_this_one(tmp_path):
    """Its hosts would be shown beside streams that they do not hold."""
    async with shop_at_work(tmp_path) as (runtime, _, _, clock):
        onlooker = onlooker_of(runtime, clock, "sqlite:////elsewhere.db")
        onlooker.start()
        await eventually(lambda: onlooker._bystander is not None)
        view = await onlooker.view()
        assert not view.joined
        assert "live.db" in view.problem
        assert "elsewhere.db" in view.problem
        await onlooker.close()


async def test_a_cluster_that_cannot_be_joined_is_told(shop):
    """The pages of the journal are there all the same."""

    async def join():
        raise ConnectionError("nobody listens at 10.9.9.9:6379")

    onlooker = Onlooker(join, shop.url)
    console = Console(source=Source(shop.url), onlooker=onlooker, keys=Keys(token=None))
    onlooker.start()
    transport = httpx2.ASGITransport(app=app_of(console))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

        async def told():
            return "nobody listens at 10.9.9.9:6379" in await page_of(client, "/live/now")

        await eventually(told)
        assert "Order 24" in text_of(await page_of(client, "/"))
    await onlooker.close()
    await console.source.close()


async def test_looking_on_starts_nothing(tmp_path):
    """Not a host, not a journal, not a follower, however much is looked at."""
    async with shop_at_work(tmp_path) as (runtime, _, client, clock):
        cluster = runtime._cluster

        async def running():
            return (
                await cluster.host_names(),
                [each.name for each in await cluster.journals()],
                await cluster.follower_names(),
            )

        before = await running()
        for path in (
            "/live",
            "/live/now",
            "/followers",
            "/followers/now",
            "/stream?of=Order/2026-1",
            "/stream?of=Invoice/I-2026-4",
        ):
            clock.now += 1
            await page_of(client, path)
        assert await running() == before


async def test_an_aggregate_is_sent_out_of_memory(tmp_path):
    """By the button on its page; again, and it was not there; its snapshot is written."""
    async with shop_at_work(tmp_path, allow_changes=True) as (runtime, console, client, _):
        page = await page_of(client, "/stream?of=Order/2026-1")
        assert 'action="/passivate"' in page
        live = (await runtime.statistics()).live
        form = {"form_token": console.keys.form, "of": "Order/2026-1"}
        answer = await client.post("/passivate", data=form)
        assert answer.headers["location"] == "/stream?of=Order%2F2026-1&said=left"
        assert (await runtime.statistics()).live == live - 1
        state = await (await console.look()).state(StreamId("Order", "2026-1"))
        assert state is not None
        assert state.snapshot_version == state.version
        again = await client.post("/passivate", data=form)
        assert again.headers["location"].endswith("said=not-there")
        assert "It was not in memory" in text_of(await page_of(client, again.headers["location"]))


async def test_a_snapshot_is_written_and_the_aggregate_stays(tmp_path):
    """By the button beside the other one."""
    async with shop_at_work(tmp_path, allow_changes=True) as (runtime, console, client, _):
        live = (await runtime.statistics()).live
        answer = await client.post("/snapshot", data={"form_token": console.keys.form, "of": "Order/2026-1"})
        assert answer.headers["location"] == "/stream?of=Order%2F2026-1&said=snapshot"
        state = await (await console.look()).state(StreamId("Order", "2026-1"))
        assert state is not None
        assert state.snapshot_version == state.version
        assert (await runtime.statistics()).live == live


async def test_a_snapshot_without_the_class_is_refused(tmp_path):
    """It is made by the class."""
    async with shop_at_work(tmp_path, allow_changes=True) as (_, console, client, _):
        answer = await client.post("/snapshot", data={"form_token": console.keys.form, "of": "Nothing/x"})
        assert answer.status_code == 409
        assert "--module" in answer.text


async def test_a_cluster_that_has_gone_is_looked_for_again(tmp_path):
    """What was joined does not answer any more: the page says so, and sees the next one as soon as it is there."""
    async with shop_at_work(tmp_path) as (runtime, console, _, clock):
        for peer in await runtime._cluster.journals():
            await runtime._cluster.kill(peer)
        clock.now += 1
        gone = await console.view()
        assert not gone.joined
        assert "does not answer" in gone.problem
        await runtime.get(Stock, "Solaris").receive(1)  # has the journal come up again

        async def seen():
            clock.now += 1
            return (await console.view()).joined

        await eventually(seen)


async def test_a_dead_letter_is_replayed(tmp_path):
    """Once it can be handled, it is one no longer; as long as it cannot, the page says why."""
    async with shop_at_work(tmp_path, allow_changes=True) as (runtime, console, client, clock):
        await runtime.start(Shipping)
        await runtime.wait_for(Shipping)
        (letter,) = await runtime.dead_letters(Shipping)
        clock.now += 1
        assert 'action="/replay"' in await page_of(client, "/followers")
        form = {
            "form_token": console.keys.form,
            "name": "reaction/Shipping",
            "position": letter.position,
            "partition": 0,
        }
        answer = await client.post("/replay", data=form)
        assert answer.status_code == 409
        assert "nobody knows where 2026-3 goes" in text_of(answer.text)
        assert await runtime.dead_letters(Shipping) == [letter]


async def test_a_projection_is_rebuilt(tmp_path):
    """By the button beside it."""
    async with shop_at_work(tmp_path, allow_changes=True) as (runtime, console, client, clock):
        await runtime.start(Sales, f"sqlite:///{tmp_path}/sales.db")
        await runtime.wait_for(Sales)
        clock.now += 1
        assert 'action="/rebuild"' in await page_of(client, "/followers")
        answer = await client.post("/rebuild", data={"form_token": console.keys.form, "name": "projection/Sales@1"})
        assert answer.headers["location"] == "/followers?said=rebuilding"


@pytest.mark.parametrize(
    ("path", "form"), [("/rebuild", {"name": "nobody"}), ("/replay", {"name": "nobody", "partition": 0, "position": 1})]
)
async def test_a_change_to_a_follower_that_is_not_there_says_so(tmp_path, path, form):
    """And the page says which."""
    async with shop_at_work(tmp_path, allow_changes=True) as (_, console, client, _):
        answer = await client.post(path, data={"form_token": console.keys.form, **form})
        assert answer.status_code == 404
        assert "no nobody runs here" in text_of(answer.text)
