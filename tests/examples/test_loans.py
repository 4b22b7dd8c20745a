"""The loans example without Ray: its rules, its generator, and its domain against its independent fold."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from examples.loans import domain, sabotage
from examples.loans.checks import EVENT_NAMES, application_facts, check_all
from examples.loans.domain import Clerk, LoanApplication, Seal, Stage, WorkItem
from examples.loans.feed import COMMANDS, WORK, Incident, feed
from examples.loans.fold import fold
from examples.loans.generator import CASES, generate
from examples.loans.hydration import costs
from examples.loans.log import REAL, Log, load
from examples.loans.report import longest, outcomes, telling
from holdfast.actors.testing import given
from holdfast.runtime import Runtime, Sharded

NOON = datetime(2012, 1, 2, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


SUBMITTED = (domain.Submitted(at(0), "112", 5000), domain.PartlySubmitted(at(0), "112"))
PREACCEPTED = (*SUBMITTED, domain.Preaccepted(at(1), "112"))
FINALIZED = (*PREACCEPTED, domain.Accepted(at(2), "7"), domain.Finalized(at(3), "7"))
OFFERED = (*FINALIZED, domain.OfferSelected(at(4), "7"), domain.OfferCreated(at(5), "7"), domain.OfferSent(at(6), "7"))
CALL = WorkItem.CALL_ABOUT_OFFER


# -- rules ---------------------------------------------------------------------------------------------------------


def test_a_step_records_who_made_it_and_when() -> None:
    """The event has the log's own time and clerk; the reply is the version."""
    outcome = given(LoanApplication, *SUBMITTED).when.preaccept(at(5), "10912")
    assert outcome.events == [domain.Preaccepted(at(5), "10912")]
    assert outcome.reply == 3
    assert outcome.state.stage is Stage.PREACCEPTED


@pytest.mark.parametrize("stage", [Stage.DECLINED, Stage.CANCELLED])
def test_no_work_begins_on_a_closed_application_and_what_was_begun_may_end(stage: Stage) -> None:
    """Laying work down is how a clerk closes the case."""
    end: Any = domain.Declined if stage is Stage.DECLINED else domain.Cancelled
    closed = given(
        LoanApplication,
        *OFFERED,
        domain.WorkScheduled(at(7), "7", CALL),
        domain.WorkStarted(at(8), "8", CALL),
        end(at(9), "8"),
    )
    assert isinstance(closed.when.start_work(at(10), "9", CALL).rejection, domain.WrongStage)
    assert isinstance(closed.when.schedule_work(at(10), "9", CALL).rejection, domain.WrongStage)
    assert closed.when.complete_work(at(10), "8", CALL).rejection is None


def test_one_clerk_at_a_time_is_at_a_work_item() -> None:
    """Started twice, ended twice, never asked for: all refused."""
    asked = given(LoanApplication, *OFFERED, domain.WorkScheduled(at(7), None, CALL))
    taken = asked.when.start_work(at(8), "8", CALL)
    assert isinstance(asked.when.complete_work(at(8), "8", CALL).rejection, domain.WorkNotTaken)
    assert isinstance(taken.when.start_work(at(9), "9", CALL).rejection, domain.WorkTaken)
    ended = taken.when.complete_work(at(9), "8", CALL)
    assert isinstance(ended.when.complete_work(at(9), "8", CALL).rejection, domain.WorkNotTaken)
    again = ended.when.start_work(at(10), "9", CALL)
    assert again.state.work[CALL] == domain.Work(scheduled=1, started=2, completed=1, taken_by="9")
    other = asked.when.start_work(at(8), "8", WorkItem.VALIDATE_APPLICATION)
    assert isinstance(other.rejection, domain.WorkNotScheduled)


def test_one_offer_at_a_time_is_out() -> None:
    """A second one is prepared while the first is out, and drawn up when that one is off the table."""
    second = given(LoanApplication, *OFFERED).when.select_offer(at(7), "7")
    assert isinstance(second.when.create_offer(at(8), "7").rejection, domain.NoSuchOffer)
    assert isinstance(second.when.select_offer(at(8), "7").rejection, domain.NoSuchOffer)
    created = second.when.cancel_offer(at(8), "7").when.create_offer(at(9), "7")
    assert [str(offer) for offer in created.state.offers] == ["cancelled", "created"]


def test_three_seals_in_any_order_grant_a_loan_and_each_is_set_once() -> None:
    """What is granted is not declined any more."""
    back = given(LoanApplication, *OFFERED).when.receive_offer(at(7), "7")
    granted = (
        back.when.activate(at(8), "7").when.accept_offer(at(8), "7").when.approve(at(8), "7").when.register(at(8), "7")
    )
    assert granted.state.seals == set(Seal)
    assert isinstance(granted.when.approve(at(9), "7").rejection, domain.WrongStage)
    assert isinstance(granted.when.decline(at(9), "7").rejection, domain.WrongStage)


def test_stages_are_not_skipped_and_time_does_not_run_backward() -> None:
    """A ladder, one step at a time, forward in time."""
    assert isinstance(given(LoanApplication).when.accept(at(1), "7").rejection, domain.WrongStage)
    assert isinstance(given(LoanApplication, *SUBMITTED).when.submit(at(1), "7", 1).rejection, domain.WrongStage)
    late = given(LoanApplication, *PREACCEPTED).when.accept(at(0), "7")
    assert isinstance(late.rejection, domain.TimeRunsBackward)


def test_a_clerk_reports_each_week_once_and_in_order() -> None:
    """Totals add up over the weeks."""
    one, two = date(2012, 1, 2), date(2012, 1, 9)
    first = given(Clerk).when.report_week(one, 5, 1, {CALL: 2}, {CALL: 1})
    assert isinstance(first.when.report_week(one, 5, 1, {}, {}).rejection, domain.WeekAlreadyReported)
    second = first.when.report_week(two, 3, 0, {CALL: 1}, {})
    assert (second.state.weeks, second.state.steps, second.state.refused) == (2, 8, 1)
    assert second.state.taken == {CALL: 3}
    assert isinstance(second.when.report_week(one, 1, 0, {}, {}).rejection, domain.WeekAlreadyReported)


def test_rejections_say_what_was_wrong() -> None:
    """The message has the step and the facts."""
    outcome = given(LoanApplication, *SUBMITTED).when.send_offer(at(1), "7")
    assert str(outcome.rejection) == "send an offer: the application is partly submitted"
    outcome = given(LoanApplication, *FINALIZED).when.send_offer(at(9), "7")
    assert str(outcome.rejection) == "send an offer: the offers are none yet"


# -- the generated log ---------------------------------------------------------------------------------------------


def test_one_seed_makes_one_log() -> None:
    """Another seed, another log."""
    assert list(generate(5, 50)) == list(generate(5, 50))
    assert list(generate(5, 50)) != list(generate(6, 50))


def test_the_generated_log_has_the_shape_of_the_real_one() -> None:
    """As many steps and clerks, the same mix of ends, and few steps that cannot have happened."""
    log = load(generated=True)
    expected = fold(log.lines)
    assert len(log.cases) == CASES
    assert len(log.clerks) == 68
    assert abs(len(log.lines) - 262_200) < 5_000
    assert [line.at for line in log.lines] == sorted(line.at for line in log.lines)
    assert 0.002 < len(expected.refused) / len(log.lines) < 0.008
    ends = outcomes(expected)
    real = {"granted": 2_246, "declined": 7_635, "cancelled": 2_807, "undecided": 399}
    assert all(abs(ends[end] - real[end]) < 250 for end in real), ends


def test_every_step_of_the_log_has_a_command_and_an_event() -> None:
    """Nothing that is generated is unknown to the feed or to the checks."""
    for activity, lifecycle in {(line.activity, line.lifecycle) for line in load(generated=True, cases=2_000).lines}:
        if activity.startswith("W_"):
            assert WorkItem(activity.removeprefix("W_"))
            assert lifecycle in WORK
        else:
            assert (activity, lifecycle) in COMMANDS
        assert (lifecycle if activity.startswith("W_") else activity) in EVENT_NAMES


# -- the whole way, in one process ---------------------------------------------------------------------------------


async def agree(log: Log) -> None:
    """Feed a log to an in-process runtime; every check of the demonstration must hold."""
    expected = fold(log.lines)
    async with Runtime.local("memory://", placement=Sharded(1)) as runtime:
        answers = await feed(runtime, log, [])
        checks = await check_all(runtime, log, answers, expected)
        assert [check for check in checks if not check.holds] == []
        case = longest(expected)
        assert [e.version async for e in runtime.read(LoanApplication, case)] == list(
            range(1, len(expected.accepted[case]) + 1)
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_domain_and_fold_agree_on_a_generated_log(seed: int) -> None:
    """Every application, every clerk, every rejection."""
    await agree(load(generated=True, cases=80, seed=seed))


async def test_domain_and_fold_agree_on_a_log_in_disorder() -> None:
    """Steps left out and repeated at random: most of what follows is refused, and both refuse the same."""
    import random

    chance = random.Random(11)
    lines = [
        line for line in load(generated=True, cases=60, seed=4).lines for _ in range(chance.choice((0, 1, 1, 1, 2)))
    ]
    from dataclasses import replace

    log = Log("in disorder, seed 11", [replace(line, number=n) for n, line in enumerate(lines)])
    assert len(fold(log.lines).refused) > len(lines) / 10
    await agree(log)


@pytest.mark.skipif(not REAL.exists(), reason=f"THE REAL LOG IS NOT HERE: {REAL}")
async def test_domain_and_fold_agree_on_the_real_log() -> None:
    """Its first 300 applications, from submission to end."""
    await agree(load(cases=300))


async def test_a_lost_an_invented_and_a_changed_step_are_all_noticed() -> None:
    """The checks can fail: they are held against a fold and answers that were tampered with."""
    log = load(generated=True, cases=20)
    expected = fold(log.lines)
    async with Runtime.local("memory://", placement=Sharded(1)) as runtime:
        answers = await feed(runtime, log, [])
        done = next(n for n, version in enumerate(answers.versions) if version > 0)
        answers.versions[done] += 1000  # told a version that the journal does not have
        answers.reports[next(iter(answers.reports))].append(1)  # a clerk told twice
        expected.refused.add(done)
        expected.applications[log.lines[0].case]["amount"] += 1
        failed = {check.claim for check in await check_all(runtime, log, answers, expected) if not check.holds}
    assert failed == {
        "what was rejected is what the fold finds impossible",
        "every application is as the fold says",
        "no acknowledged command was lost",
        "none was doubled, nothing was invented",
        "no clerk's report was lost or doubled",
    }


async def test_an_incident_strikes_once_while_commands_are_under_way() -> None:
    """At its line, with callers waiting."""
    log, struck = load(generated=True, cases=20), Counter[str]()

    async def strike() -> int:
        struck["strike"] += 1
        return 4711

    incident = Incident(len(log.lines) // 2, "nothing", strike)
    async with Runtime.local("memory://", placement=Sharded(1)) as runtime:
        answers = await feed(runtime, log, [incident])
    assert (struck["strike"], incident.pid) == (1, 4711)
    assert answers.caught(incident)


async def test_a_snapshot_saves_rows(tmp_path: Any) -> None:
    """From its snapshot an application takes one row, from its first event as many as it has events."""
    log, url = load(generated=True, cases=20), f"sqlite:///{tmp_path}/loans.db"
    expected = fold(log.lines)
    case = longest(expected)
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        await feed(runtime, log, [])
        assert await runtime.passivate(LoanApplication, case)
        assert application_facts(await runtime.state_at(LoanApplication, case)) == expected.applications[case]
    from_snapshot, from_first = await costs(url, case)
    assert from_snapshot.rows == 1
    assert from_first.rows == len(expected.accepted[case])


def test_the_history_told_is_of_one_application_and_fits_a_page() -> None:
    """Also when none was granted after a second offer."""
    for cases in (1, 300):
        expected = fold(load(generated=True, cases=cases).lines)
        assert telling(expected) in expected.applications


def test_sabotage_knows_its_targets_by_the_names_ray_has() -> None:
    """The journal and the hosts are named actors."""
    assert sabotage.HOST.format("LoanApplication#0") == "host:LoanApplication#0"
    assert sabotage.JOURNAL == "journal"
