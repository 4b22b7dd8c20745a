"""One question from end to end, tiny, in this process and without Ray."""

from contextlib import contextmanager

import pytest

from benchmarks import group_commit, snapshot_hydration
from benchmarks.harness import plot, result, run, suite
from benchmarks.harness.run import answer

TINY = group_commit.Sizes(rounds=2, under_way=2, appends=5, requests=3)


async def test_a_question_is_answered_from_an_empty_folder_to_a_line_of_json(tmp_path, monkeypatch):
    """With every sample, the sizes, the seed and the machine; its data is gone afterwards."""
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("TMPDIR", raising=False)
    found = await answer(group_commit, quick=True, seed=7, sizes=TINY)
    [comparison] = found.comparisons
    assert len(comparison.ours) == len(comparison.theirs) == TINY.rounds
    assert min(comparison.ours + comparison.theirs) > 0
    assert (found.quick, found.seed, found.settings) == (
        True,
        7,
        {"rounds": 2, "under_way": 2, "appends": 5, "requests": 3},
    )
    result.append(found, tmp_path)
    assert result.read("group_commit", tmp_path) == [found]
    assert list((tmp_path / "cache").iterdir()) == []


async def test_what_is_lost_fails_the_question(tmp_path, monkeypatch):
    """A benchmark that counts what was not done is worse than none: an append that never happens is found."""
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(group_commit, "append_all", one_append_less)
    with pytest.raises(AssertionError, match="lost or doubled"):
        await answer(group_commit, quick=True, seed=7, sizes=TINY)


real_append_all = group_commit.append_all


async def one_append_less(server, requests):
    return await real_append_all(server, [requests[0][:-1], *requests[1:]])


async def test_a_hydration_that_did_not_use_the_snapshot_fails_the_question(tmp_path, monkeypatch):
    """It would be another question."""
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(snapshot_hydration, "snapshot", no_snapshot)
    with pytest.raises(AssertionError, match="snapshot"):
        await answer(
            snapshot_hydration, quick=True, seed=7, sizes=snapshot_hydration.Sizes(rounds=1, events=200, times=1)
        )


async def no_snapshot(client, id, version):
    pass


async def test_data_in_memory_is_refused(tmp_path, monkeypatch):
    """A flush to a tmpfs costs nothing; the next folder is taken, and without one nothing is measured."""
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(run, "filesystem", lambda path: "tmpfs" if path == tmp_path else "ext4")
    with run.data_folder() as folder:
        assert folder.parent == tmp_path / "cache"
    monkeypatch.setattr(run, "filesystem", lambda path: "tmpfs")
    with pytest.raises(SystemExit, match="no disk"), run.data_folder():
        pass


async def test_a_plot_is_drawn_where_matplotlib_is_installed(tmp_path, monkeypatch):
    """A PNG, under another name if it was quick."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    found = await answer(group_commit, quick=True, seed=7, sizes=TINY)
    path = plot.draw(found, tmp_path)
    assert path is not None
    assert path.name == "group_commit-quick.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_question_that_fails_is_reported_and_fails_the_suite(monkeypatch, capsys):
    """A missed target does not, and the others are asked all the same."""

    class Console:
        def print(self, *what, **how): ...

    asked = []

    def ask(name, *, quick, seed):
        asked.append(name)

    monkeypatch.setattr(suite, "_asked", ask)
    assert suite.run_all(["a", "b"], quick=False, seed=None, console=Console()) == 1
    assert asked == ["a", "b"]
    assert suite.run_all([], quick=True, seed=None, console=Console()) == 0


def test_a_quick_run_says_what_it_left_out(monkeypatch):
    """It has one Ray for those that can share it; the others have their own, and some are not asked at all."""
    asked, printed = {}, []

    class Console:
        def print(self, *what, **how):
            printed.extend(map(str, what))

    @contextmanager
    def one_ray():
        yield "here"

    def ask(name, *, quick, seed, ray_address=""):
        asked[name] = ray_address

    monkeypatch.setattr(suite, "_asked", ask)
    monkeypatch.setattr(suite, "_one_ray", one_ray)
    monkeypatch.setattr(suite, "_clear", lambda: None)
    suite.run_all(["group_commit", "scaling", "sight"], quick=True, seed=None, console=Console())
    assert asked == {"group_commit": "here", "scaling": ""}
    assert printed[-1].endswith(": sight")
