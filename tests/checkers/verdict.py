"""All checks over one run, and how much there was to check: a run in which nothing happened proves nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .history import Operation, by_aggregate, merged, well_formed
from .models import MODELS, Model
from .search import TooWide, linearizable
from .storage import Durable, Written, nothing_shown_early, one_writer_per_epoch
from .stream import numbered, once_each, said_as_written, snapshots_equal_replay, token_of
from .witness import witnessed

__all__ = ["Verdict", "judge_history"]

SEARCHED_MAX = 60
"""Operations of one aggregate up to which the search confirms what the witness says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A run that was found right, counted. `searched`: aggregates for which the search confirmed the witness."""

    done: int
    refused: int
    unknown: int
    queries: int
    events: int
    aggregates: int
    searched: int


def judge_history(
    history: Sequence[Operation],
    recorded: Sequence[Any],
    models: Mapping[str, Model] = MODELS,
    *,
    durable: Iterable[Durable] | None = None,
    written: Iterable[Written] | None = None,
    load: Callable[[str], tuple[Any, Any]] | None = None,
    searched_max: int = SEARCHED_MAX,
) -> Verdict:
    """Raise AssertionError, saying what is wrong with which stream, unless the run was right in every respect.

    `recorded`: everything in the journal, in order of position. `models`: by category. `durable`, `written`: what
    storage did, when somebody watched it; the latter in the order in which it was done. `load`: gives a stream's
    state from snapshot and tail, and from all its events.
    """
    well_formed(history)
    operations = merged(history)
    streams = numbered(recorded)
    once_each(operations, streams)
    said_as_written(operations, streams)
    searched = sum(
        _explained(name, mine, streams.get(name, ()), models, searched_max)
        for name, mine in by_aggregate(operations).items()
    )
    if durable is not None:
        nothing_shown_early(history, durable)
    if written is not None:
        one_writer_per_epoch(written)
    if load is not None:
        snapshots_equal_replay(streams, load)
    return _counted(operations, len(recorded), searched)


def _explained(
    name: str, mine: Sequence[Operation], events: Sequence[Any], models: Mapping[str, Model], most: int
) -> bool:
    model = models[name.partition("/")[0]]
    try:
        witnessed(mine, [token_of(event) for event in events], model)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
    if len(mine) > most:
        return False
    try:
        linearizable(mine, model)
    except TooWide:  # then the witness stands alone, as it does for everything longer
        return False
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
    return True


def _counted(operations: Sequence[Operation], events: int, searched: int) -> Verdict:
    outcomes = [each.outcome for each in operations if each.kind == "command"]
    return Verdict(
        done=outcomes.count("done"),
        refused=outcomes.count("refused"),
        unknown=outcomes.count("unknown"),
        queries=len(operations) - len(outcomes),
        events=events,
        aggregates=len({each.aggregate for each in operations}),
        searched=searched,
    )
