"""A selection of runs for every day, and the promise that a run is its seed. For more: `make simulate SEEDS=2000`."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.faults import AT_EVENTS, AT_TIMES, KINDS, MEETINGS, READ_KINDS
from tests.simulation.read_side import PARTS
from tests.simulation.run import Outcome, simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(150)
PARTITIONED = range(1000, 1060)
READING = range(2000, 2020)
TWICE = (3, 17, 42)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """The runs of the selection; each has been judged."""
    return [simulate(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def reading() -> dict[str, list[Outcome]]:
    """The same, of runs that have one part of the read side."""
    return {part: [simulate(seed, partitions=seed % 2 + 1, parts=(part,)) for seed in READING] for part in PARTS}


def test_every_run_of_the_selection_is_right(outcomes: list[Outcome]) -> None:
    """Nothing acknowledged is lost or doubled, nothing refused is done, and everything is answered in the end."""
    assert len(outcomes) == len(SEEDS)


def test_runs_over_a_journal_in_partitions_are_right() -> None:
    """The same, where each partition has a process and a disk of its own: they die, stop, and come back one by one."""
    runs = [simulate(seed, partitions=seed % 2 + 2) for seed in PARTITIONED]
    assert sum(run.events for run in runs) > 10 * len(PARTITIONED)


def test_the_selection_is_worth_judging(outcomes: list[Outcome]) -> None:
    """Commands were done in all of it, and every kind of fault happened somewhere."""
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    assert sum(outcome.events for outcome in outcomes) > 10 * len(SEEDS)
    assert set(faults) >= set(KINDS), f"never happened: {sorted(set(KINDS) - set(faults))}"


@pytest.mark.parametrize("part", PARTS)
def test_every_run_with_this_part_of_the_read_side_is_right(reading: dict[str, list[Outcome]], part: str) -> None:
    """A subscription, a projection, a reaction or reminders: nothing is skipped, nothing comes twice, nothing is lost,
    whoever dies; over one journal, and over one in partitions."""
    assert sum(run.judged[part] for run in reading[part]) > len(READING)


def test_runs_with_a_read_side_meet_all_that_may_befall_it(reading: dict[str, list[Outcome]]) -> None:
    """Subscribers that leave, read models that fail, followers that die, stop, and are replaced."""
    faults: Counter[str] = sum((run.faults for runs in reading.values() for run in runs), Counter())
    assert set(faults) >= set(READ_KINDS), f"never happened: {sorted(set(READ_KINDS) - set(faults))}"


def test_the_selection_has_subscriptions_projections_reactions_and_reminders(outcomes: list[Outcome]) -> None:
    """Each part of the read side in some runs, and with something to judge; and runs that have none of them."""
    judged: Counter[str] = sum((outcome.judged for outcome in outcomes), Counter())
    assert all(judged[part] > 20 for part in PARTS), judged
    assert any(not outcome.judged for outcome in outcomes)


def test_the_kinds_that_meet_are_kinds() -> None:
    """A word that names no fault would quietly be none."""
    assert {kind for meeting in MEETINGS for kind in meeting} <= AT_EVENTS.keys() | AT_TIMES.keys()


def test_a_seed_is_the_same_run_again(outcomes: list[Outcome]) -> None:
    """In one process, after others have run in it: every message, every step, every byte on disk."""
    assert [simulate(seed).digest for seed in TWICE] == [outcomes[seed].digest for seed in TWICE]


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_a_seed_is_the_same_run_in_another_process(outcomes: list[Outcome], hash_seed: str) -> None:
    """Nothing depends on the order of sets, on addresses, or on what ran before."""
    script = f"from tests.simulation.run import simulate; print(*[simulate(s).digest for s in {TWICE}])"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [outcomes[seed].digest for seed in TWICE]
