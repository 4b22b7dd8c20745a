"""Whereabouts: a journal in a file comes up on its own machine and nowhere else, one in memory once, a database
anywhere."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hf_support import Notes

from holdfast.runtime import _ray as seam
from holdfast.runtime.cluster import JournalSpec, PeerGone
from holdfast.runtime.whereabouts import Node, Start, Whereabouts

ONE, TWO, OTHER = Node("one", "a"), Node("two", "a"), Node("other", "b")


def spec_of(url: str) -> JournalSpec:
    return JournalSpec(namespace="bank", url=url, volatile=url.startswith("memory"))


FILE = spec_of("sqlite:////data/bank.db")


def known_on(machine: str, notes: Notes, *nodes: Node, spec: JournalSpec = FILE, may_start: bool = True) -> Whereabouts:
    """As a process on this machine knows them."""
    return Whereabouts(spec, notes=notes, key="bank", machine=machine, nodes=lambda: list(nodes), may_start=may_start)


async def test_the_first_that_starts_a_file_means_one_of_its_own_machine_and_all_others_too() -> None:
    """The same path elsewhere is another file: to open it would be to start again from nothing."""
    notes = Notes()
    first = await known_on("a", notes, ONE, OTHER).start_of(0)
    assert first == Start(spec=FILE, restarts=True, node="one")
    assert await known_on("b", notes, OTHER, ONE).start_of(0) == first
    host = known_on("b", notes, OTHER, ONE, spec=FILE.without_url(), may_start=False)
    assert await host.start_of(1) == first


async def test_of_two_that_start_a_file_at_once_one_says_where_it_is() -> None:
    """The other one had not seen its note yet."""

    class Late(Notes):
        def add(self, key: str, value: str) -> bool:
            self.setdefault(key, "b\n" + FILE.url)
            return super().add(key, value)

    assert (await known_on("a", Late(), ONE, OTHER).start_of(0)).node == "other"


async def test_a_file_is_opened_on_this_process_s_own_node_if_it_is_of_that_machine() -> None:
    """Nodes come own first."""
    notes = Notes({"bank": f"a\n{FILE.url}"})
    for nodes, expected in (([TWO, ONE, OTHER], "two"), ([OTHER, ONE, TWO], "one")):
        assert (await known_on("a", notes, *nodes).start_of(0)).node == expected


async def test_a_file_of_a_lost_machine_is_opened_nowhere() -> None:
    """It waits for its machine to come back."""
    notes = Notes({"bank": f"a\n{FILE.url}"})
    with pytest.raises(PeerGone, match="its file is on the machine a"):
        await known_on("b", notes, OTHER).start_of(0)
    assert notes == {"bank": f"a\n{FILE.url}"}


async def test_another_file_takes_the_place_of_one_that_nobody_serves_any_more() -> None:
    """A runtime that was opened says which file is meant; others take what was said."""
    notes = Notes({"bank": "a\nsqlite:////data/older.db"})
    assert (await known_on("a", notes, ONE, may_start=False).start_of(0)).spec.url == "sqlite:////data/older.db"
    assert (await known_on("b", notes, OTHER).start_of(0)).node == "other"
    assert notes == {"bank": f"b\n{FILE.url}"}


async def test_what_nobody_has_opened_is_not_started_by_who_only_asks() -> None:
    """A host has no URL to open."""
    with pytest.raises(PeerGone, match="no runtime has opened it"):
        await known_on("a", Notes(), ONE, spec=FILE.without_url(), may_start=False).start_of(0)


async def test_a_partition_in_memory_is_started_once_unless_it_did_not_start() -> None:
    """Started again it would be empty, and pass for the one before."""
    memory = spec_of("memory://")
    it = known_on("a", notes := Notes(), ONE, spec=memory)
    for partition in (0, 1):
        assert await it.start_of(partition) == Start(spec=memory, restarts=False)
        with pytest.raises(PeerGone, match="in memory"):
            await it.start_of(partition)
    it.failed(1)
    assert await it.start_of(1) == Start(spec=memory, restarts=False)
    with pytest.raises(PeerGone, match="in memory"):
        await it.start_of(0)
    with pytest.raises(PeerGone, match="in memory"):
        await known_on("a", notes, ONE, spec=memory, may_start=False).start_of(0)
    assert notes == {}


async def test_a_database_is_opened_anywhere_and_noted_nowhere() -> None:
    """Its password stays with whoever opens it."""
    spec = spec_of("postgres://bank:secret@db/bank")
    assert await known_on("a", notes := Notes(), spec=spec).start_of(0) == Start(spec=spec, restarts=True)
    assert notes == {}


async def test_a_start_that_failed_is_forgotten_by_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal in memory whose actor did not come up has lost nothing: the next request starts it."""
    cluster, starts = seam.RayCluster(spec_of("memory://"), may_start_journal=True), list[str]()

    async def find(name: str, called: str = "") -> Any:
        return None

    async def start(name: str, make: Any, options: Any) -> Any:
        starts.append(name)
        if len(starts) == 1:
            raise PeerGone(name, "no room")
        return name

    monkeypatch.setattr(cluster, "_find", find)
    monkeypatch.setattr(cluster, "_start", start)
    with pytest.raises(PeerGone, match="no room"):
        await cluster.journal(1)
    assert await cluster.journal(1) == "journal:1"
    with pytest.raises(PeerGone, match="in memory"):
        await cluster.journal(1)


def test_the_nodes_of_the_cluster_are_those_alive_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray's table has them."""

    def node(id: str, machine: str, *, alive: bool = True) -> dict[str, object]:
        return {"NodeID": id, "NodeManagerHostname": machine, "Alive": alive}

    table = [node("dead", "a", alive=False), node("other", "b"), node("one", "a"), node("two", "a")]
    monkeypatch.setattr(seam.ray, "nodes", lambda: table)
    for mine, expected in (("two", [TWO, OTHER, ONE]), ("dead", [OTHER, ONE, TWO])):
        here = SimpleNamespace(get_node_id=lambda mine=mine: mine)
        monkeypatch.setattr(seam.ray, "get_runtime_context", lambda here=here: here)
        assert seam._live_nodes() == expected


async def test_whoever_starts_a_file_again_brings_the_store_of_its_personal_keys_along() -> None:
    """Also a runtime that was opened without; one that names another store says which it is from now on."""
    notes = Notes()
    with_keys = replace(FILE, keys="sqlite:////data/keys.db")
    assert (await known_on("a", notes, ONE, spec=with_keys).start_of(0)).spec == with_keys
    host = known_on("b", notes, OTHER, ONE, spec=FILE.without_url(), may_start=False)
    assert (await host.start_of(0)).spec == with_keys
    assert (await known_on("a", notes, ONE).start_of(0)).spec == with_keys
    moved = replace(FILE, keys="sqlite:////vault/keys.db")
    assert (await known_on("a", notes, ONE, spec=moved).start_of(0)).spec == moved
    assert (await host.start_of(0)).spec == moved
