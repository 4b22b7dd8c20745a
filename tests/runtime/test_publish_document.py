"""docs/publishing.md is true: its programs run as they stand."""

import asyncio
import re
from pathlib import Path

from hf_kafka import broker
from hf_nats import NatsServer, stored
from hf_webhooks import receiver

from holdfast.runtime import Runtime, Sharded

PAGE = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SECRET = b"a secret of thirty-two bytes, ok"


async def test_publish_the_programs_of_the_document_run_as_they_stand(tmp_path):
    """Each publisher of it, with what it says on the other side."""
    names = {"__name__": "publishing"}
    exec(compile("\n".join(PROGRAMS), "publishing.md", "exec"), names)
    nats = NatsServer(tmp_path / "nats")
    await asyncio.to_thread(nats.start)
    try:
        async with broker() as kafka, Runtime.local(placement=Sharded(1)) as runtime:
            with receiver(SECRET) as server:
                publishers = [
                    await names["to_kafka"](runtime, kafka.address),
                    await names["to_nats"](runtime, nats.url),
                    await names["to_server"](runtime, server.url, SECRET),
                    await names["to_anybody"](runtime, server.url, SECRET),
                ]
                await runtime.get(names["Account"], "alice").deposit(100)
                for publisher in publishers:
                    await runtime.wait_for(publisher)
                assert len(kafka.records) == len(await stored(nats.url, "bank")) == 1
                assert len(server.taken) == 2
                (one, _) = server.taken
                assert names["receive"](one.headers, one.body, SECRET) == one.events[0]["id"]
                for publisher in publishers:
                    await runtime.stop(publisher)
    finally:
        nats.end()
