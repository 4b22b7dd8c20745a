"""The cluster: three nodes on this machine, each with a loopback address of its own, as if it were a machine.

The head keeps Ray's own records (its GCS), so it goes only with everything. Processes are found in Ray's table of
actors, and below the raylets that were started here.
"""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import ray._private.services as services
import ray._private.utils as utils
from ray.cluster_utils import Cluster

from .processes import below, is_running, send

__all__ = ["NAMESPACE", "Nodes"]

NAMESPACE = "soak"
HEAD, WORKERS = "127.0.0.11", ("127.0.0.12", "127.0.0.13")
OBJECT_STORE_BYTES = 80 << 20
UP_S = 60.0

# A node that does not answer Ray for about four seconds is dead to it; its own default is half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """A cluster that is up. `folder`: where Ray puts its session."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        address_file = Path(utils.get_ray_address_file(None))
        before = address_file.read_text() if address_file.exists() else None
        self._cluster = Cluster(shutdown_at_exit=False)
        self._cluster.add_node(
            num_cpus=1,
            include_dashboard=False,
            temp_dir=str(folder),
            node_ip_address=HEAD,
            object_store_memory=OBJECT_STORE_BYTES,
            _system_config=HEALTH,
        )
        _put_back(address_file, before)
        self._workers = {ip: self._add(ip) for ip in WORKERS}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def ips(self) -> list[str]:
        """Of the nodes that are up, the head's first."""
        return [HEAD, *(ip for ip, node in self._workers.items() if is_running(_raylet(node)))]

    def worker_ips(self) -> list[str]:
        """Of those that may be lost."""
        return self.ips()[1:]

    def mend(self) -> list[str]:
        """Start those anew that are down. Returns their addresses."""
        down = [ip for ip, node in self._workers.items() if not is_running(_raylet(node))]
        for ip in down:
            old = self._workers[ip]
            with contextlib.suppress(Exception):
                _process(old).wait(timeout=5)
            self._cluster.worker_nodes.discard(old)
            self._workers[ip] = self._add(ip)
        return down

    def processes(self, ip: str) -> list[int]:
        """The raylet of a worker node and everything that it started."""
        raylet = _raylet(self._workers[ip])
        return [raylet, *below(raylet)]

    def residents(self) -> dict[str, int]:
        """Hosts and journal that are up, by name: their processes."""
        actors = self._cluster.global_state.actor_table(None, actor_state_name="ALIVE")
        found = {actor["Name"]: actor["Pid"] for actor in actors.values() if actor["Name"]}
        ours = below(os.getpid())
        return {name: pid for name, pid in found.items() if pid in ours}

    def actors(self) -> dict[str, str]:
        """All that Ray does not take for dead, by name: in what state."""
        actors = self._cluster.global_state.actor_table(None).values()
        return {
            actor["Name"]: f"{actor['State']} pid {actor['Pid']} at {actor['Address']['IPAddress']}"
            for actor in actors
            if actor["State"] != "DEAD" and actor["Name"]
        }

    def end(self) -> None:
        """Everything at once, as when the power fails."""
        nodes = [self._cluster.head_node, *self._workers.values()]
        raylets = [
            pid for node in nodes for kind in node.all_processes.values() for pid in (p.process.pid for p in kind)
        ]
        everything = {pid for raylet in raylets for pid in (raylet, *below(raylet))}
        send(signal.SIGKILL, everything)
        give_up = time.monotonic() + UP_S
        while any(map(is_running, everything)) and time.monotonic() < give_up:
            time.sleep(0.02)
        self._cluster.global_state.disconnect()

    def _add(self, ip: str) -> Any:
        return self._cluster.add_node(num_cpus=1, node_ip_address=ip, object_store_memory=OBJECT_STORE_BYTES)


def _process(node: Any) -> Any:
    return node.all_processes["raylet"][0].process


def _raylet(node: Any) -> int:
    return int(_process(node).pid)


def _put_back(path: Path, before: str | None) -> None:
    """The note by which `address="auto"` finds a cluster: this one is not for anybody else."""
    if before is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(before)
    services.find_gcs_addresses.cache_clear()
