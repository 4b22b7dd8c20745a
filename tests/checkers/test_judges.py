"""The judges themselves: what is right passes, and each way of being wrong is found."""

from dataclasses import replace
from itertools import combinations, permutations

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from checkers import MODELS, Durable, Operation, TooWide, Written, by_aggregate, judge_history, linearizable, witnessed
from checkers.execution import Run, execute, plans, write
from checkers.stream import token_of
from holdfast.journal.records import StreamId

some = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def judged(run):
    return judge_history(run.history, run.recorded, durable=run.durable, written=run.written)


def fails(run, match=None):
    """The judge finds fault with this run, whatever it was told beside it."""
    with pytest.raises(AssertionError, match=match):
        judge_history(run.history, run.recorded)
    return True


# -- what is right ---------------------------------------------------------------------------------------------


@some
@given(plans())
def test_a_right_history_is_found_right(plan):
    """However calls overlap, are refused, or lose their answers before or after they took effect."""
    run = execute(plan)
    verdict = judged(run)
    assert verdict.done == sum(each.outcome == "done" and each.kind == "command" for each in run.history)
    assert verdict.events == len(run.recorded)
    assert verdict.searched == verdict.aggregates


def test_a_command_sent_again_under_its_key_is_one_command():
    """Its second answer is old, and right; the first may have been unknown, or a refusal of a full queue."""
    first = op("t1", 0, 1, [1, 5])
    between = op("t2", 2, 3, [2, 6], argument=1)
    events = recorded(("t1", 5), ("t2", 1))
    judge_history([first, between, replace(first, called=4, returned=5)], events)
    for outcome in ("unknown", "refused"):
        judge_history([op("t1", 0, 1, None, outcome=outcome), op("t1", 2, 3, [1, 5])], events[:1])
    with pytest.raises(AssertionError, match="two answers"):
        judge_history([first, replace(first, called=4, returned=5, value=[2, 6])], events[:1])
    with pytest.raises(AssertionError, match="one token for two"):
        judge_history([first, replace(first, argument=6)], events[:1])


# -- one verdict -----------------------------------------------------------------------------------------------


def orders(operations):
    """Every stream that these commands could have left: all that are done, and any of those in doubt."""
    done = [each.token for each in operations if each.kind == "command" and each.outcome == "done"]
    doubt = [each.token for each in operations if each.kind == "command" and each.outcome == "unknown"]
    for count in range(len(doubt) + 1):
        for some_of in combinations(doubt, count):
            yield from permutations([*done, *some_of])


def is_right(check, *args, **how):
    try:
        check(*args, **how)
    except TooWide:
        raise
    except AssertionError:
        return False
    return True


@settings(some, max_examples=400)
@given(plans(max_size=6, aggregates=["register/a", "counter/a", "list/a"]), st.data())
def test_search_and_witness_come_to_one_verdict(plan, data):
    """The search finds an order if, and only if, some stream is a witness: all are tried, for right and wrong alike."""
    for name, mine in by_aggregate(execute(plan).history).items():
        if data.draw(st.booleans()):
            mine = [data.draw(st.sampled_from([each, *_variants(each)])) for each in mine]
        model = MODELS[name.partition("/")[0]]
        found = is_right(linearizable, mine, model)
        assert found == any(is_right(witnessed, mine, order, model) for order in orders(mine))
        assert is_right(linearizable, mine, model, versions=False) or not found


def _variants(each):
    """The same call a little different: another answer, version or time."""
    if each.outcome != "done":
        return []
    version, result = each.value
    values = [[version + 1, result], [max(version - 1, 0), result], [version, 1], [version, [1]], [version, None]]
    return [
        *(replace(each, value=value) for value in values),
        replace(each, called=each.called + 9, returned=each.returned + 9),
    ]


def test_the_search_needs_no_versions():
    """Results alone: a read of what was overwritten before it was called explains itself by no order."""
    write, other = op("a", 0, 1, [0, 1], 1, "register/a"), op("b", 2, 3, [0, 2], 2, "register/a")
    model = MODELS["register"]
    linearizable([write, other, query(4, 5, [0, 2], "register/a")], model, versions=False)
    with pytest.raises(AssertionError, match="no order"):
        linearizable([write, other, query(4, 5, [0, 1], "register/a")], model, versions=False)
    linearizable([write, other, query(2.5, 5, [0, 1], "register/a")], model, versions=False)


def test_a_call_in_doubt_may_take_effect_late_or_never_but_not_twice():
    """Without an answer it is open for good; each reading of it must be one of those."""
    doubt = op("d", 0, None, None, 5, outcome="unknown")
    model = MODELS["counter"]
    reads = [query(10, 11, [0, 0]), query(20, 21, [1, 5])]
    linearizable([doubt, *reads], model)
    linearizable([doubt, reads[0]], model)
    with pytest.raises(AssertionError):
        linearizable([doubt, *reads, query(30, 31, [2, 10])], model)
    with pytest.raises(AssertionError):
        linearizable([doubt, *reads, query(30, 31, [0, 0])], model)
    with pytest.raises(AssertionError):
        linearizable([replace(doubt, outcome="refused"), reads[1]], model)


def test_a_search_that_grows_too_wide_says_so():
    """Rather than find nothing and seem to have looked."""
    wide = [op(f"t{n}", 0, 100, [n, 1], outcome="unknown") for n in range(30)]
    with pytest.raises(TooWide):
        linearizable([*wide, query(1, 200, [15, 15])], MODELS["counter"], configurations_max=1000)


def test_a_long_history_is_judged_by_its_witness():
    """Twenty thousand calls of one aggregate, each a thousand deep in the others."""
    calls = [op(f"t{n}", n, n + 1000.5, [n, n], argument=1) for n in range(1, 20_001)]
    events = recorded(*((f"t{n}", 1) for n in range(1, 20_001)))
    assert judge_history(calls, events).done == 20_000
    late = replace(calls[5000], called=calls[5000].called + 1002.0, returned=9000)
    with pytest.raises(AssertionError, match="counter/a: out of order"):
        judge_history([*calls[:5000], late, *calls[5001:]], events)


# -- what is wrong ---------------------------------------------------------------------------------------------


def events_of(run, data):
    """One event of the run, to be hurt."""
    assume(run.recorded)
    return data.draw(st.sampled_from(run.recorded))


def renumbered(events):
    versions, result = {}, []
    for position, event in enumerate(events, 1):
        versions[event.stream] = version = versions.get(event.stream, 0) + 1
        result.append(msgspec.structs.replace(event, position=position, version=version))
    return result


def done(run, kind, data):
    found = [each for each in run.history if (each.kind, each.outcome) == (kind, "done")]
    assume(found)
    return data.draw(st.sampled_from(found))


def put(run, old, new):
    run.history[run.history.index(old)] = new


@some
@given(plans(), st.data())
def test_a_lost_command_is_found(plan, data):
    """An acknowledged command whose event is gone, even if everything behind it closed up."""
    run = execute(plan)
    lost = done(run, "command", data)
    run.recorded = renumbered([each for each in run.recorded if token_of(each) != lost.token])
    fails(run, f"acknowledged and not in the journal.* {lost.token} ")


@some
@given(plans(), st.data())
def test_a_doubled_command_is_found(plan, data):
    """At its end or next to itself; also one whose caller never heard of it."""
    run = execute(plan)
    twice = events_of(run, data)
    at = data.draw(st.sampled_from([run.recorded.index(twice), len(run.recorded)]))
    run.recorded = renumbered([*run.recorded[:at], twice, *run.recorded[at:]])
    fails(run, f"more than once.*{twice.stream} {token_of(twice)}")


@some
@given(plans(), st.data())
def test_an_invented_event_is_found(plan, data):
    """Nobody commanded it."""
    run = execute(plan)
    event = msgspec.structs.replace(events_of(run, data), payload=msgspec.msgpack.encode({"token": "x", "value": 1}))
    run.recorded = renumbered([*run.recorded, event])
    fails(run, "nobody commanded it")


@some
@given(plans(), st.data())
def test_an_event_in_the_wrong_stream_is_found(plan, data):
    """Its own misses it, the other has what nobody asked it for."""
    run = execute(plan)
    event = events_of(run, data)
    stray = msgspec.structs.replace(event, stream=event.stream._replace(id="elsewhere"))
    run.recorded = renumbered([stray if each is event else each for each in run.recorded])
    fails(run)


@some
@given(plans(), st.data())
def test_a_refused_command_that_was_done_is_found(plan, data):
    """Its caller was told that nothing was written."""
    run = execute(plan)
    told = done(run, "command", data)
    put(run, told, replace(told, outcome="refused", value=None))
    fails(run, "refused and yet in the journal")


@some
@given(plans(max_size=40, aggregates=["list/a", "counter/a"]), st.data())
def test_two_commands_in_the_wrong_order_are_found(plan, data):
    """Two events of a stream trade places, one of them acknowledged: versions and totals are not what was told."""
    run = execute(plan)
    told = done(run, "command", data)
    run.recorded = [msgspec.structs.replace(each, reply=None) for each in run.recorded]
    mine = [each for each in run.recorded if str(each.stream) == told.aggregate]
    one = next(each for each in mine if token_of(each) == told.token)
    other = data.draw(st.sampled_from(mine))
    assume(other is not one)
    swapped = {one.version: other, other.version: one}
    traded = lambda e: e if e not in (one, other) else swapped[e.version]  # noqa: E731
    run.recorded = renumbered([traded(each) for each in run.recorded])
    fails(run, "told version|replay says")


@some
@given(plans(), st.data())
def test_an_effect_before_the_call_or_after_the_return_is_found(plan, data):
    """Two calls of an aggregate, apart in time, stand in its stream the other way round."""
    run = execute(plan)
    told = done(run, "command", data)
    mine = [each for each in run.history if each.aggregate == told.aggregate and each.outcome == "done"]
    later = [each for each in mine if each.value[0] > told.value[0]]
    assume(later)
    late = max(each.returned for each in later) + 1
    put(run, told, replace(told, called=late, returned=late + 1))
    fails(run, "out of order")


@some
@given(plans(), st.data())
def test_a_stale_read_is_found(plan, data):
    """A query called after a command had been answered, and that does not show it."""
    run = execute(plan)
    told = done(run, "command", data)
    model = MODELS[told.aggregate.partition("/")[0]]
    state, version = model.initial, told.value[0] - 1
    commands = {each.token: each for each in run.history if each.token}
    for event in [each for each in run.recorded if str(each.stream) == told.aggregate][:version]:
        command = commands[token_of(event)]
        state, _ = model.step(state, command.name, command.argument)
    stale = query(told.returned + 0.1, told.returned + 0.2, [version, state], told.aggregate)
    run.history.append(stale)
    fails(run, "out of order")
    run.history[-1] = replace(stale, called=told.called, returned=told.returned)
    others = [each for each in run.history[:-1] if each.aggregate == told.aggregate]
    if not any(each.returned is not None and each.returned < told.called for each in others):
        judge_history(run.history, run.recorded)


@some
@given(plans(), st.sampled_from(["command", "query"]), st.data())
def test_a_wrong_reply_is_found(plan, kind, data):
    """Another version, or another result."""
    run = execute(plan)
    told = done(run, kind, data)
    version, result = told.value
    wrong = data.draw(st.sampled_from([[version + 1, result], [version + 50, result], [version, "no such result"]]))
    assume(kind == "command" or wrong[0] != version + 1)  # a query may well have seen the next one
    put(run, told, replace(told, value=wrong))
    fails(run)


@some
@given(plans(), st.data())
def test_a_gap_is_found(plan, data):
    """In versions or in positions, wherever it is; or an event that is simply missing."""
    run = execute(plan)
    event = events_of(run, data)
    at = run.recorded.index(event)
    what = data.draw(st.sampled_from(["version", "position", "missing"]))
    if what == "missing":
        assume(event is not run.recorded[-1])
        del run.recorded[at]
    else:
        run.recorded[at] = msgspec.structs.replace(event, **{what: getattr(event, what) + 1})
    fails(run, "stands where|version .* after")


@some
@given(plans(), st.data())
def test_an_event_that_says_other_than_its_command_is_found(plan, data):
    """As if two payloads had been exchanged, or one was written wrong."""
    run = execute(plan)
    event = events_of(run, data)
    payload = msgspec.msgpack.encode({"token": token_of(event), "value": 77})
    run.recorded[run.recorded.index(event)] = msgspec.structs.replace(event, payload=payload)
    fails(run, f"{event.stream} version {event.version}: written is 77")


@some
@given(plans(), st.data())
def test_a_stored_reply_that_is_not_what_was_told_is_found(plan, data):
    """A retry would be answered something else."""
    run = execute(plan)
    told = done(run, "command", data)
    for at, event in enumerate(run.recorded):
        if token_of(event) == told.token:
            run.recorded[at] = msgspec.structs.replace(event, reply=msgspec.msgpack.encode([0, 0]))
    fails(run, "the reply kept is")


@some
@given(plans(), st.data())
def test_an_answer_before_it_was_durable_is_found(plan, data):
    """A reply, or a query that saw the version: the disk was slower than the answer."""
    run = execute(plan)
    told = done(run, data.draw(st.sampled_from(["command", "query"])), data)
    assume(told.value[0])
    at = next(n for n, each in enumerate(run.durable) if (each.stream, each.version) == (told.aggregate, told.value[0]))
    late = {each: replace(each, time=told.returned + 1) for each in run.durable[at:] if each.stream == told.aggregate}
    run.durable = [late.get(each, each) for each in run.durable]
    with pytest.raises(AssertionError, match=f"before it was durable.*{told.aggregate}"):
        judged(run)


@some
@given(plans(max_size=40), st.data())
def test_a_stale_owner_s_append_is_found(plan, data):
    """An epoch that falls; two writers at one; two owners of one stream; a version taken twice."""
    run = execute(plan)
    assume(run.written)
    last = run.written[-1]
    wrong = data.draw(
        st.sampled_from([
            replace(last, epoch=last.epoch - 1),
            replace(last, incarnation="another"),
            replace(last, owner="another"),
            last,
        ])
    )  # fmt: skip
    run.written.append(replace(wrong, version=last.version + (wrong is not last)))
    with pytest.raises(AssertionError, match=last.stream):
        judged(run)


def test_a_snapshot_that_is_not_what_its_events_say_is_found():
    """State from snapshot and tail against state from all events."""
    events = recorded(("t1", 5))
    history = [op("t1", 0, 1, [1, 5])]
    judge_history(history, events, load=lambda stream: ([5], (5,)))
    with pytest.raises(AssertionError, match="counter/a: snapshot and tail give 4, all events 5"):
        judge_history(history, events, load=lambda stream: (4, 5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": None},
        {"value": [-1, 5]},
        {"value": [1, 5, 6]},
        {"returned": -1},
        {"returned": None},
        {"token": ""},
        {"kind": "query"},
        {"outcome": "maybe"},
        {"aggregate": "counter"},
    ],
    ids=str,
)
def test_a_history_that_makes_no_sense_is_not_judged(wrong):
    """A workload that keeps its history wrong must not be told that all is well."""
    with pytest.raises(AssertionError):
        judge_history([replace(op("t1", 0, 1, [1, 5]), **wrong)], recorded(("t1", 5)))


def test_what_is_watched_beside_the_history_is_optional():
    """And what was watched is heeded."""
    history, events = [op("t1", 0, 1, [1, 5])], recorded(("t1", 5))
    judge_history(history, events)
    judge_history(history, events, durable=[Durable(time=1, stream="counter/a", version=1)])
    with pytest.raises(AssertionError, match="durable"):
        judge_history(history, events, durable=[])
    judge_history(
        history, events, written=[Written(stream="counter/a", version=1, owner="o", epoch=1, incarnation="i")]
    )


def op(token, called, returned, value, argument=5, aggregate="counter/a", outcome="done"):
    names = {"counter": "add", "register": "write"}
    return Operation(
        client=f"of {token}",
        aggregate=aggregate,
        kind="command",
        name=names[aggregate.partition("/")[0]],
        argument=argument,
        token=token,
        called=called,
        returned=returned,
        outcome=outcome,
        value=value,
    )


def query(called, returned, value, aggregate="counter/a"):
    return Operation(
        client="a reader",
        aggregate=aggregate,
        kind="query",
        name="read",
        argument=None,
        token="",
        called=called,
        returned=returned,
        outcome="done",
        value=value,
    )


def recorded(*tokens_and_arguments):
    run, total = Run(), 0
    for version, (token, argument) in enumerate(tokens_and_arguments, 1):
        total += argument
        write(run, StreamId("counter", "a"), version, token, argument, [version, total], 0.0)
    return run.recorded
