"""What the commands that need a running cluster have in common: how they find it, and that they start none."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from .bystander import Bystander

__all__ = ["at_cluster", "cluster_if_named", "cluster_options"]

ADDRESS_VARIABLE, NAMESPACE_VARIABLE = "HOLDFAST_ADDRESS", "HOLDFAST_NAMESPACE"

_F = TypeVar("_F", bound=Callable[..., Any])


def cluster_options(function: _F) -> _F:
    """`--address` and `--namespace`, as all have them that need a cluster."""
    return _options("auto", "The Ray cluster; auto is the one on this machine. None is started. [auto; ")(function)


def cluster_if_named(purpose: str) -> Callable[[_F], _F]:
    """The same for what does without one, unless it is named."""
    return _options(None, f"{purpose}: auto, the one on this machine, or host:port. [")


def _options(address: str | None, words: str) -> Callable[[_F], _F]:
    named = click.option(
        "--address", metavar="ADDRESS", envvar=ADDRESS_VARIABLE, default=address, help=f"{words}{ADDRESS_VARIABLE}]"
    )
    namespace = click.option(
        "--namespace",
        metavar="NAME",
        envvar=NAMESPACE_VARIABLE,
        default="default",
        help=f"What the runtime was opened with. [default; {NAMESPACE_VARIABLE}]",
    )
    return lambda function: named(namespace(function))


def at_cluster(address: str, namespace: str, do: "Callable[[Bystander], Awaitable[None]]") -> None:
    """Join the cluster, do this, and leave it. Raises `NoCluster`, `NothingRuns`, and what it raises."""
    # Ray takes most of a second to import: who only reads a journal does not wait for it.
    opened: type[Bystander] = importlib.import_module(".bystander", __package__).Bystander

    async def run() -> None:
        async with await opened.open(address=address, namespace=namespace) as bystander:
            await do(bystander)

    asyncio.run(run())
