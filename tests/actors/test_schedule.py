"""Schedules of reminders: times without drift, jitter that can be worked out again, and cron."""

import random
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from holdfast.actors.clock import micros_of, moment_of
from holdfast.actors.schedule import COUNTED_MAX, Schedule, check_cron

NOON = micros_of(datetime(2030, 1, 1, 12, tzinfo=UTC))
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000


def test_a_repeating_reminder_does_not_drift() -> None:
    """The nominal times are multiples of the interval from the first one, whatever the jitter."""
    schedule = Schedule(seed="a", every=HOUR, jitter=10 * MINUTE)
    found = list(islice(schedule.after(NOON), 5))
    assert [each.nominal for each in found] == [NOON + n * HOUR for n in range(1, 6)]
    assert all(0 <= each.due - each.nominal <= 10 * MINUTE for each in found)


def test_jitter_of_a_reminder_is_drawn_again_as_it_was_and_differs_between_reminders() -> None:
    """A replay draws the same; a thousand reminders for one moment are spread over the whole jitter."""
    assert Schedule(seed="a", jitter=HOUR).at(NOON) == Schedule(seed="a", jitter=HOUR).at(NOON)
    dues = [Schedule(seed=f"offer/{n} x", jitter=HOUR).at(NOON).due - NOON for n in range(1000)]
    by_quarter = [sum(q * HOUR <= 4 * due < (q + 1) * HOUR for due in dues) for q in range(4)]
    assert min(by_quarter) > 180


def test_a_reminder_by_cron_is_due_in_utc_at_the_times_that_its_five_fields_mean() -> None:
    """Strictly after the moment that it is asked for."""
    schedule = Schedule(seed="a", cron="0 6 * * MON-FRI")
    days = [moment_of(each.nominal) for each in islice(schedule.after(NOON), 4)]
    assert [f"{day:%a %d %H:%M}" for day in days] == ["Wed 02 06:00", "Thu 03 06:00", "Fri 04 06:00", "Mon 07 06:00"]
    assert check_cron("0 12 * * *", NOON) == NOON + 24 * HOUR


@pytest.mark.parametrize("expression", ["* * * *", "0 0 6 * * *", "61 * * * *", "0 0 30 2 *", ""])
def test_cron_of_a_reminder_that_means_no_time_is_refused(expression: str) -> None:
    """With the expression in the error; seconds are no field here."""
    with pytest.raises(ValueError, match="cron="):
        check_cron(expression, NOON)


@pytest.mark.parametrize("seed", range(40))
def test_the_next_time_of_a_late_reminder_is_what_counting_through_gives(seed: int) -> None:
    """`first_due_after` against a walk over all occurrences, with jitter, and beyond what it counts."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    every = chance.choice((SECOND, 7 * SECOND, HOUR))
    repeats = {"cron": chance.choice(("*/7 * * * *", "3,5 */2 * * *"))} if chance.random() < 0.4 else {"every": every}
    schedule = Schedule(seed=str(seed), jitter=chance.choice((0, every // 2, every)), **repeats)
    moment = NOON + chance.randrange(4000) * every // chance.choice((1, 3, 7))
    walked, passed = None, 0
    for walked in schedule.after(NOON):
        if walked.due > moment:
            break
        passed += 1
    assert schedule.first_due_after(NOON, moment) == (walked, min(passed, COUNTED_MAX))


def test_a_reminder_that_does_not_repeat_has_no_next_time() -> None:
    """Only the first occurrence."""
    assert Schedule(seed="a").first_due_after(NOON, NOON + HOUR) == (None, 0)


def test_micros_and_moments_are_the_same_time() -> None:
    """To the microsecond, before 1970 too, and from other time zones."""
    for moment in (datetime(2030, 1, 1, 1, 2, 3, 4, tzinfo=UTC), datetime(1911, 1, 1, tzinfo=UTC)):
        assert moment_of(micros_of(moment)) == moment
    assert moment_of(micros_of(datetime.fromisoformat("2030-01-01T12:00+02:00"))).hour == 10
    assert moment_of(micros_of(datetime(1970, 1, 2, tzinfo=UTC))) - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(1)
