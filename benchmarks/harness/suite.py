"""All questions, one after the other, each in a process of its own, so that none runs in what another left behind. What
all of them import is imported once, in the process that theirs are forked from.

In full size each also has a Ray of its own. A quick run would spend half of its time on starting and ending those: it
has one Ray for all that can do with it, and leaves out what its small numbers cannot tell, or not in a few seconds.

A missed target is a result like any other. Only a question that cannot be answered (it crashed, or a command was
lost or doubled) makes the whole fail.
"""

import multiprocessing
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

import ray
from rich.console import Console

from benchmarks.subjects.bare import ray_of

from .asking import ask
from .question import question_module
from .result import Result, read
from .tables import print_summary

__all__ = ["run_all"]

IMPORTED_ONCE = ["holdfast.runtime", "matplotlib.pyplot", "benchmarks.harness.asking"]


def run_all(names: Sequence[str], *, quick: bool, seed: int | None, console: Console) -> int:
    """Ask each, then print the table of all. The exit status: 0, or 1 if one failed."""
    questions = [question_module(name).QUESTION for name in names] if quick else []
    left_out = [question.name for question in questions if not question.in_quick]
    sharing = [question.name for question in questions if question.in_quick and not question.own_ray]
    results: dict[str, Result | None] = {}
    if sharing:
        with _one_ray() as address:  # before any other: processes forked later know by it how Ray is to be greeted
            for name in sharing:
                results[name] = _asked(name, quick=quick, seed=seed, ray_address=address)
                _clear()
    for name in names:
        if name not in (*sharing, *left_out):
            results[name] = _asked(name, quick=quick, seed=seed)
    print_summary(sorted(results.items()), quick=quick, console=console)
    if left_out:
        console.print(f"not asked in a quick run, but by name: {', '.join(left_out)}", highlight=False)
    return int(any(result is None for result in results.values()))


def _asked(name: str, *, quick: bool, seed: int | None, ray_address: str = "") -> Result | None:
    before = len(read(name))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    process = context.Process(target=_ask, args=(name, quick, seed, ray_address))
    process.start()
    process.join()
    results = read(name)
    return results[-1] if process.exitcode == 0 and len(results) > before else None


def _ask(name: str, quick: bool, seed: int | None, ray_address: str) -> None:
    """In the process of the question. `ray_address`: of the Ray that it joins; empty: it starts one."""
    if ray_address:
        os.environ["RAY_ADDRESS"] = ray_address
    ask(name, quick=quick, seed=seed)


@contextmanager
def _one_ray() -> Generator[str, None, None]:
    """A Ray for one question after the other. Yields its address."""
    with ray_of(os.cpu_count() or 1):
        yield ray.get_runtime_context().gcs_address


def _clear() -> None:
    """End the hosts and the journal that the last question has left: whoever joins a cluster leaves them there."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        with suppress(ValueError):  # it has ended by itself
            ray.kill(ray.get_actor(actor["name"], actor["namespace"]))
