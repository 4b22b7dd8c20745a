"""What the tests of faults share is imported by name: `hf_disk` and `hf_story` here, `reminder_fold` beside us."""

import sys
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).parent))
if (TESTS := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(TESTS)
set_hypothesis_home_dir(Path(__file__).parents[2] / ".pytest_cache" / "hypothesis")

from hf_disk import Disk  # noqa: E402

from holdfast.journal import sqlite_file  # noqa: E402


@pytest.fixture
def disk(monkeypatch):
    """A disk that fails on demand; the log moves into the file every few pages, so that this is met as well."""
    monkeypatch.setattr(sqlite_file, "_WAL_PAGES", 12)
    with Disk() as disk:
        yield disk
