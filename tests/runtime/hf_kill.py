"""A projection over a journal file, in a process that a test kills: says each step on stdout before it takes it."""

import asyncio
import sys

from hf_project import Balances, Ledger, faulty, following

from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions


async def main(journal: str, url: str, page: int) -> None:
    store = SqliteStore(journal, SqliteOptions(lock_wait_s=30.0))
    ledger = Ledger(stores=[store])
    await ledger.links[0].server.start()
    say = sys.stdout
    async with following(
        ledger, Balances, url, page=page, connect=faulty(url, lambda step: print(step, file=say, flush=True))
    ) as run:
        await run.reach()
        print("reached", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
