"""What the tests of the console share: a shop's journal, made once, and a console over it."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

HERE = Path(__file__).parent

for folder in (HERE, HERE.parent / "runtime"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
# For the hosts, which import the shop by its name, and inherit the variable from the first test that starts Ray.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(HERE)]))

import hf_shop  # noqa: E402

from holdfast.runtime.console import Console, Keys, Source, app_of  # noqa: E402


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> hf_shop.Shop:
    """A journal with orders, hostile names, a long stream and a damaged one."""
    return asyncio.run(hf_shop.make(tmp_path_factory.mktemp("shop")))


@pytest.fixture
def console(shop: hf_shop.Shop) -> Console:
    """Over the shop's journal, with its classes at hand, and no token."""
    return Console(source=Source(shop.url, hf_shop.CLASSES), keys=Keys(token=None))


@pytest.fixture
def client(console: Console) -> Iterator[TestClient]:
    """A caller of it, from this machine."""
    with TestClient(app_of(console), base_url="http://127.0.0.1:8765") as client:
        yield client
