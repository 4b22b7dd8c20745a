"""From what a call raises to what an HTTP client is told. Copy this file: nothing in it is about banks.

A command ends in one of three ways, and a client must be able to tell them apart:

- rejected: 4xx, nothing was written, and the same request will be refused again until something else has changed;
- nothing was done, for now: 503 with `Retry-After`, and `"outcome": "not done"`;
- unknown: 503 with `Retry-After`, and `"outcome": "unknown"`. It may have been done. With the same `Idempotency-Key` it
  is safe to send it again: what was done is not done twice, and its reply is given once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from holdfast.actors import DeadlineExceeded, KeyReused, Rejected
from holdfast.journal import HoldfastError, JournalUnavailable, RecordTooLarge, Unstorable
from holdfast.runtime import InvalidId, RuntimeClosed

__all__ = ["Problem", "answer_with_problems", "problem_of"]

RETRY_AFTER_S = 1
STATUSES: Mapping[type[Exception], int] = {
    Rejected: 409,
    InvalidId: 422,
    KeyReused: 422,
    RecordTooLarge: 413,
    Unstorable: 422,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the client is told."""

    status: int
    type: str
    detail: str
    outcome: str
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: HoldfastError, statuses: Mapping[type[Exception], int] = STATUSES) -> Problem:
    """`statuses`: for classes of errors that are answers, and no failures; the nearest class of an error counts, so
    your own subclass of `Rejected` may have a status of its own."""
    kind = type(error).__name__
    status = next((statuses[each] for each in type(error).__mro__ if each in statuses), None)
    if status is not None:
        return Problem(status=status, type=kind, detail=str(error), outcome="rejected")
    if error.retryable or isinstance(error, RuntimeClosed):
        outcome = "unknown" if _may_have_been_done(error) else "not done"
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return Problem(status=503, type=kind, detail=str(error), outcome=outcome, headers=headers)
    return Problem(status=500, type=kind, detail="see the log", outcome="not done")


def _may_have_been_done(error: HoldfastError) -> bool:
    if isinstance(error, DeadlineExceeded | RuntimeClosed):
        return error.outcome == DeadlineExceeded.UNKNOWN
    return isinstance(error, JournalUnavailable)


def answer_with_problems(app: FastAPI, statuses: Mapping[type[Exception], int] = STATUSES) -> None:
    """Have the application answer whatever Holdfast raises; anything else stays a 500 of FastAPI's own."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HoldfastError), "registered for nothing else"
        problem = problem_of(error, statuses)
        if problem.status == 500:
            raise error  # logged with its traceback, as any bug is
        content = {"type": problem.type, "detail": problem.detail, "outcome": problem.outcome}
        return JSONResponse(content, problem.status, problem.headers, media_type="application/problem+json")

    app.add_exception_handler(HoldfastError, answer)
