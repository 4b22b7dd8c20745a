"""Writes the golden journals of this release: `python -m tests.golden`.

One file for SQLite and one dump for PostgreSQL, each with what this release sees in it beside it, named by the format.
Those of a format that has been released are never written again: that is what they are for. To be run once for each new
format, by the release that brings it; `git add` what it wrote.
"""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from .story import happen, told

FOLDER = Path(__file__).parent
SCHEMA = "golden_journal"


def write_sqlite() -> Path:
    """A journal in a file, whole: closed, so that nothing of it is in a log beside it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "golden.db"
        seen = _happened(f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as raw:
            (format,) = raw.execute("PRAGMA user_version").fetchone()
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target = _free(f"sqlite-{format}.journal")
        shutil.copyfile(file, target)
    _beside(target, seen)
    return target


def write_postgres() -> Path:
    """A dump of a journal's schema, as statements."""
    sys.path.append(str(FOLDER.parent))
    import postgres_server

    server = postgres_server.server()
    seen = _happened(server.url(SCHEMA))
    dump = subprocess.run(
        ["pg_dump", f"--host={server.folder}", f"--port={server.port}", f"--username={postgres_server.USER}",
         f"--schema={SCHEMA}", "--inserts", "--no-owner", "--no-privileges", postgres_server.DATABASE],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    kept = [line for line in dump.splitlines() if not line.startswith(("SET ", "--", "\\")) and line]
    format = _format_of(dump)
    target = _free(f"postgres-{format}.sql")
    target.write_text("\n".join(kept) + "\n")
    _beside(target, seen)
    return target


def _format_of(dump: str) -> int:
    (row,) = [line for line in dump.splitlines() if line.startswith(f"INSERT INTO {SCHEMA}.journal ")]
    values = row.partition("VALUES (")[2].split(", ")
    return int(values[2].rstrip(");"))


def _happened(url: str) -> dict[str, Any]:
    asyncio.run(happen(url))
    return asyncio.run(told(url))


def _free(name: str) -> Path:
    target = FOLDER / name
    if target.exists():
        raise SystemExit(f"{name} is there: a format that was released is not written again")
    return target


def _beside(target: Path, seen: dict[str, Any]) -> None:
    text = json.dumps(seen, indent=1, ensure_ascii=True, sort_keys=True)
    target.with_name(f"{target.name}.json").write_text(text + "\n")


if __name__ == "__main__":
    for write in (write_sqlite, write_postgres):
        print(f"wrote {write().relative_to(FOLDER.parent.parent)}")
