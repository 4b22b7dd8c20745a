"""The console beside a real Ray cluster, in a process of its own, as a user starts it."""

import asyncio
import sys
import urllib.request

import hf_shop
import pytest
from hf_support import eventually

from holdfast.runtime import Runtime, Sharded


@pytest.mark.ray
async def test_a_console_sees_the_hosts_of_a_cluster_and_ends_nothing_there(tmp_path):
    """Hosts, what they hold, and the page of an aggregate; and when the console has gone, all goes on."""
    import ray

    url = f"sqlite:///{tmp_path}/ray.db"
    async with Runtime.open(url, placement=Sharded(2)) as runtime:
        stock = runtime.get(hf_shop.Stock, "Solaris")
        await stock.receive(3)
        command = ["holdfast.runtime.cli", "ui", url, "--address", ray.get_runtime_context().gcs_address]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, "--port", "0", "--no-token", stdout=asyncio.subprocess.PIPE
        )
        try:
            home = (await process.stdout.readline()).decode().split()[-1]

            def live() -> str:
                return urllib.request.urlopen(f"{home}live/now").read().decode()

            async def seen() -> str:
                page = await asyncio.to_thread(live)
                return page if "Stock#" in page else ""

            assert 'href="/stream?of=Stock%2FSolaris"' in await eventually(seen)
        finally:
            process.terminate()
            await process.wait()
        assert await stock.receive(4) == 7
