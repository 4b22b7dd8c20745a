"""Results: lines of JSON, tables, the README's part."""

import io

import msgspec
import pytest
from rich.console import Console

from benchmarks.harness import Comparison, Question, at_least
from benchmarks.harness.machine import Machine, filesystem, machine, versions
from benchmarks.harness.report import BEGIN, END, between_marks, report_text
from benchmarks.harness.result import Result, append, newest, read
from benchmarks.harness.tables import print_result, print_summary, summary_rows

MACHINE = Machine(cpu="a cpu", cores=2, memory_bytes=8 << 30, kernel="6.1", filesystem="ext4", load=0.5)


def result(name: str = "speed", *, ours: float = 30.0, quick: bool = False, at: str = "2024-01-01") -> Result:
    comparison = Comparison(
        figure="commands", unit="/s", ours=(ours, ours), theirs=(1.0, 1.0), compared="theirs", target=at_least(25)
    )
    return Result(
        question=Question(name=name, asks="how fast?", compared="theirs", target=at_least(25)),
        quick=quick,
        at=at,
        took_s=1.5,
        seed=4711,
        machine=MACHINE,
        versions={"python": "3.11.7", "holdfast": "0.1.0"},
        commit="abc",
        settings={"rounds": 2},
        comparisons=(comparison,),
        details={"CPU ms": {"host": 1.5}},
        notes=("read it | right",),
    )


def printed(print_, *arguments, **more) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_(*arguments, console=console, **more)
    return console.file.getvalue()


def test_a_result_comes_back_from_its_line_as_it_was(tmp_path):
    """Samples, settings, seed, machine and all."""
    append(result(), tmp_path)
    assert read("speed", tmp_path) == [result()]


def test_a_line_holds_what_follows_from_the_samples(tmp_path):
    """Whoever reads the JSON without this code finds medians, spread, ratio, target and outcome."""
    path = append(result(), tmp_path)
    [line] = path.read_bytes().splitlines()
    [comparison] = msgspec.json.decode(line)["comparisons"]
    assert comparison["ours"] == [30.0, 30.0]
    assert comparison["median"] == comparison["ratio"] == 30.0
    assert comparison["spread"] == [30.0, 30.0]
    assert comparison["target"] == {"sign": "≥", "value": 25, "unit": "x"}
    assert comparison["met"] is True


def test_results_are_appended_and_the_newest_full_one_counts(tmp_path):
    """A quick run does not take the place of a full one."""
    assert newest("speed", tmp_path) is None
    append(result(quick=True, at="1"), tmp_path)
    assert newest("speed", tmp_path) == result(quick=True, at="1")
    append(result(at="2"), tmp_path)
    append(result(at="3"), tmp_path)
    append(result(quick=True, at="4"), tmp_path)
    assert newest("speed", tmp_path) == result(at="3")
    assert len(read("speed", tmp_path)) == 4


def test_the_summary_reports_misses_and_failures():
    """Each has a row, and is counted: nothing is left out."""
    results = [("good", result("good")), ("slow", result("slow", ours=20.0)), ("broken", None)]
    rows = summary_rows(results)
    assert [(row[0], row[-1]) for row in rows] == [("good", "yes"), ("slow", "NO"), ("broken", "FAILED")]
    text = printed(print_summary, results, quick=True)
    assert "targets: 1 met, 1 missed; questions that failed: 1" in text
    assert "(quick)" in text


def test_the_last_line_of_a_question_is_its_verdict():
    """With the ratio in it, met or missed."""
    assert printed(print_result, result()).splitlines()[-1] == "speed: 30 x theirs, target ≥ 25 x: met"
    assert printed(print_result, result(ours=20.0)).splitlines()[-1].endswith("target ≥ 25 x: missed")


def test_a_quick_result_is_labelled():
    """In its table and in the README's."""
    assert "speed (quick)" in printed(print_result, result(quick=True))
    assert "| quick, 2 rounds |" in report_text([result(quick=True)])


def test_the_report_names_what_is_missed_and_where_it_was_measured():
    """Machine, versions, commit, every figure, every note."""
    text = report_text([result(), result("slow", ours=20.0)])
    assert "| slow | 20 /s commands | 1 /s theirs | 20 x | ≥ 25 x | NO | full, 2 rounds |" in text
    assert "Targets missed: 1 of 2." in text
    assert "a cpu, 2 cores, 8.0 GiB" in text
    assert "holdfast 0.1.0" in text
    assert "speed: read it" in text


def test_the_report_goes_between_its_marks_and_nowhere_else():
    """Text before and after stays; a README without marks is refused."""
    text = between_marks(f"before\n{BEGIN}\nold\n{END}\nafter", "new\n")
    assert text == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"
    assert between_marks(text, "new\n") == text
    with pytest.raises(ValueError, match="marks"):
        between_marks("nothing", "new")


def test_this_machine_is_told(tmp_path):
    """What /proc says of it, and what is installed."""
    found = machine(tmp_path)
    assert found.cores >= 1
    assert found.memory_bytes > 1 << 20
    assert found.filesystem not in ("", "unknown")
    assert filesystem(tmp_path / "not" / "there") == found.filesystem
    assert {"python", "sqlite", "ray", "msgspec", "holdfast"} <= versions().keys()
