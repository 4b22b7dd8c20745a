"""The console on a journal with personal data: it has no keys, says whose a value is, and no page fails for it."""

import asyncio
from pathlib import Path

import pytest
from hf_people import SECRET, Person
from starlette.testclient import TestClient
from test_ui_pages import get, text_of

from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.console import Console, Keys, Source, app_of


@pytest.mark.parametrize("compress_from", [0, 64])
def test_personal_data_is_shown_by_whose_it_is_and_is_blank_in_states(tmp_path: Path, compress_from: int) -> None:
    """In the timeline, on an event's own page, and after it was forgotten; what is not personal is shown."""
    url, keys, city = f"sqlite:///{tmp_path / 'people.db'}", f"sqlite:///{tmp_path / 'keys.db'}", "Turin " * 20

    async def made() -> None:
        config = Config(compress_from=compress_from)
        async with Runtime.local(url, keys=keys, config=config, placement=Sharded(1)) as runtime:
            await runtime.get(Person, "7").register(SECRET, city)
            await runtime.get(Person, "7").note("ann", SECRET * 10)
            await runtime.forget("customer", "7")

    asyncio.run(made())
    console = Console(source=Source(url, (Person,)), keys=Keys(token=None))
    with TestClient(app_of(console), base_url="http://127.0.0.1:8765") as client:
        first, second = (text_of(get(client, "/stream", of="Person/7", version=version)) for version in (1, 2))
        assert "name <personal: customer 7>" in first
        assert "Personal data is blank here" in first
        assert city.strip() in first
        assert "text <personal: author ann>" in second
        assert "notes" in second
        assert "(removed)" in second
        assert "<personal: customer 7>" in text_of(get(client, "/event", at="0:1"))
        assert "holdfast.forgotten" in text_of(get(client, "/events"))
        assert "generation 1" in text_of(get(client, "/stream", of="holdfast.privacy/customer/7"))
