"""Metrics: one table, all of it true, and nothing beside it; a dashboard and alerts that ask for nothing else."""

import asyncio
import json
import random
import re
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray
import yaml
from hf_sight import Notes, SetAside, Shop, Strict
from hf_support import eventually

from holdfast.actors import Rejected
from holdfast.actors.errors import DeadlineExceeded
from holdfast.journal.errors import Fenced, VersionConflict
from holdfast.journal.histogram import COUNTS, SECONDS, Histogram
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.metric_table import METRICS, as_markdown
from holdfast.runtime.metrics import Sample, Sampler, summed

DOCS = Path(__file__).parents[2] / "docs"
BOARD = json.loads((DOCS / "grafana" / "holdfast.json").read_text())
ALERTS = yaml.safe_load((DOCS / "grafana" / "alerts.yml").read_text())["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
SERIES = re.compile(r"\bray_(holdfast_\w+)")


def of(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """The value of a series."""
    wanted = tuple(sorted(labels.items()))
    return next(sample.value for sample in samples if (sample.name, sample.labels) == (name, wanted))


# -- the table ---------------------------------------------------------------------------------------------------


def test_the_metrics_page_has_the_table_of_the_code() -> None:
    """Written by the module, word by word."""
    page = (DOCS / "metrics.md").read_text()
    assert as_markdown() in page
    assert page.count("| `holdfast_") == len(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_metrics_are_named_as_prometheus_names_them(metric: Any) -> None:
    """`_total` for what only grows, and for nothing else; base units; labels that are bounded."""
    assert re.fullmatch(r"holdfast_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.sort == "counter")
    assert not re.search(r"(_ms|_millis|_minutes|_kib|_count|_sum|_bucket)$", metric.name)
    assert ("seconds" in metric.name) == (metric.unit == "seconds")
    assert set(metric.labels) <= {"type", "partition", "follower", "queue", "of"}, "no label for each aggregate"


async def test_all_metrics_of_the_table_appear_when_something_provokes_them_and_no_others(tmp_path: Any) -> None:
    """Each with a value above 0 at some time of a workload that has a little of everything."""
    seen: dict[str, float] = {}
    config = Config(slow_command_s=0.05, journal_patience_s=10)
    url = f"sqlite:///{tmp_path}/shop.db"

    async def look(runtime: Runtime) -> bool:
        for sample in await runtime.metrics():
            assert sample.metric in METRICS, f"{sample.name} is in no table"
            labels = [name for name, _ in sample.labels if name != "le"]
            assert tuple(labels) == METRICS[sample.metric].labels
            seen[sample.metric] = max(seen.get(sample.metric, 0), sample.value)
        return True

    async with Runtime.local(url, placement=Sharded(1), config=config) as runtime:
        shop = runtime.get(Shop, "a")
        for amount in (1, 2, 13, 4):
            await shop.add(amount)
        assert await runtime.get(Shop, "a", idempotency_key="k").add(5) == 25
        assert await runtime.get(Shop, "a", idempotency_key="k").add(5) == 25
        assert await shop.now() == 25
        with pytest.raises(Rejected):
            await shop.add(-1)
        with pytest.raises(ZeroDivisionError):
            await shop.break_after()
        with pytest.raises(DeadlineExceeded):
            await runtime.get(Shop, "late", timeout_s=0.02).wait_for(f"{tmp_path}/never")
        await look(runtime)
        for reaction in (Notes, Strict, SetAside):
            await runtime.start(reaction)
        waiting = asyncio.create_task(shop.wait_for(f"{tmp_path}/gate"))
        await eventually(lambda: _is_slow(runtime))
        await eventually(lambda: _has_all(runtime, look, seen, "holdfast_follower_"))
        (tmp_path / "gate").touch()
        await waiting
        await _refused(runtime)
        await look(runtime)
        assert await runtime.passivate(Shop, "a")
        assert await shop.now() == 25
        await runtime._cluster.kill(await runtime._cluster.journal())
        assert await shop.add(1) == 26
        await look(runtime)
    assert METRICS.keys() - seen.keys() == set(), "never appeared"
    assert {name for name, most in seen.items() if not most} == set(), "nothing provoked them"


async def _is_slow(runtime: Runtime) -> bool:
    return any(host.slow_commands for host in (await runtime.statistics()).hosts)


async def _has_all(runtime: Runtime, look: Any, seen: dict[str, float], prefix: str) -> bool:
    """The followers start anew from time to time, and are behind then."""
    await runtime.get(Shop, "b").add(13)
    await look(runtime)
    return all(seen.get(name) for name in METRICS if name.startswith(prefix))


async def _refused(runtime: Runtime) -> None:
    """An append with another version than the journal has, and one of an owner that has a successor."""
    journal, event = runtime._journal, NewEvent(type="x", payload=b"", command_id="c", recorded_at=0, metadata=b"")
    first = await journal.claim("somebody", "one")

    async def append(version: int, epoch: int) -> None:
        stream = StreamId("Other", "x")
        await journal.append(
            Append(stream=stream, owner="somebody", epoch=epoch, expected_version=version, events=(event,), keys=())
        )

    with pytest.raises(VersionConflict):
        await append(7, first)
    await journal.claim("somebody", "two")
    with pytest.raises(Fenced):
        await append(0, first)


async def test_metrics_count_what_was_done() -> None:
    """Commands, events, batches and times fit each other, over two hosts and two partitions."""
    async with Runtime.local("memory://?partitions=2", placement=Sharded(2)) as runtime:
        await asyncio.gather(*(runtime.get(Shop, f"{n % 10}").add(1) for n in range(100)))
        samples = await runtime.metrics()
    shop = {"type": "Shop"}
    assert of(samples, "holdfast_commands_total", **shop) == 100
    assert of(samples, "holdfast_events_total", **shop) == 100
    assert of(samples, "holdfast_live_aggregates", **shop) == 10
    assert of(samples, "holdfast_command_seconds_count", **shop) == 100
    assert of(samples, "holdfast_command_seconds_bucket", **shop, le="+Inf") == 100
    assert of(samples, "holdfast_batch_commands_sum", **shop) == 100
    appends = [of(samples, "holdfast_appends_total", partition=str(number)) for number in (0, 1)]
    assert of(samples, "holdfast_batch_commands_count", **shop) == sum(appends)
    assert of(samples, "holdfast_gate_wait_seconds_count", **shop) == sum(appends)
    assert of(samples, "holdfast_gate_wait_seconds_sum", **shop) > 0
    for number, appended in enumerate(appends):
        assert of(samples, "holdfast_commit_appends_sum", partition=str(number)) == appended
        assert of(samples, "holdfast_commits_total", partition=str(number)) <= appended


async def test_metrics_that_are_not_wanted_take_no_times() -> None:
    """The counts of hosts stay, since they are kept anyway."""
    async with Runtime.local(placement=Sharded(1), config=Config(metrics=False)) as runtime:
        await runtime.get(Shop, "a").add(1)
        names = {sample.name for sample in await runtime.metrics()}
    assert "holdfast_commands_total" in names
    assert not any("seconds" in name or "batch" in name for name in names)


# -- histograms and the sampler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [SECONDS, COUNTS])
def test_a_histogram_of_the_metrics_counts_as_a_list_would(bounds: tuple[float, ...]) -> None:
    """Each bucket holds what does not exceed its bound, exactly on it included."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance, histogram, values = random.Random(seed), Histogram(bounds), list[float]()
    for _ in range(500):
        value = chance.choice([*bounds, chance.uniform(0, 2 * bounds[-1])])
        times = chance.choice([1, 1, 3])
        histogram.observe(value, times)
        values += [value] * times
    assert histogram.cumulative() == [(b, sum(v <= b for v in values)) for b in (*bounds, float("inf"))]
    assert (histogram.count, round(histogram.sum, 6)) == (len(values), round(sum(values), 6))


async def test_the_sampler_of_metrics_goes_on_when_what_takes_them_fails(caplog: Any) -> None:
    """And says so; the last look is when it is stopped."""
    taken: list[int] = []
    looks = iter(range(1_000))

    def put(samples: Any) -> None:
        taken.append(samples)
        if len(taken) == 1:
            raise OSError("no way")

    sampler = Sampler(lambda: next(looks), put, 0.001)  # type: ignore[arg-type,return-value]
    sampler.start()
    await eventually(lambda: len(taken) > 3)
    before = len(taken)
    sampler.stop()
    assert len(taken) == before + 1
    assert taken == list(range(len(taken)))
    assert "sampler: a bug in it" in caplog.text


def test_metrics_of_one_name_and_labels_are_added_up() -> None:
    """Of several hosts of one type, say."""
    one, other = Sample("a", (("type", "x"),), 1), Sample("a", (("type", "y"),), 5)
    assert summed([one, other, one]) == [one._replace(value=2), other]


# -- what looks at them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in ALERTS)])
def test_queries_of_metrics_parse_and_ask_for_what_there_is(query: str) -> None:
    """Of the dashboard and of the alerts; by labels that the metric has, and by the histogram's series as such."""
    promql_parser.parse(query.replace("$__rate_interval", "1m"))
    names = SERIES.findall(query)
    assert names
    for name in names:
        metric = METRICS.get(name) or METRICS.get(name.rpartition("_")[0])
        assert metric is not None, f"there is no {name}"
        assert (metric.sort == "histogram") == (name not in METRICS), f"{name} is not how it is exported"
    known = {"job", "le", *(label for name in names for label in _metric(name).labels)}
    asked = re.findall(r"\bby \(([^)]*)\)", query) + re.findall(r"[{,]\s*(\w+)\s*=", query)
    assert {label.strip() for labels in asked for label in labels.split(",")} <= known


def _metric(name: str) -> Any:
    return METRICS.get(name) or METRICS[name.rpartition("_")[0]]


def test_the_dashboard_of_metrics_can_be_imported() -> None:
    """A schema version, panels in groups that do not overlap, variables for data source and job."""
    assert BOARD["schemaVersion"] >= 39
    assert [v["name"] for v in BOARD["templating"]["list"]] == ["datasource", "job", "type"]
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Commands", "Journal", "Hydration and passivation", "Followers", "Failures"]
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_all_metrics_but_a_few_are_on_the_dashboard() -> None:
    """What is measured is shown."""
    shown = {name for query in QUERIES for name in SERIES.findall(query)}
    assert {m for m in METRICS if not any(name.startswith(m) for name in shown)} == set()


def test_alerts_on_metrics_are_those_of_the_page() -> None:
    """Each with what to do; nothing in the page that does not exist."""
    page = (DOCS / "sight.md").read_text()
    assert re.findall(r"^\| `(Holdfast\w+)`", page, re.MULTILINE) == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("warning", "critical")


# -- Ray ---------------------------------------------------------------------------------------------------------


def scraped() -> str:
    """What the agent of this node serves to Prometheus."""
    node = ray.nodes()[0]
    with (
        suppress(OSError),
        urllib.request.urlopen(
            f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10
        ) as page,
    ):
        return str(page.read().decode())
    return ""


@pytest.mark.ray
async def test_metrics_reach_prometheus_by_rays_own_way(world: Any) -> None:
    """Of a host, of the journal, of a follower and of this process; zeros too, and histograms as such."""
    async with world.open(placement=Sharded(1), config=Config(metrics_every_s=0.2)) as runtime:
        await runtime.start(Notes)
        await asyncio.gather(*(runtime.get(Shop, f"{n}").add(1) for n in range(10)))
        await runtime.wait_for(Notes)

        async def exported() -> dict[str, list[str]] | None:
            """Lines by name: this Ray may have served other tests, whose series it still has."""
            page = await asyncio.to_thread(scraped)
            found: dict[str, list[str]] = {}
            for line in page.splitlines():
                if line.startswith("ray_holdfast_"):
                    found.setdefault(line.partition("{")[0], []).append(line)
            wanted = {f"ray_{name}" for name, metric in METRICS.items() if metric.sort != "histogram"}
            commands = found.get("ray_holdfast_commands_total", [])
            done = any('type="Shop"' in line and line.endswith(" 10.0") for line in commands)
            lags = "".join(found.get("ray_holdfast_follower_lag_events", []))
            return found if wanted <= found.keys() and done and 'follower="reaction/Notes"' in lags else None

        found = await eventually(exported, within_s=120)
        page = await asyncio.to_thread(scraped)
    assert any(line.endswith(" 0.0") for line in found["ray_holdfast_fenced_total"])
    assert "# TYPE ray_holdfast_commands_total counter" in page
    assert re.search(r'^ray_holdfast_command_seconds_bucket\{.*le="\+Inf".*type="Shop".*\} 10.0$', page, re.MULTILINE)
    for of in ("host", "journal"):
        assert f'of="{of}"' in page


@pytest.mark.ray
async def test_metrics_on_ray_can_be_asked_for_as_a_list(world: Any) -> None:
    """The same call as without Ray, over processes."""
    async with world.open(placement=Sharded(2)) as runtime:
        await asyncio.gather(*(runtime.get(Shop, f"{n}").add(1) for n in range(10)))
        samples = await runtime.metrics()
        assert of(samples, "holdfast_commands_total", type="Shop") == 10
        assert of(samples, "holdfast_fsync_seconds_count", partition="0") >= 1
