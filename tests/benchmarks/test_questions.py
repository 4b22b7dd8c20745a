"""Questions: what every file of one declares."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import benchmarks
from benchmarks.harness.question import QuestionModule, names, question_module


def module_of(name: str) -> QuestionModule:
    """Two of them import what they compare with, which only the group `bench` installs."""
    try:
        return question_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "eventsourcing":
            raise
        pytest.skip("the group `bench` is not installed")


def test_there_is_a_question_for_each_file():
    """And for nothing else: what they share is in packages."""
    files = {path.stem for path in Path(benchmarks.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    assert set(names()) == files


@pytest.mark.parametrize("name", names())
def test_a_question_says_what_is_asked_compared_and_to_be_reached(name):
    """Under the name of its file, in both sizes."""
    module = module_of(name)
    question = module.QUESTION
    assert question.name == name
    assert question.asks.endswith("?")
    assert question.compared
    assert question.target is None or question.target.value > 0
    assert "QUESTION" in vars(module), "a target, or None, is written down in each"
    assert inspect.iscoroutinefunction(module.measure)
    assert type(module.FULL) is type(module.QUICK)
    assert dataclasses.is_dataclass(module.FULL)


@pytest.mark.parametrize("name", names())
def test_quick_is_the_same_with_smaller_numbers(name):
    """No size of the quick run is above that of the full one, and the rounds are several in both."""
    module = module_of(name)
    full, quick = dataclasses.asdict(module.FULL), dataclasses.asdict(module.QUICK)
    assert full.keys() == quick.keys()
    assert all(quick[size] <= full[size] for size in full), f"{quick} {full}"
    assert quick.get("rounds", 3) >= 3


@pytest.mark.parametrize("name", names())
def test_a_question_explains_itself(name):
    """Its docstring opens with the question."""
    first = (module_of(name).__doc__ or "").split("\n\n")[0]
    assert re.search(r"\?$", first), first
