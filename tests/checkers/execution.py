"""A small world that is right by construction: it turns a plan into the history that its callers would have seen.

Calls overlap; each that takes effect does so in one instant between its call and its return, when the model steps and
an event is written. What the judges say of such a history must be "right"; what they say after `hurt` has changed one
thing in it, "wrong".
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from holdfast.journal.records import Recorded, StreamId

from .history import Operation
from .models import MODELS
from .storage import Durable, Written

__all__ = ["Plan", "Run", "execute", "plans", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One call to make: when its client is free, what, how long until it acts and until it answers, and its fate."""

    client: int
    aggregate: str
    query: bool
    argument: int
    until_effect: int
    until_return: int
    fate: str


@dataclass(slots=True)
class Run:
    """What became of the plans."""

    history: list[Operation] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    durable: list[Durable] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)


METHODS = {"register": ("write", "read"), "counter": ("add", "read"), "list": ("append", "read")}
FATES = ["done", "done", "done", "done", "refused", "lost before", "lost after"]


def plans(*, max_size: int = 25, aggregates: Sequence[str] = ("register/a", "counter/a", "list/a", "list/b")) -> Any:
    """Plans for up to `max_size` calls by four clients."""
    delay = st.integers(0, 3)
    plan = st.builds(
        Plan,
        client=st.integers(0, 3),
        aggregate=st.sampled_from(aggregates),
        query=st.booleans(),
        argument=st.integers(1, 3),
        until_effect=delay,
        until_return=delay,
        fate=st.sampled_from(FATES),
    )
    return st.lists(plan, max_size=max_size)


def execute(plans: Sequence[Plan]) -> Run:
    """Give each client its calls in turn, and let everything happen at its time."""
    run, free, moments = Run(), dict[int, float](), list[tuple[float, int, Plan, float, float]]()
    for number, plan in enumerate(plans):
        called = free.get(plan.client, 0.0)
        acts = called + 0.25 + plan.until_effect
        returned = acts + 0.25 + plan.until_return
        free[plan.client] = returned + 0.5
        heapq.heappush(moments, (acts, number, plan, called, returned))
    states = {plan.aggregate: (0, MODELS[plan.aggregate.partition("/")[0]].initial) for plan in plans}
    while moments:
        acts, number, plan, called, returned = heapq.heappop(moments)
        _act(run, states, plan, number, called, acts, returned)
    return run


def _act(
    run: Run, states: dict[str, Any], plan: Plan, number: int, called: float, acts: float, returned: float
) -> None:
    category, _, id = plan.aggregate.partition("/")
    name = METHODS[category][plan.query]
    argument = None if plan.query else plan.argument
    version, state = states[plan.aggregate]
    token = "" if plan.query else f"t{number}"
    value = None
    if plan.fate in ("done", "lost after"):
        state, result = MODELS[category].step(state, name, argument)
        version += not plan.query
        states[plan.aggregate] = version, state
        value = [version, list(result) if isinstance(result, tuple) else result]
        if not plan.query:
            write(run, StreamId(category, id), version, token, argument, value, acts)
    lost = plan.fate.startswith("lost")
    run.history.append(
        Operation(
            client=f"c{plan.client}",
            aggregate=plan.aggregate,
            kind="query" if plan.query else "command",
            name=name,
            argument=argument,
            token=token,
            called=called,
            returned=None if lost else returned,
            outcome="unknown" if lost else "refused" if plan.fate == "refused" else "done",
            value=value if plan.fate == "done" else None,
        )
    )


def write(run: Run, stream: StreamId, version: int, token: str, argument: Any, value: Any, acts: float) -> None:
    """Write one event, durable at once."""
    run.recorded.append(
        Recorded(
            position=len(run.recorded) + 1,
            stream=stream,
            version=version,
            type="t",
            payload=msgspec.msgpack.encode({"token": token, "value": argument}),
            command_id=token,
            recorded_at=0,
            reply=msgspec.msgpack.encode(value),
        )
    )
    run.durable.append(Durable(time=acts, stream=str(stream), version=version))
    epoch = 1 + len(run.recorded) // 5
    run.written.append(
        Written(stream=str(stream), version=version, owner=stream.category, epoch=epoch, incarnation=f"i{epoch}")
    )
