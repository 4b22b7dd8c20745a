"""A program for a test: the node that the journal lives on is lost, and a caller at another node goes on.

The journal's file is of the machine, not of the node. What was acknowledged before is still there, and the journal
comes up where its file is, although the only process that asks for it is a host, which opened nothing.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import ray

from holdfast.runtime import Config, Runtime, Sharded

from .processes import adopt_orphans, end_all_below, send
from .ray_nodes import HEAD, WORKERS, Nodes
from .workload import Counter

CONFIG = Config(timeout_s=60)
FIRST = "import sys; from tests.soak.node_loss import first; first(*sys.argv[1:])"


def joined(address: str, ip: str) -> None:
    """Join the cluster at one of its nodes."""
    ray.init(address=address, _node_ip_address=ip, log_to_driver=False, logging_level=logging.ERROR)


def opened(url: str) -> Any:
    """The journal, on the Ray that this process has joined."""
    return Runtime.open(url, placement=Sharded(1), config=CONFIG)


def first(address: str, url: str) -> None:
    """Start the journal from a worker node, and leave."""

    async def main() -> None:
        async with opened(url) as runtime:
            assert await runtime.get(Counter, "a").add(1, "first") == [1, 1]

    joined(address, WORKERS[0])
    asyncio.run(main())


async def goes_on(nodes: Nodes, url: str) -> None:
    """A caller at the head, whose journal's node is lost."""
    async with opened(url) as runtime:
        counter = runtime.get(Counter, "a")
        assert await counter.add(1, "second") == [2, 2]
        assert nodes.actors()["journal"].endswith(WORKERS[0]), "it is where it was started"
        send(signal.SIGKILL, nodes.processes(WORKERS[0]))
        assert await counter.add(1, "third") == [3, 3]
        assert [each.version async for each in runtime.read(Counter, "a")] == [1, 2, 3]


def main(folder: str) -> None:
    """The program: `folder` for the journal and for Ray."""
    adopt_orphans()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    url = f"sqlite:///{folder}/journal.db"
    code = 1
    try:
        nodes = Nodes(Path(folder) / "ray")
        subprocess.run([sys.executable, "-c", FIRST, nodes.address, url], check=True)
        joined(nodes.address, HEAD)
        asyncio.run(goes_on(nodes, url))
        print("it goes on", flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    end_all_below(os.getpid())
    sys.stderr.flush()
    os._exit(code)  # Ray's exit handlers would look for what has been ended


if __name__ == "__main__":
    main(sys.argv[1])
