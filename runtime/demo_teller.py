"""The process that the built-in demo kills: it pays in, many deposits at once, and says what was acknowledged.

`python -m holdfast.runtime.demo_teller URL FIRST`: deposits FIRST, FIRST + 1 … each with an idempotency key of its own.
It goes on until it is killed, or until whoever reads what it prints has gone.
"""

import asyncio
import itertools
import sys

from .demo import deposit
from .demo_bank import Account
from .runtime import Runtime

__all__ = ["main", "serve"]

IN_FLIGHT = 50


async def serve(url: str, first: int) -> None:
    """Pay in for ever. A line for each acknowledged deposit: its number and the balance after it."""
    numbers = itertools.count(first)
    async with Runtime.local(url) as runtime:
        print("ready", flush=True)

        async def teller() -> None:
            for number in numbers:
                made = deposit(number)
                account = runtime.get(Account, made.account, idempotency_key=made.key)
                print(number, await account.deposit(made.amount), flush=True)

        await asyncio.gather(*(teller() for _ in range(IN_FLIGHT)))


def main() -> None:
    """For `python -m`."""
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
