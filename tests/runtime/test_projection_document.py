"""docs/projections.md is true: its programs run as they stand."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.runtime import Runtime, Sharded

PAGE = (Path(__file__).parents[2] / "docs" / "projections.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_the_programs_of_the_document_about_projections_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader would paste them into one file; and the table has what it says."""
    monkeypatch.chdir(tmp_path)
    assert len(PROGRAMS) == 3
    names: dict[str, Any] = {"__name__": "projections"}
    exec(compile("\n".join(PROGRAMS), "projections.md", "exec"), names)
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await names["follow"](runtime)
        with closing(sqlite3.connect(tmp_path / "read.db")) as model:
            assert model.execute("SELECT id, balance FROM balances").fetchall() == [("alice", 5)]
            model.execute("UPDATE balances SET balance = 0")
            model.commit()
            await names["rebuild"](runtime)
            assert model.execute("SELECT id, balance FROM balances").fetchall() == [("alice", 5)]
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 of 1")
