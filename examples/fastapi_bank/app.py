"""The application: one runtime for as long as it serves, an aggregate for each request.

    uvicorn examples.fastapi_bank.app:app

It opens the journal of `BANK_JOURNAL` (`sqlite:///bank.db` if that is not set) on the Ray of `BANK_RAY`: an address,
`auto` for the cluster of this machine; by default one that starts and ends with the application.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, Header, Path, Request

from holdfast.runtime import Runtime, Sharded
from holdfast.runtime.runtime import Opening

from .domain import Account
from .problems import answer_with_problems

__all__ = ["app", "make_app"]

Amount = Annotated[int, Body(embed=True, gt=0)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
Id = Annotated[str, Path(min_length=1)]


def opened() -> Opening:
    """The runtime of this process, as its environment says."""
    url = os.environ.get("BANK_JOURNAL", "sqlite:///bank.db")
    return Runtime.open(url, address=os.environ.get("BANK_RAY"), placement=Sharded(2))


def account_of(request: Request, id: Id, key: Key = None) -> Account:
    """The account of a request. Its key goes along: a command that is sent again with it acts once, whatever has died
    in between, and is answered as it was the first time."""
    runtime: Runtime = request.app.state.runtime
    return runtime.get(Account, id, idempotency_key=key, timeout_s=10)


TheAccount = Annotated[Account, Depends(account_of)]


def make_app(opening: Callable[[], Opening] = opened) -> FastAPI:
    """The application over the runtime that `opening` gives: a test gives one without Ray."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opening() as runtime:
            app.state.runtime = runtime
            yield

    app = FastAPI(title="Bank", lifespan=lifespan)
    answer_with_problems(app)

    @app.post("/accounts/{id}/deposits")
    async def deposit(account: TheAccount, amount: Amount) -> dict[str, int]:
        return {"balance": await account.pay_in(amount)}

    @app.post("/accounts/{id}/withdrawals")
    async def withdraw(account: TheAccount, amount: Amount) -> dict[str, int]:
        return {"balance": await account.pay_out(amount)}

    @app.get("/accounts/{id}")
    async def statement(account: TheAccount) -> dict[str, int]:
        return {"balance": await account.statement()}

    return app


app = make_app()
