"""The FastAPI example over a runtime without Ray: keys, status codes, what a client may do then."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.fastapi_bank.app import make_app
from examples.fastapi_bank.domain import Account, InsufficientFunds
from examples.fastapi_bank.problems import STATUSES, problem_of
from holdfast.actors import DeadlineExceeded, DefinitionError, KeyReused, Overloaded, Rejected
from holdfast.journal import (
    CorruptRecord,
    HoldfastError,
    JournalBusy,
    JournalFull,
    JournalLost,
    JournalUnavailable,
    RecordTooLarge,
)
from holdfast.runtime import HostUnavailable, InvalidId, Runtime, RuntimeClosed, Sharded


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'bank.db'}"


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    with TestClient(make_app(lambda: Runtime.local(url, placement=Sharded(1)))) as client:
        yield client


def deposit(client: TestClient, amount: Any, key: str | None = None, id: str = "alice") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"/accounts/{id}/deposits", json={"amount": amount}, headers=headers)


def test_fastapi_a_request_without_a_key_acts_each_time(client: TestClient) -> None:
    """As it is asked for."""
    assert [deposit(client, 5).json() for _ in range(2)] == [{"balance": 5}, {"balance": 10}]


def test_fastapi_a_request_that_is_sent_again_with_its_key_acts_once_also_after_a_restart(url: str) -> None:
    """The second life of the application answers with the reply of the first, although the balance has changed."""
    for more in (1, 1):
        with TestClient(make_app(lambda: Runtime.local(url, placement=Sharded(1)))) as client:
            assert deposit(client, 5, "slip-1").json() == {"balance": 5}
            deposit(client, more)
    with TestClient(make_app(lambda: Runtime.local(url, placement=Sharded(1)))) as client:
        assert client.get("/accounts/alice").json() == {"balance": 7}


def test_fastapi_a_rejection_is_a_409_with_what_the_domain_says(client: TestClient) -> None:
    """And the same key may be used again, since nothing was done."""
    ask = {"json": {"amount": 5}, "headers": {"Idempotency-Key": "slip-2"}}
    refused = client.post("/accounts/alice/withdrawals", **ask)
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert refused.json() == {
        "type": "InsufficientFunds",
        "detail": "there are 0, 5 were asked for",
        "outcome": "rejected",
    }
    deposit(client, 9)
    assert client.post("/accounts/alice/withdrawals", **ask).json() == {"balance": 4}


def test_fastapi_what_cannot_be_right_is_a_422(client: TestClient) -> None:
    """A key for two things, an id that none can have, a body that FastAPI refuses by itself."""
    deposit(client, 5, "slip-3")
    assert [
        deposit(client, 6, "slip-3").json()["type"],
        deposit(client, 6, id="%01").json()["type"],
        deposit(client, -1).status_code,
        deposit(client, 1, "x" * 256).status_code,
    ] == ["KeyReused", "InvalidId", 422, 422]


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (Rejected("no"), 409, "rejected"),
        (InsufficientFunds(1, 2), 409, "rejected"),
        (KeyReused("Account/a", "k"), 422, "rejected"),
        (InvalidId("", "must not be empty"), 422, "rejected"),
        (RecordTooLarge("event", 20, 10), 413, "rejected"),
        (Overloaded("mailbox", 10), 503, "not done"),
        (JournalBusy("commit", 10), 503, "not done"),
        (JournalFull("disk full"), 503, "not done"),
        (DeadlineExceeded("Account/a", 1.0, DeadlineExceeded.NOT_SENT), 503, "not done"),
        (DeadlineExceeded("Account/a", 1.0, DeadlineExceeded.UNKNOWN), 503, "unknown"),
        (RuntimeClosed("Account/a", DeadlineExceeded.UNKNOWN), 503, "unknown"),
        (JournalUnavailable("no answer"), 503, "unknown"),
        (JournalLost("bank.db", "it is gone"), 500, "not done"),
        (HostUnavailable("Account/a", "no module bank"), 500, "not done"),
        (DefinitionError("Account", "no"), 500, "not done"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_fastapi_each_error_has_its_status_and_says_whether_it_may_have_happened(
    error: HoldfastError, status: int, outcome: str
) -> None:
    """503 always says when to come again; nothing else does."""
    problem = problem_of(error)
    assert (problem.status, problem.outcome, "Retry-After" in problem.headers) == (status, outcome, status == 503)


def test_fastapi_an_error_of_ones_own_may_have_a_status_of_its_own() -> None:
    """The nearest class counts."""
    statuses = {**STATUSES, InsufficientFunds: 402}
    assert problem_of(InsufficientFunds(1, 2), statuses).status == 402
    assert problem_of(Rejected("no"), statuses).status == 409


def test_fastapi_an_answer_that_comes_too_late_is_unknown_and_the_retry_gets_the_reply(url: str) -> None:
    """The command is done and its reply lost: the client hears 503, sends it again with its key, and it acted once."""
    client = TestClient(make_app(lambda: Runtime.local(url, placement=Sharded(1))), raise_server_exceptions=False)
    with client:
        runtime: Any = client.app.state.runtime  # type: ignore[attr-defined]
        real, told = runtime.get, []

        class Late:
            def __init__(self, reference: Any) -> None:
                self.reference = reference

            async def pay_in(self, amount: int) -> int:
                told.append(await self.reference.pay_in(amount))
                raise DeadlineExceeded("Account/alice", 10, DeadlineExceeded.UNKNOWN)

        runtime.get = lambda *args, **how: Late(real(*args, **how))
        late = deposit(client, 5, "slip-4")
        assert (late.status_code, late.json()["outcome"], late.headers["Retry-After"]) == (503, "unknown", "1")
        runtime.get = real
        assert (deposit(client, 5, "slip-4").json(), told) == ({"balance": 5}, [5])
        assert client.get("/accounts/alice").json() == {"balance": 5}


async def test_fastapi_a_bug_is_a_500_and_keeps_its_text_to_itself(url: str) -> None:
    """What is wrong inside is for the log, not for the client."""
    client = TestClient(make_app(lambda: Runtime.local(url)), raise_server_exceptions=False)

    def ask() -> Any:
        with client:
            runtime: Any = client.app.state.runtime  # type: ignore[attr-defined]

            def broken(*_: Any, **__: Any) -> Account:
                raise CorruptRecord("Account/alice", 3, 3, "checksum")

            runtime.get = broken
            return deposit(client, 5)

    answer = await asyncio.to_thread(ask)
    assert (answer.status_code, "checksum" in answer.text) == (500, False)
