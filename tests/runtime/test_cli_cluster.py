"""The command line at a running cluster: it looks, and does what it is asked, and neither starts nor ends anything."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import threading
from datetime import datetime

import pytest
from click.testing import CliRunner
from hf_bank import Account
from hf_look import Purse
from hf_project import Balances, Picky, balances
from hf_support import eventually

from holdfast.journal.records import StreamId
from holdfast.runtime import Config, NoSuchFollower, Runtime, Sharded, cli_aggregates, cli_live, cli_projections
from holdfast.runtime import bystander as bystander_module
from holdfast.runtime.bystander import Bystander
from holdfast.runtime.cli import cli
from holdfast.runtime.cluster import PeerGone
from holdfast.runtime.errors import NoCluster
from holdfast.runtime.inspection import Inspection
from holdfast.runtime.progress import draw, drawn
from holdfast.runtime.projection_follower import RebuildProgress


async def bystander_of(runtime):
    return Bystander(runtime._cluster, await runtime._cluster.journals(), Config())


@pytest.fixture
def here(monkeypatch):
    """Runs a command at a runtime of this process: in a thread, with what it asks in the runtime's own loop."""

    async def run(runtime, *args):
        loop = asyncio.get_running_loop()

        def at_cluster(address, namespace, do):
            async def ask():
                await do(await bystander_of(runtime))

            asyncio.run_coroutine_threadsafe(ask(), loop).result()

        for module in (cli_live, cli_aggregates, cli_projections):
            monkeypatch.setattr(module, "at_cluster", at_cluster)
        return await asyncio.to_thread(CliRunner().invoke, cli, args)

    return run


def opened(tmp_path):
    return Runtime.local(f"sqlite:///{tmp_path}/a.db?partitions=2", placement={Purse: Sharded(2), Account: Sharded(1)})


async def test_cli_live_tells_hosts_and_what_they_hold(here, tmp_path):
    """Once, as JSON and as text, with the journal's name."""
    async with opened(tmp_path) as runtime:
        for n in range(6):
            await runtime.get(Purse, f"p{n}").pay(n)
        result = await here(runtime, "live", "--once", "--every", "0.1", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["live"], found["streams"], found["events"], found["calls"]) == (6, 6, 6, 0)
        assert sum(host["commands"] for host in found["hosts"]) == 6
        assert {host["name"] for host in found["hosts"]} <= {"Purse#0", "Purse#1"}
        text = (await here(runtime, "live", "--once", "--every", "0.1")).stdout
        assert "6 events" in text
        assert "6 live in" in text


async def test_cli_live_counts_what_was_done_between_two_looks(tmp_path):
    """Also of a host that has come in between."""
    async with opened(tmp_path) as runtime:
        watch = cli_live._Watch(await bystander_of(runtime), 0.0, 1)
        await watch.first()
        await runtime.get(Purse, "ann").pay(1)
        await runtime.get(Account, "ann").deposit(1)
        found = await watch.look()
        assert all(host["commands_rate"] > 0 for host in found["hosts"])
        assert len(found["hosts"]) == 2
        line, hosts, _ = watch.tables(found)
        assert len(hosts) == 1
        assert "1 quieter hosts not shown" in line
        assert (await watch.look())["commands_rate"] == 0


async def test_cli_passivate_sends_one_aggregate_out_of_memory(here, tmp_path):
    """With its snapshot, and no other one; a second time there is nothing to do."""
    async with opened(tmp_path) as runtime:
        for n in range(4):
            await runtime.get(Purse, f"p{n}").pay(n)
        assert (await here(runtime, "passivate", "Purse/p1")).stdout == "Purse/p1 left memory\n"
        assert (await runtime.statistics()).live == 3
        again = await here(runtime, "passivate", "Purse/p1", "--json")
        assert json.loads(again.stdout) == {"stream": "Purse/p1", "passivated": False}
        assert (await runtime.statistics()).journal.snapshots == 1
        assert await runtime.get(Purse, "p1").pay(1) == 2


async def test_cli_snapshot_has_one_kept_and_leaves_the_aggregate_alone(here, tmp_path):
    """It is of the version that is there; without the class, or the stream, that is told."""
    async with opened(tmp_path) as runtime:
        for n in range(3):
            await runtime.get(Purse, "ann").pay(n)
        result = await here(runtime, "snapshot", "Purse/ann", "--module", "hf_look")
        assert result.stdout == "Purse/ann has a snapshot at version 3\n", result.output
        assert (await runtime.statistics()).live == 1
        assert (await here(runtime, "snapshot", "Purse/ann")).exit_code == 2
        missing = await here(runtime, "snapshot", "Purse/bob", "--module", "hf_look")
        assert (missing.exit_code, missing.stdout) == (2, "")
    async with await Inspection.open(f"sqlite:///{tmp_path}/a.db", [Purse]) as look:
        view = await look.state(StreamId("Purse", "ann"))
        assert (view.snapshot_version, view.fields["total"]) == (3, 3)


async def test_cli_projections_tell_how_they_do_and_are_rebuilt(here, tmp_path):
    """By the name of the projection; the tables are the same afterwards."""
    model = f"sqlite:///{tmp_path}/read.db"
    async with opened(tmp_path) as runtime:
        await runtime.start(Balances, model)
        for n in range(5):
            await runtime.get(Account, f"a{n}").deposit(n)
        await runtime.wait_for(Balances)
        before = await balances(model)
        assert before
        status = await here(runtime, "projections", "status", "--json")
        assert status.exit_code == 0, status.output
        (found,) = [json.loads(line) for line in status.stdout.splitlines()]
        assert (found["name"], found["phase"], found["lag"]) == ("projection/Balances@1", "live", 0)
        assert "projection/Balances@1" in (await here(runtime, "projections", "status")).stdout
        result = await here(runtime, "projections", "rebuild", "Balances")
        assert result.exit_code == 0, result.output
        assert "was rebuilt from 5 events" in result.stdout
        assert await balances(model) == before
        nobody = await here(runtime, "projections", "rebuild", "Nobody")
        assert (nobody.exit_code, nobody.stdout) == (2, "")


async def test_cli_projections_letters_are_listed_and_replayed(here, tmp_path, monkeypatch):
    """Status 1 while there are any; one that fails again stays."""
    async with opened(tmp_path) as runtime:
        await runtime.start(Picky, f"sqlite:///{tmp_path}/read.db")
        await runtime.get(Account, "a").deposit(13)
        await runtime.wait_for(Picky)
        letters = await here(runtime, "projections", "letters", "Picky", "--json")
        assert letters.exit_code == 1
        letter = json.loads(letters.stdout)
        assert datetime.fromisoformat(letter["at"]).tzinfo is not None
        place = f"{letter['partition']}:{letter['position']}"
        assert place in (await here(runtime, "projections", "letters", "Picky")).stdout
        failed = await here(runtime, "projections", "replay", "Picky", place)
        assert failed.exit_code == 1
        assert "an amount of 13" in failed.stderr
        monkeypatch.setattr(Picky, "refuses", 14)
        done = await here(runtime, "projections", "replay", "Picky", place, "--json")
        assert (done.exit_code, json.loads(done.stdout)["replayed"]) == (0, True), done.output
        assert (await here(runtime, "projections", "letters", "Picky")).stdout == "no dead letters\n"


class Silent:
    """A resident that never answers."""

    name = "journal"

    async def ask(self, method, *args):
        await asyncio.get_running_loop().create_future()


class Cluster:
    """Residents by name, none of which may be ended or started."""

    def __init__(self, hosts=(), followers=()):
        self._hosts, self._followers = dict(hosts), list(followers)

    async def host_names(self):
        return list(self._hosts)

    async def follower_names(self):
        return self._followers

    async def find_host(self, name):
        if self._hosts[name] is None:
            raise PeerGone(name, "just now")
        return self._hosts[name]


async def test_a_bystander_leaves_out_what_does_not_answer_and_ends_nothing():
    """A paused host may come back; that is for those to decide who need it."""
    cluster = Cluster({"a/1": Silent(), "b/1": None})
    bystander = Bystander(cluster, [Silent()], Config(paused_s=0.05))
    assert await bystander._hosts() == []
    assert await bystander.passivate(StreamId("a", "1")) is False


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Balances", ["projection/Balances@2#0", "projection/Balances@2#1"]),
        ("projection/Balances@1", ["projection/Balances@1"]),
        ("Bal.nces", None),
        ("Transfers", ["reaction/Transfers"]),
        ("nobody", None),
    ],
)
async def test_a_bystander_finds_the_newest_version_of_a_follower_by_its_name(name, found):
    """All its parts; a name is no pattern."""
    running = [
        "projection/Balances@1",
        "projection/Balances@2#0",
        "projection/Balances@2#1",
        "projection/MyBalances@7",
        "reaction/Transfers",
    ]
    bystander = Bystander(Cluster(followers=running), [Silent()], Config())
    if found is None:
        with pytest.raises(NoSuchFollower):
            await bystander.names_of(name)
    else:
        assert await bystander.names_of(name) == found


@pytest.mark.parametrize("command", ["live", "passivate A/b", "projections status", "projections rebuild X"])
def test_cli_without_a_cluster_says_so_and_starts_none(command):
    """Status 2, one line."""
    result = CliRunner().invoke(cli, [*command.split(), "--address", "127.0.0.1:1"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("holdfast: there is no Ray cluster at '127.0.0.1:1'")


# The bar


async def steps(*done):
    for each in done:
        yield RebuildProgress(
            done=each, of=10, rate=5.0, finished=each == 10, problem="slow [red]" if each == 5 else ""
        )


async def test_a_drawn_rebuild_gives_the_same_steps():
    """And the last one, to whoever only waits for it."""
    assert [each.done async for each in drawn(steps(1, 5, 10))] == [1, 5, 10]
    last = await draw(steps(1, 5, 10))
    assert last is not None
    assert last.finished
    assert await draw(steps()) is None


def test_a_rebuild_is_drawn_on_a_terminal_and_nowhere_else():
    """With what is said of it as it stands."""
    code = (
        "import asyncio\nfrom test_cli_cluster import steps\nfrom holdfast.runtime.progress import draw\n"
        "asyncio.run(draw(steps(1, 5, 10), 'rebuild of [x]'))"
    )
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as screen:
        with os.fdopen(child, "wb") as terminal:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, timeout=60)
        seen = b""
        try:
            while chunk := screen.read(65536):
                seen += chunk
        except OSError:  # how Linux says that the other side of a terminal is closed
            pass
    assert (done.returncode, done.stdout) == (0, b"")
    assert "rebuild of [x]" in seen.decode()
    assert "10/10" in seen.decode()
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


@pytest.mark.ray
async def test_cli_looks_at_a_real_cluster_from_another_process_and_leaves_it_as_it_is(world, tmp_path):
    """Live aggregates, passivation, a snapshot, a rebuild; the residents are the same before and after."""
    import ray

    address = ray.get_runtime_context().gcs_address

    async def holdfast(*args, namespace=world.namespace):
        command = [sys.executable, "-m", "holdfast.runtime.cli", *args, "--address", address, "--namespace", namespace]
        run = lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: E731
        return await asyncio.to_thread(run)

    model = f"sqlite:///{tmp_path}/read.db"
    async with world.open(placement={Account: Sharded(1)}) as runtime:
        await runtime.start(Balances, model)
        for n in range(5):
            await runtime.get(Account, f"a{n}").deposit(n)
        await runtime.wait_for(Balances)
        before = sorted(world.actors())
        live = await holdfast("live", "--once", "--json")
        assert live.returncode == 0, live.stderr
        found = json.loads(live.stdout)
        assert (found["live"], found["events"]) == (5, 5)
        assert [each["name"] for each in found["followers"]] == ["projection/Balances@1"]
        assert (await holdfast("passivate", "Account/a1")).stdout == "Account/a1 left memory\n"
        snapshot = await holdfast("snapshot", "Account/a2", "--module", "hf_bank")
        assert snapshot.stdout == "Account/a2 has a snapshot at version 1\n", snapshot.stderr
        rebuilt = await holdfast("projections", "rebuild", "Balances")
        assert rebuilt.returncode == 0, rebuilt.stderr
        nowhere = await holdfast("live", "--once", namespace="nowhere")
        assert nowhere.returncode == 2
        assert "nothing runs in namespace 'nowhere'" in nowhere.stderr
        assert sorted(world.actors()) == before
        assert await eventually(lambda: runtime.get(Account, "a1").deposit(1)) == 2


async def test_a_cluster_that_lets_nobody_join_counts_as_none(monkeypatch):
    """One that is just ending keeps Ray asking: whoever only looks is told so, and can end."""
    asked = threading.Event()

    class Hanging:
        def __init__(self, address):
            asked.wait()

    monkeypatch.setattr(bystander_module, "Visit", Hanging)
    monkeypatch.setattr(bystander_module, "JOIN_S", 0.01)
    with pytest.raises(NoCluster, match="nobody join"):
        await Bystander.open(address="127.0.0.1:1")
    asked.set()
