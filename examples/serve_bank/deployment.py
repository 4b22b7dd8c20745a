"""The deployment: each replica is a process of the cluster with a runtime in it, all on one journal.

    serve run examples.serve_bank.deployment:bank

A replica joins the cluster that it is part of, so its runtime starts no Ray and ends none: hosts and journal are named
actors beside the replicas, which come and go. A request may reach any replica; its aggregate lives in one place, and a
key that one replica has used is known to all, since it is the journal that knows it.

With SQLite the journal's actor stays on the node of the replica that opened it first: see docs/cluster.md.
"""

import os
from typing import Any

from fastapi import FastAPI
from ray import serve

from examples.fastapi_bank.app import make_app
from holdfast.runtime import Runtime, Sharded
from holdfast.runtime.runtime import Opening

__all__ = ["bank", "bank_on"]


def bank_on(url: str, replicas: int = 2) -> Any:
    """The application over the journal at `url`, to be given to `serve.run`."""

    def opened() -> Opening:
        return Runtime.open(url, namespace="bank", placement=Sharded(2))

    def asgi() -> FastAPI:
        return make_app(opened)  # made in the replica: its lifespan opens the runtime there, in the replica's loop

    deployment = serve.deployment(num_replicas=replicas, ray_actor_options={"num_cpus": 0})(serve.ingress(asgi)(Bank))
    return deployment.bind()


class Bank:
    """The application answers everything by itself."""


bank = bank_on(os.environ.get("BANK_JOURNAL", f"sqlite:///{os.path.abspath('bank.db')}"))
