"""The loans example without Ray: its rules, its generator, and its domain against its independent fold."""

import io
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.loans import days, domain, sabotage
from examples.loans.__main__ import PROJECTION
from examples.loans.board import Board
from examples.loans.checks import EVENT_NAMES, application_facts, check_all
from examples.loans.domain import Clerk, LoanApplication, Seal, Stage, WorkItem
from examples.loans.feed import COMMANDS, WORK, Answers, Incident, feed
from examples.loans.fold import Expected, fold
from examples.loans.generator import CASES, generate
from examples.loans.hydration import costs
from examples.loans.log import REAL, Line, Log, load
from examples.loans.open_work import OpenWork
from examples.loans.report import longest, outcomes, telling
from examples.loans.unanswered import PATIENCE, UnansweredOffers
from holdfast.actors import VirtualClock
from holdfast.actors.testing import given
from holdfast.runtime import Runtime, Sharded
from holdfast.runtime.projection_definition import projection_of
from holdfast.runtime.testing import given_events

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


# -- offers that nobody answers ------------------------------------------------------------------------------------


def test_weeks_end_on_monday_at_midnight_by_the_banks_clock() -> None:
    """Also for a moment that comes from a summer, or from the journal, which keeps no zone."""
    monday = datetime(2012, 1, 8, 23, tzinfo=UTC)
    assert days.end_of_week(NOON) == monday == days.midnight(date(2012, 1, 9))
    assert days.end_of_week(monday) == monday
    assert days.end_of_week(monday + timedelta(microseconds=1)) == monday + timedelta(days=7)
    assert (days.day_of(monday), days.monday_of(monday)) == (date(2012, 1, 9), date(2012, 1, 9))


def test_an_offer_lapses_while_nobody_has_answered_it() -> None:
    """Not once it is back, and not from under a loan that is being granted."""
    out = given(LoanApplication, *OFFERED)
    lapsed = out.when.lapse_offer(at(9))
    assert lapsed.events == [domain.OfferCancelled(at(9), None)]
    assert isinstance(lapsed.when.lapse_offer(at(9)).rejection, domain.NoSuchOffer)
    assert isinstance(out.when.receive_offer(at(8), "7").when.lapse_offer(at(9)).rejection, domain.NoSuchOffer)
    assert isinstance(out.when.approve(at(8), "7").when.lapse_offer(at(9)).rejection, domain.WrongStage)
    assert isinstance(out.when.cancel(at(10), "7").when.lapse_offer(at(9)).rejection, domain.TimeRunsBackward)


@asynccontextmanager
async def offered(clock: VirtualClock) -> AsyncIterator[tuple[Runtime, LoanApplication]]:
    """One application with an offer that is out since `at(6)`."""
    async with Runtime.local(clock=clock, placement=Sharded(1)) as runtime:
        await runtime.register(UnansweredOffers)
        await runtime.start(UnansweredOffers)
        it = runtime.get(LoanApplication, "a")
        await it.submit(at(0), "112", 5000)
        for step in (it.partly_submit, it.preaccept, it.accept, it.finalize):
            await step(at(1), "7")
        for step in (it.select_offer, it.create_offer, it.send_offer):
            await step(at(6), "7")
        await runtime.wait_for(UnansweredOffers)
        yield runtime, it


async def offers(runtime: Runtime) -> list[str]:
    return [str(offer) for offer in (await runtime.state_at(LoanApplication, "a")).offers]


async def test_the_reaction_takes_back_what_nobody_has_answered_after_thirty_days() -> None:
    """As of the end of that week, by the log's time."""
    clock = VirtualClock(NOON)
    async with offered(clock) as (runtime, _):
        due = at(6) + PATIENCE
        await clock.advance_to(due - timedelta(microseconds=1))
        assert await offers(runtime) == ["sent"]
        await clock.advance_to(due)
        assert await offers(runtime) == ["cancelled"]
        assert (await runtime.state_at(LoanApplication, "a")).changed_at == days.end_of_week(due)


@pytest.mark.parametrize("answer", ["receive_offer", "accept_offer", "decline_offer", "cancel_offer"])
async def test_the_reaction_leaves_an_offer_alone_that_was_answered(answer: str) -> None:
    """In whichever way; nothing is pending any more."""
    clock = VirtualClock(NOON)
    async with offered(clock) as (runtime, it):
        await getattr(it, answer)(at(7), "8")
        before = await offers(runtime)
        await runtime.wait_for(UnansweredOffers)
        assert not (await runtime.state_at(UnansweredOffers, "a")).pending_reminders
        await clock.advance(timedelta(days=60))
        assert await offers(runtime) == before


async def test_the_application_has_the_last_word_when_an_offer_falls_due() -> None:
    """The reaction knows nothing of seals: where a loan is granted, the reminder has its turn, and that is all."""
    clock = VirtualClock(NOON)
    async with offered(clock) as (runtime, it):
        await it.approve(at(7), "8")
        await clock.advance(timedelta(days=60))
        assert await offers(runtime) == ["sent"]
        last = [recorded async for recorded in runtime.read(UnansweredOffers, "a")][-1]
        assert (last.type, last.event.problem) == ("holdfast.reminder.fired", "")


# -- the projection and the board ----------------------------------------------------------------------------------

OPEN = "SELECT day, clerk, item, opened, closed, open FROM open_work ORDER BY day, clerk"
DAYS = "SELECT day, opened, closed, open FROM work_by_day ORDER BY day"


def test_work_is_open_from_the_day_it_is_taken_up_to_the_day_it_is_laid_down() -> None:
    """With the clerk who took it up, whoever lays it down. Days may come in any order, as they do in the journal."""
    day = timedelta(days=1)
    begun, ended = domain.WorkStarted(at(0), "7", CALL), domain.WorkCompleted(at(0) + 3 * day, "8", CALL)
    later, early = domain.WorkStarted(at(0) + 2 * day, "7", CALL), domain.WorkStarted(at(0) - day, None, CALL)
    given_ = given_events(OpenWork, ("a", begun), ("a", ended), ("b", later), ("c", early))
    assert given_.rows(OPEN) == [
        ("2012-01-01", "", CALL.value, 1, 0, 1),
        ("2012-01-02", "7", CALL.value, 1, 0, 1),
        ("2012-01-04", "7", CALL.value, 1, 0, 2),
        ("2012-01-05", "7", CALL.value, 0, 1, 1),
    ]
    assert given_.rows(DAYS) == [
        ("2012-01-01", 1, 0, 1),
        ("2012-01-02", 1, 0, 2),
        ("2012-01-04", 1, 0, 3),
        ("2012-01-05", 0, 1, 2),
    ]
    assert sorted(given_.rows("SELECT application FROM at_work")) == [("b",), ("c",)]


async def test_the_board_goes_on_where_it_was() -> None:
    """Another look counts nothing twice, and prints what there is."""
    board = Board()
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.get(LoanApplication, "a").submit(at(0), "112", 5000)
        await board.watch(runtime, until_caught_up=True)
        assert board.counts["submitted"] == 1
        await runtime.get(LoanApplication, "a").partly_submit(at(0), "112")
        await board.watch(runtime, until_caught_up=True)
    assert {status: count for status, count in board.counts.items() if count} == {"partly submitted": 1}
    console = Console(file=io.StringIO(), width=80)
    console.print(board)
    assert "2 events, all there are" in console.file.getvalue()  # type: ignore[attr-defined]


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


@dataclass
class Fed:
    """A log that was fed to a runtime in this process, by a clock of the log's own."""

    runtime: Runtime
    answers: Answers
    board: Board
    read_model: Path

    async def failed(self, log: Log, expected: Expected) -> set[str]:
        """The checks of the demonstration that do not hold."""
        checks = await check_all(self.runtime, log, self.answers, expected, self.board, self.read_model)
        return {f"{check.claim}: {check.found}" for check in checks if not check.holds}


@asynccontextmanager
async def feeding(
    log: Log, folder: Path, url: str = "memory://", incidents: Iterable[Incident] = ()
) -> AsyncIterator[Fed]:
    """All of the demonstration but its processes."""
    clock, board, read_model = VirtualClock(log.lines[0].at), Board(), folder / "read.db"
    async with Runtime.local(url, placement=Sharded(1), clock=clock) as runtime:
        await runtime.register(LoanApplication, Clerk, UnansweredOffers)
        await runtime.start(UnansweredOffers)
        await runtime.start(OpenWork, f"sqlite:///{read_model}")
        answers = await feed(runtime, clock, log, list(incidents))
        await runtime.wait_for(OpenWork)
        await board.watch(runtime, until_caught_up=True)
        yield Fed(runtime, answers, board, read_model)


async def agree(log: Log, folder: Path) -> Expected:
    """Feed a log to an in-process runtime; every check of the demonstration must hold."""
    expected = fold(log.lines)
    async with feeding(log, folder) as fed:
        assert await fed.failed(log, expected) == set()
        case, runtime = longest(expected), fed.runtime
        assert [e.version async for e in runtime.read(LoanApplication, case)] == list(
            range(1, len(expected.accepted[case]) + 1)
        )
    return expected


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_domain_and_fold_agree_on_a_generated_log(seed: int, tmp_path: Path) -> None:
    """Every application, every clerk, every rejection, every row of the projection, every count of the board."""
    await agree(load(generated=True, cases=80, seed=seed), tmp_path)


async def test_domain_and_fold_agree_on_offers_that_are_answered_too_late(tmp_path: Path) -> None:
    """Half of the customers wait for 40 days: offers lapse at the end of their week, and what then comes is refused."""
    chance, late = random.Random(12), set[str]()
    lines = list[Line]()
    for line in load(generated=True, cases=80, seed=5).lines:
        lines.append(replace(line, at=line.at + timedelta(days=40)) if line.case in late else line)
        if line.activity == "O_SENT" and chance.random() < 0.5:
            late.add(line.case)
    lines.sort(key=lambda line: line.at)
    log = Log("late, seed 12", [replace(line, number=n) for n, line in enumerate(lines)])
    expected = await agree(log, tmp_path)
    assert len(expected.lapsed) > 10
    assert len(set(expected.lapsed.values())) > 5
    assert sum(log.lines[n].activity in ("O_SENT_BACK", "O_CANCELLED") for n in expected.refused) > 5


async def test_domain_and_fold_agree_on_a_log_in_disorder(tmp_path: Path) -> None:
    """Steps left out and repeated at random: most of what follows is refused, and both refuse the same."""
    chance = random.Random(11)
    lines = [
        line for line in load(generated=True, cases=60, seed=4).lines for _ in range(chance.choice((0, 1, 1, 1, 2)))
    ]
    log = Log("in disorder, seed 11", [replace(line, number=n) for n, line in enumerate(lines)])
    expected = await agree(log, tmp_path)
    assert len(expected.refused) > len(lines) / 10


@pytest.mark.skipif(not REAL.exists(), reason=f"THE REAL LOG IS NOT HERE: {REAL}")
async def test_domain_and_fold_agree_on_the_real_log(tmp_path: Path) -> None:
    """Its first 200 applications, from submission to end, and others of those months whose offers were forgotten."""
    log = load(cases=3000)
    forgotten = {case for case, _ in fold(log.lines).lapsed}
    cases = forgotten | set(sorted(log.cases)[:200])
    lines = [line for line in log.lines if line.case in cases]
    log = Log(log.source, [replace(line, number=n) for n, line in enumerate(lines)])
    assert len((await agree(log, tmp_path)).lapsed) > 5


async def test_a_lost_an_invented_and_a_changed_step_are_all_noticed(tmp_path: Path) -> None:
    """The checks can fail: they are held against a fold and answers that were tampered with."""
    log = load(generated=True, cases=20)
    expected = fold(log.lines)
    async with feeding(log, tmp_path) as fed:
        done = next(n for n, version in enumerate(fed.answers.versions) if version > 0)
        fed.answers.versions[done] += 1000  # told a version that the journal does not have
        fed.answers.reports[next(iter(fed.answers.reports))].append(1)  # a clerk told twice
        expected.refused.add(done)
        expected.applications[log.lines[0].case]["amount"] += 1
        expected.lapsed[log.lines[0].case, 1] = log.lines[0].at  # an offer that should have lapsed, and has not
        expected.days.popitem()
        fed.board.counts["granted"] += 1
        failed = {each.partition(":")[0] for each in await fed.failed(log, expected)}
    assert failed == {
        "what was rejected is what the fold finds impossible",
        "every application is as the fold says",
        "no acknowledged command was lost",
        "none was doubled, nothing was invented",
        "each offer that nobody answered lapsed, once",
        "no clerk's report was lost or doubled",
        "the projection's tables are as the fold says",
        "the board ended with the fold's counts",
    }


async def test_a_clerk_who_cancels_an_offer_is_not_taken_for_the_reaction(tmp_path: Path) -> None:
    """What lapses is what a command of another command's has done, and no step of the log."""
    log = load(generated=True, cases=20)
    expected = fold(log.lines)
    async with feeding(log, tmp_path) as fed:
        cancelled = [
            line for line in log.lines if line.activity == "O_CANCELLED" and fed.answers.versions[line.number] > 0
        ]
        line = cancelled[0]
        expected.lapsed[line.case, fed.answers.versions[line.number]] = line.at
        failed = {each.partition(":")[0] for each in await fed.failed(log, expected)}
    assert failed == {"each offer that nobody answered lapsed, once"}


async def test_an_incident_strikes_once_while_commands_are_under_way(tmp_path: Path) -> None:
    """At its line, with callers waiting."""
    log, struck = load(generated=True, cases=20), Counter[str]()

    async def strike() -> int:
        struck["strike"] += 1
        return 4711

    incident = Incident(len(log.lines) // 2, "nothing", strike)
    async with feeding(log, tmp_path, incidents=[incident]) as fed:
        assert (struck["strike"], incident.pid) == (1, 4711)
        assert fed.answers.caught(incident)


async def test_a_snapshot_saves_rows(tmp_path: Any) -> None:
    """From its snapshot an application takes one row, from its first event as many as it has events."""
    log, url = load(generated=True, cases=20), f"sqlite:///{tmp_path}/loans.db"
    expected = fold(log.lines)
    case = longest(expected)
    async with feeding(log, tmp_path, url) as fed:
        runtime = fed.runtime
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
    assert sabotage.FOLLOWER.format(PROJECTION) == "follower:projection/OpenWork@1"
    assert projection_of(OpenWork).owners == (PROJECTION,)
