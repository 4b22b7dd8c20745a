"""The Serve example on a real cluster, over HTTP on loopback. Run by `make serve-test`, in a venv of its own."""

import json
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from examples.serve_bank.deployment import bank_on  # noqa: E402

pytestmark = pytest.mark.ray


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A cluster of this machine's, and Serve on a free port of loopback."""
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=2,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    try:
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(bank_on(f"sqlite:///{tmp_path / 'bank.db'}", replicas=2))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def post(url: str, amount: int, key: str) -> Any:
    request = urllib.request.Request(
        url,
        data=json.dumps({"amount": amount}).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def replicas() -> list[str]:
    named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    return [each["name"] for each in named if each["namespace"] == "serve" and "Bank" in each["name"]]


def test_serve_replicas_share_aggregates_and_keys_also_when_one_dies(address: str) -> None:
    """Whichever replica a request reaches, it finds the one account; a key acts once, over the death of a replica."""
    url = f"{address}/accounts/alice/deposits"
    balances = [post(url, 1, f"slip-{n}")["balance"] for n in range(20)]
    assert balances == list(range(1, 21))
    assert len(replicas()) == 2
    ray.kill(ray.get_actor(replicas()[0], "serve"))
    assert [post(url, 1, f"slip-{n}")["balance"] for n in range(20)] == balances
