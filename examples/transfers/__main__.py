"""Transfers between accounts while everything is killed at random: no money is made or lost.

    python -m examples.transfers [--seed N] [--transfers N] [--seconds N]

Ends with 0 if every transfer is done, refused or compensated and the books are right, with 1 if not.
"""

import argparse
import asyncio
import contextlib
import io
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.actors import Aggregate
from holdfast.runtime import FollowerStatistics, Placement, Runtime, Sharded

from .domain import Account, Branch, Stage, Transfers
from .fold import Books, fold
from .sabotage import sabotage

PLACEMENT: Mapping[type[Aggregate], Placement] = {
    Account: Sharded(2, live_max=1_000),
    Transfers: Sharded(2, live_max=1_000),
    Branch: Sharded(1),
}
ACCOUNTS, CLOSED, BALANCE = 20, 3, 300
KILL_EVERY_S = (0.5, 2.0)
POLL_S, PATIENCE_S = 0.2, 90.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. 0: the books are right."""
    parser = argparse.ArgumentParser(prog="python -m examples.transfers", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, metavar="N", help="of accounts, amounts and kills (default: by chance)")
    parser.add_argument("--transfers", type=int, default=400, metavar="N", help="how many are ordered (default: 400)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="over which time (default: 20)")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transfers.db"
        started = time.perf_counter()
        kills, seen = asyncio.run(demonstrate(path, random.Random(seed), options.transfers, options.seconds))
        show(fold(path), kills, seen, time.perf_counter() - started)
        books = fold(path)
    return 0 if not books.problems and books.ordered == options.transfers else 1


async def demonstrate(
    path: Path, chance: random.Random, transfers: int, seconds: float
) -> tuple[list[str], FollowerStatistics]:
    """Order transfers while processes die, and wait until each has come to its end."""
    kills: list[str] = []
    out = sys.stdout

    def tell(what: str) -> None:
        kills.append(what)
        print(what, file=out, flush=True)

    # Ray prints, to stdout, that processes die, which is the point here.
    with contextlib.redirect_stdout(io.StringIO()):
        async with Runtime.open(f"sqlite:///{path}", placement=PLACEMENT) as runtime:
            await _open_accounts(runtime)
            await runtime.start(Transfers)
            saboteur = asyncio.create_task(sabotage(random.Random(chance.random()), tell, every_s=KILL_EVERY_S))
            await _order(runtime, chance, transfers, seconds)
            saboteur.cancel()
            await asyncio.wait({saboteur})
            await _all_ended(runtime, transfers)
            seen = {each.name: each for each in (await runtime.statistics()).followers}
    return kills, seen["reaction/transfers.Transfer"]


def show(books: Books, kills: list[str], seen: FollowerStatistics, took: float) -> None:
    """Say what came of it."""
    print(f"{len(kills)} processes killed, {books.events} events, {books.expired} time-outs, {took:.0f} s")
    print(f"the reaction's follower, in its life number {seen.epoch}: {seen.events} events, {seen.errors} errors")
    print(f"{books.ordered} transfers: " + ", ".join(f"{n} {what}" for what, n in sorted(books.outcomes.items())))
    print("not done because an account or a transfer " + ", ".join(f"{w}: {n}" for w, n in books.reasons.items()))
    print(f"money: {books.opened} at the start, {books.held} at the end")
    for problem in books.problems:
        print(f"WRONG: {problem}")


async def _open_accounts(runtime: Runtime) -> None:
    accounts = [runtime.get(Account, f"account-{n}", idempotency_key="open") for n in range(ACCOUNTS)]
    await asyncio.gather(*(account.open(BALANCE) for account in accounts))
    closing = [runtime.get(Account, f"account-{n}", idempotency_key="close") for n in range(CLOSED)]
    await asyncio.gather(*(account.close() for account in closing))


async def _order(runtime: Runtime, chance: random.Random, transfers: int, seconds: float) -> None:
    """Each with a key of its own: whatever dies under an order, it is one order."""
    async with asyncio.TaskGroup() as group:
        for n in range(transfers):
            source, to = chance.sample(range(ACCOUNTS), 2)
            branch = runtime.get(Branch, f"branch-{n % 3}", idempotency_key=f"order-{n}", timeout_s=PATIENCE_S)
            amount = chance.randint(1, 60)
            group.create_task(_sent(branch, f"transfer-{n}", f"account-{source}", f"account-{to}", amount))
            await asyncio.sleep(seconds / transfers)


async def _sent(branch: Branch, transfer: str, source: str, to: str, amount: int) -> None:
    await branch.order(transfer, source, to, amount)


async def _all_ended(runtime: Runtime, transfers: int) -> None:
    left = [f"transfer-{n}" for n in range(transfers)]
    async with asyncio.timeout(PATIENCE_S):
        while left:
            stages = await asyncio.gather(
                *(runtime.get(Transfers, id, timeout_s=PATIENCE_S).stage_now() for id in left)
            )
            left = [id for id, stage in zip(left, stages, strict=True) if stage not in (Stage.DONE, Stage.FAILED)]
            await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main())
