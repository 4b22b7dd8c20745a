"""The bank: loan applications, and the clerks who work on them.

Every command takes the time `at` which the step was made and the clerk `by` whom (None: the log names nobody),
records one event that says so, and answers the application's version. What cannot happen is rejected: the rules
stand in the commands, one line each, and change nothing. State changes in the `@on` methods alone.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from holdfast.actors import Aggregate, Rejected, command, event, on

__all__ = [
    "Clerk",
    "LoanApplication",
    "NoSuchOffer",
    "OfferStage",
    "Seal",
    "Stage",
    "TimeRunsBackward",
    "WeekAlreadyReported",
    "WorkItem",
    "WorkNotScheduled",
    "WorkNotTaken",
    "WorkTaken",
    "WrongStage",
]


class Stage(StrEnum):
    """How far an application has come. Declined and cancelled are the two ends that give no loan."""

    NEW = "new"
    SUBMITTED = "submitted"
    PARTLY_SUBMITTED = "partly submitted"
    PREACCEPTED = "pre-accepted"
    ACCEPTED = "accepted"
    FINALIZED = "finalized"
    DECLINED = "declined"
    CANCELLED = "cancelled"


class Seal(StrEnum):
    """What the bank does to grant a loan, in any order. All three: the loan is granted."""

    APPROVED = "approved"
    REGISTERED = "registered"
    ACTIVATED = "activated"


class OfferStage(StrEnum):
    """One at a time is prepared (selected, created), and one at a time is out (sent, sent back)."""

    SELECTED = "selected"
    CREATED = "created"
    SENT = "sent"
    SENT_BACK = "sent back"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CANCELLED = "cancelled"


class WorkItem(StrEnum):
    """The kinds of work on an application. The values are the bank's own names for them."""

    HANDLE_LEADS = "Afhandelen leads"
    ASSESS_FRAUD = "Beoordelen fraude"
    COMPLETE_APPLICATION = "Completeren aanvraag"
    CALL_ABOUT_MISSING_PAPERS = "Nabellen incomplete dossiers"
    CALL_ABOUT_OFFER = "Nabellen offertes"
    VALIDATE_APPLICATION = "Valideren aanvraag"
    CHANGE_CONTRACT = "Wijzigen contractgegevens"


CLOSED = (Stage.DECLINED, Stage.CANCELLED)
PREPARED = (OfferStage.SELECTED, OfferStage.CREATED)
OUT = (OfferStage.SENT, OfferStage.SENT_BACK)

BEGUN = (Stage.PARTLY_SUBMITTED, Stage.PREACCEPTED, Stage.ACCEPTED, Stage.FINALIZED)
WORK_AT: dict[WorkItem, tuple[Stage, ...]] = {
    WorkItem.HANDLE_LEADS: (Stage.PARTLY_SUBMITTED,),
    WorkItem.ASSESS_FRAUD: BEGUN,
    WorkItem.COMPLETE_APPLICATION: (Stage.PREACCEPTED,),
    WorkItem.CALL_ABOUT_MISSING_PAPERS: (Stage.FINALIZED,),
    WorkItem.CALL_ABOUT_OFFER: (Stage.ACCEPTED, Stage.FINALIZED),
    WorkItem.VALIDATE_APPLICATION: (Stage.FINALIZED,),
    WorkItem.CHANGE_CONTRACT: (Stage.FINALIZED,),
}
"""The stages at which each kind of work can be scheduled."""


# -- what is rejected ----------------------------------------------------------------------------------------------


class WrongStage(Rejected):
    """The application is not where this step could be made."""

    def __init__(self, step: str, stage: str) -> None:
        super().__init__(step, stage)
        self.step, self.stage = step, stage

    def __str__(self) -> str:
        return f"{self.step}: the application is {self.stage}"


class NoSuchOffer(Rejected):
    """No offer is at the stage this step needs, or another one stands in its way."""

    def __init__(self, step: str, offers: list[str]) -> None:
        super().__init__(step, offers)
        self.step, self.offers = step, offers

    def __str__(self) -> str:
        return f"{self.step}: the offers are {', '.join(self.offers) or 'none yet'}"


class WorkNotScheduled(Rejected):
    """Nobody has asked for this work."""


class WorkTaken(Rejected):
    """A clerk is at it already."""


class WorkNotTaken(Rejected):
    """No clerk is at it, so none can have finished."""


class TimeRunsBackward(Rejected):
    """The step is older than what has happened already.

    Or it was rejected by a host that died before anybody heard of it, and is decided again, after later ones."""


class WeekAlreadyReported(Rejected):
    """The clerk has reported this week, or a later one."""


# -- what is recorded ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """What all of an application's events say: when it was by the bank's clock, and who it was."""

    at: datetime
    by: str | None


@event("application.submitted")
class Submitted(Step):
    amount: int


@event("application.partly_submitted")
class PartlySubmitted(Step):
    pass


@event("application.preaccepted")
class Preaccepted(Step):
    pass


@event("application.accepted")
class Accepted(Step):
    pass


@event("application.finalized")
class Finalized(Step):
    pass


@event("application.declined")
class Declined(Step):
    pass


@event("application.cancelled")
class Cancelled(Step):
    pass


@event("application.approved")
class Approved(Step):
    pass


@event("application.registered")
class Registered(Step):
    pass


@event("application.activated")
class Activated(Step):
    pass


@event("offer.selected")
class OfferSelected(Step):
    pass


@event("offer.created")
class OfferCreated(Step):
    pass


@event("offer.sent")
class OfferSent(Step):
    pass


@event("offer.sent_back")
class OfferSentBack(Step):
    pass


@event("offer.accepted")
class OfferAccepted(Step):
    pass


@event("offer.declined")
class OfferDeclined(Step):
    pass


@event("offer.cancelled")
class OfferCancelled(Step):
    pass


@event("work.scheduled")
class WorkScheduled(Step):
    item: WorkItem


@event("work.started")
class WorkStarted(Step):
    item: WorkItem


@event("work.completed")
class WorkCompleted(Step):
    item: WorkItem


@event("clerk.week_reported")
class WeekReported:
    """`week`: its Monday, `steps`: all that the clerk did in it, `refused`: those of them that were rejected."""

    week: date
    steps: int
    refused: int
    taken: dict[WorkItem, int]
    finished: dict[WorkItem, int]


# -- the loan application ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Work:
    """How often one kind of work was asked for, begun and ended. `taken_by`: who is at it, if the log says so."""

    scheduled: int = 0
    started: int = 0
    completed: int = 0
    taken_by: str | None = None

    @property
    def taken(self) -> bool:
        """Whether somebody is at it."""
        return self.started > self.completed


class LoanApplication(Aggregate):
    """One application, from its submission to a loan or none. Offers stand in the order they were selected."""

    amount: int = 0
    stage: Stage = Stage.NEW
    seals: set[Seal] = set()  # noqa: RUF012 (a field's default, copied into each application)
    offers: list[OfferStage] = []  # noqa: RUF012
    work: dict[WorkItem, Work] = {}  # noqa: RUF012
    submitted_at: datetime | None = None
    changed_at: datetime | None = None

    # The application itself: A_… in the log.

    @command
    def submit(self, at: datetime, by: str | None, amount: int) -> int:
        self._check("submit", at, Stage.NEW)
        self.emit(Submitted(at, by, amount))
        return self.version

    @command
    def partly_submit(self, at: datetime, by: str | None) -> int:
        self._check("partly submit", at, Stage.SUBMITTED)
        self.emit(PartlySubmitted(at, by))
        return self.version

    @command
    def preaccept(self, at: datetime, by: str | None) -> int:
        self._check("pre-accept", at, Stage.PARTLY_SUBMITTED)
        self.emit(Preaccepted(at, by))
        return self.version

    @command
    def accept(self, at: datetime, by: str | None) -> int:
        self._check("accept", at, Stage.PREACCEPTED)
        self.emit(Accepted(at, by))
        return self.version

    @command
    def finalize(self, at: datetime, by: str | None) -> int:
        self._check("finalize", at, Stage.ACCEPTED)
        self.emit(Finalized(at, by))
        return self.version

    @command
    def decline(self, at: datetime, by: str | None) -> int:
        self._check("decline", at, *BEGUN)
        self._check_unsealed("decline", *Seal)
        self.emit(Declined(at, by))
        return self.version

    @command
    def cancel(self, at: datetime, by: str | None) -> int:
        self._check("cancel", at, *BEGUN)
        self._check_unsealed("cancel", *Seal)
        self.emit(Cancelled(at, by))
        return self.version

    @command
    def approve(self, at: datetime, by: str | None) -> int:
        self._check_seal("approve", at, Seal.APPROVED)
        self.emit(Approved(at, by))
        return self.version

    @command
    def register(self, at: datetime, by: str | None) -> int:
        self._check_seal("register", at, Seal.REGISTERED)
        self.emit(Registered(at, by))
        return self.version

    @command
    def activate(self, at: datetime, by: str | None) -> int:
        self._check_seal("activate", at, Seal.ACTIVATED)
        self.emit(Activated(at, by))
        return self.version

    # Its offers: O_… in the log.

    @command
    def select_offer(self, at: datetime, by: str | None) -> int:
        """Decide on what to offer, also while an earlier offer is still out."""
        self._check("select an offer", at, Stage.ACCEPTED, Stage.FINALIZED)
        self._check_unsealed("select an offer", *Seal)
        self._check_offer("select an offer", not self._has(*PREPARED))
        self.emit(OfferSelected(at, by))
        return self.version

    @command
    def create_offer(self, at: datetime, by: str | None) -> int:
        """Draw up the selected offer; the earlier one must be off the table by now."""
        self._check("create an offer", at, Stage.FINALIZED)
        self._check_offer("create an offer", self._has(OfferStage.SELECTED) and not self._has(*OUT))
        self.emit(OfferCreated(at, by))
        return self.version

    @command
    def send_offer(self, at: datetime, by: str | None) -> int:
        self._check("send an offer", at, Stage.FINALIZED)
        self._check_offer("send an offer", self._has(OfferStage.CREATED))
        self.emit(OfferSent(at, by))
        return self.version

    @command
    def receive_offer(self, at: datetime, by: str | None) -> int:
        """The customer has sent the offer back, signed or not."""
        self._check("receive an offer", at, Stage.FINALIZED)
        self._check_offer("receive an offer", self._has(OfferStage.SENT))
        self.emit(OfferSentBack(at, by))
        return self.version

    @command
    def accept_offer(self, at: datetime, by: str | None) -> int:
        """The bank agrees. A replaced offer need not come back: the papers of the earlier one count."""
        self._check("accept an offer", at, Stage.FINALIZED)
        self._check_offer("accept an offer", self._has(*OUT))
        self.emit(OfferAccepted(at, by))
        return self.version

    @command
    def decline_offer(self, at: datetime, by: str | None) -> int:
        self._check("decline an offer", at, Stage.FINALIZED, *CLOSED)
        self._check_offer("decline an offer", self._has(*OUT))
        self.emit(OfferDeclined(at, by))
        return self.version

    @command
    def cancel_offer(self, at: datetime, by: str | None) -> int:
        self._check("cancel an offer", at, Stage.FINALIZED, *CLOSED)
        self._check_offer("cancel an offer", self._has(*OUT))
        self.emit(OfferCancelled(at, by))
        return self.version

    @command
    def lapse_offer(self, at: datetime) -> int:
        """The customer has not answered, and the bank waits no longer; but for a loan that is being granted it does."""
        self._check("let an offer lapse", at, Stage.FINALIZED, *CLOSED)
        self._check_unsealed("let an offer lapse", *Seal)
        self._check_offer("let an offer lapse", self._has(OfferStage.SENT))
        self.emit(OfferCancelled(at, None))
        return self.version

    # The work on it: W_… in the log.

    @command
    def schedule_work(self, at: datetime, by: str | None, item: WorkItem) -> int:
        self._check(f"schedule {item}", at, *WORK_AT[item])
        self.emit(WorkScheduled(at, by, item))
        return self.version

    @command
    def start_work(self, at: datetime, by: str | None, item: WorkItem) -> int:
        """A clerk takes a work item up, or goes on with it."""
        self._check(f"start {item}", at, *BEGUN)
        work = self.work.get(item)
        if work is None:
            raise WorkNotScheduled(item)
        if work.taken:
            raise WorkTaken(item, work.taken_by)
        self.emit(WorkStarted(at, by, item))
        return self.version

    @command
    def complete_work(self, at: datetime, by: str | None, item: WorkItem) -> int:
        """A clerk lays a work item down, finished or not; also after the application was closed."""
        self._check(f"complete {item}", at, *BEGUN, *CLOSED)
        work = self.work.get(item)
        if work is None or not work.taken:
            raise WorkNotTaken(item)
        self.emit(WorkCompleted(at, by, item))
        return self.version

    # The rules.

    def _check(self, step: str, at: datetime, *stages: Stage) -> None:
        if self.stage not in stages:
            raise WrongStage(step, self.stage)
        if self.changed_at is not None and at < self.changed_at:
            raise TimeRunsBackward(step)

    def _check_seal(self, step: str, at: datetime, seal: Seal) -> None:
        """The three seals come in any order and the offer's acceptance may be noted among them."""
        self._check(step, at, Stage.FINALIZED)
        self._check_unsealed(step, seal)
        self._check_offer(step, self._has(*OUT, OfferStage.ACCEPTED))

    def _check_unsealed(self, step: str, *seals: Seal) -> None:
        for seal in seals:
            if seal in self.seals:
                raise WrongStage(step, seal)

    def _check_offer(self, step: str, possible: bool) -> None:
        if not possible:
            raise NoSuchOffer(step, [str(offer) for offer in self.offers])

    def _has(self, *stages: OfferStage) -> bool:
        return any(offer in stages for offer in self.offers)

    # What the events make of it.

    @on(Submitted)
    def _submitted(self, event: Submitted) -> None:
        self.amount, self.submitted_at = event.amount, event.at
        self._moved(event, Stage.SUBMITTED)

    @on(PartlySubmitted)
    def _partly_submitted(self, event: PartlySubmitted) -> None:
        self._moved(event, Stage.PARTLY_SUBMITTED)

    @on(Preaccepted)
    def _preaccepted(self, event: Preaccepted) -> None:
        self._moved(event, Stage.PREACCEPTED)

    @on(Accepted)
    def _accepted(self, event: Accepted) -> None:
        self._moved(event, Stage.ACCEPTED)

    @on(Finalized)
    def _finalized(self, event: Finalized) -> None:
        self._moved(event, Stage.FINALIZED)

    @on(Declined)
    def _declined(self, event: Declined) -> None:
        self._moved(event, Stage.DECLINED)

    @on(Cancelled)
    def _cancelled(self, event: Cancelled) -> None:
        self._moved(event, Stage.CANCELLED)

    @on(Approved)
    def _approved(self, event: Approved) -> None:
        self._sealed(event, Seal.APPROVED)

    @on(Registered)
    def _registered(self, event: Registered) -> None:
        self._sealed(event, Seal.REGISTERED)

    @on(Activated)
    def _activated(self, event: Activated) -> None:
        self._sealed(event, Seal.ACTIVATED)

    @on(OfferSelected)
    def _offer_selected(self, event: OfferSelected) -> None:
        self.offers.append(OfferStage.SELECTED)
        self.changed_at = event.at

    @on(OfferCreated)
    def _offer_created(self, event: OfferCreated) -> None:
        self._offer_moved(event, PREPARED, OfferStage.CREATED)

    @on(OfferSent)
    def _offer_sent(self, event: OfferSent) -> None:
        self._offer_moved(event, PREPARED, OfferStage.SENT)

    @on(OfferSentBack)
    def _offer_sent_back(self, event: OfferSentBack) -> None:
        self._offer_moved(event, OUT, OfferStage.SENT_BACK)

    @on(OfferAccepted)
    def _offer_accepted(self, event: OfferAccepted) -> None:
        self._offer_moved(event, OUT, OfferStage.ACCEPTED)

    @on(OfferDeclined)
    def _offer_declined(self, event: OfferDeclined) -> None:
        self._offer_moved(event, OUT, OfferStage.DECLINED)

    @on(OfferCancelled)
    def _offer_cancelled(self, event: OfferCancelled) -> None:
        self._offer_moved(event, OUT, OfferStage.CANCELLED)

    @on(WorkScheduled)
    def _work_scheduled(self, event: WorkScheduled) -> None:
        self.work.setdefault(event.item, Work()).scheduled += 1
        self.changed_at = event.at

    @on(WorkStarted)
    def _work_started(self, event: WorkStarted) -> None:
        work = self.work[event.item]
        work.started += 1
        work.taken_by, self.changed_at = event.by, event.at

    @on(WorkCompleted)
    def _work_completed(self, event: WorkCompleted) -> None:
        work = self.work[event.item]
        work.completed += 1
        work.taken_by, self.changed_at = None, event.at

    def _moved(self, event: Step, stage: Stage) -> None:
        self.stage, self.changed_at = stage, event.at

    def _sealed(self, event: Step, seal: Seal) -> None:
        self.seals.add(seal)
        self.changed_at = event.at

    def _offer_moved(self, event: Step, of: tuple[OfferStage, ...], to: OfferStage) -> None:
        number = next(n for n, offer in enumerate(self.offers) if offer in of)
        self.offers[number], self.changed_at = to, event.at


# -- the clerk -----------------------------------------------------------------------------------------------------


class Clerk(Aggregate):
    """One of the bank's clerks, who reports at the end of each week what was done."""

    weeks: int = 0
    steps: int = 0
    refused: int = 0
    taken: dict[WorkItem, int] = {}  # noqa: RUF012
    finished: dict[WorkItem, int] = {}  # noqa: RUF012
    first_week: date | None = None
    last_week: date | None = None

    @command
    def report_week(
        self, week: date, steps: int, refused: int, taken: dict[WorkItem, int], finished: dict[WorkItem, int]
    ) -> int:
        """Report the week of a Monday: the steps made, those refused, how often each kind of work was taken and
        finished."""
        if self.last_week is not None and week <= self.last_week:
            raise WeekAlreadyReported(week, self.last_week)
        self.emit(WeekReported(week, steps, refused, taken, finished))
        return self.version

    @on(WeekReported)
    def _week_reported(self, event: WeekReported) -> None:
        self.weeks += 1
        self.steps += event.steps
        self.refused += event.refused
        self.first_week, self.last_week = self.first_week or event.week, event.week
        for total, lately in ((self.taken, event.taken), (self.finished, event.finished)):
            for item, times in lately.items():
                total[item] = total.get(item, 0) + times
