"""What is told of commands with personal data, in spans, log lines and metrics: which and how long, and no value."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hf_people import SECRET, Greeter, People, Person
from hf_support import eventually
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdfast.actors import DeadlineExceeded, NotSerializable
from holdfast.journal import tracing
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.logs import JsonFormatter


@pytest.fixture(autouse=True)
def traces_end() -> Iterator[None]:
    """With the test, also where it fails."""
    yield
    tracing.stop()


async def test_no_personal_value_is_in_a_span_a_log_line_or_a_metric(tmp_path: Path, caplog: Any) -> None:
    """Of commands that are done, refused, slow and given up; of snapshots, followers and forgetting; at every level."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    caplog.set_level(logging.DEBUG, "holdfast")
    config = Config(tracing=True, slow_command_s=0.02, timeout_s=0.3, compress_from=64)
    url, keys = f"sqlite:///{tmp_path / 'people.db'}", f"sqlite:///{tmp_path / 'keys.db'}"
    async with Runtime.local(url, keys=keys, config=config, placement=Sharded(1)) as runtime:
        tracing.tracer = provider.get_tracer("holdfast")  # not the process's: other tests have theirs
        await runtime.start(Greeter)
        await runtime.start(People, f"sqlite:///{tmp_path / 'read.db'}")
        person = runtime.get(Person, "7", metadata={"by": "import"})
        for _ in range(4):
            await person.register(SECRET, "Paris")
        await runtime.get(Person, "7", idempotency_key="once").note("ann", SECRET)
        for refused in (person.note("", SECRET), person.note(["ann"], SECRET), person.note("a\nb", SECRET)):
            with pytest.raises(NotSerializable) as caught:
                await refused
            assert SECRET not in str(caught.value)
        with pytest.raises(DeadlineExceeded) as late:
            await person.wait(SECRET)
        assert SECRET not in str(late.value)
        await eventually(lambda: any(each.name.endswith("watchdog") for each in caplog.records))
        await runtime.wait_for(Greeter)
        await runtime.wait_for(People)
        measured = [msgspec.to_builtins(each) for each in await runtime.metrics()]
        statistics = repr(await runtime.statistics())
        await runtime.passivate(Person, "7")
        await runtime.forget("customer", "7")
    spans = [span.to_json() for span in kept.get_finished_spans()]
    lines = [JsonFormatter().format(each) for each in caplog.records]
    assert spans
    assert lines
    for told in (*spans, *lines, json.dumps(measured, default=str), statistics):
        assert SECRET not in told
