"""The types that users' editors rely on, as mypy strict and pyright strict see them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TYPES = ROOT / "tests" / "types"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy remembers of the library, from one run to the next."""
    return tmp_path_factory.mktemp("mypy")


def mypy_errors(file: Path, cache: Path) -> dict[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--config-file", "", str(file)],
        env={"MYPYPATH": str(TYPES), "PATH": ""},
        cwd=TYPES,
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found = re.findall(rf"{file.name}:(\d+): error: (.*)", ran.stdout)
    return {int(line): text for line, text in found}


def pyright_errors(file: Path, folder: Path) -> dict[int, str]:
    shutil.copy(file, folder)  # pyright looks only below its own folder
    settings = {"include": [file.name], "extraPaths": [str(TYPES)], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--project",
            str(folder),
            "--pythonpath",
            sys.executable,
            "--outputjson",
        ],
        capture_output=True,
        text=True,
    )
    report = json.loads(ran.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, "pyright has read nothing"
    return {d["range"]["start"]["line"] + 1: d["message"] for d in report["generalDiagnostics"]}


def marked(file: Path) -> set[int]:
    lines = enumerate(file.read_text().splitlines(), 1)
    return {number for number, line in lines if line.endswith("# error")}


def test_mypy_agrees_with_every_assert_type(cache: Path) -> None:
    """`await get(Account, "a").deposit(1)` is an int, for mypy."""
    assert mypy_errors(TYPES / "program.py", cache) == {}


def test_mypy_sees_every_mistake_and_no_other(cache: Path) -> None:
    """`deposit("x")` is an error, for mypy."""
    file = TYPES / "mistakes.py"
    assert mypy_errors(file, cache).keys() == marked(file)


def test_pyright_agrees_with_every_assert_type(tmp_path: Path) -> None:
    """`await get(Account, "a").deposit(1)` is an int, for pyright."""
    assert pyright_errors(TYPES / "program.py", tmp_path) == {}


def test_pyright_sees_every_mistake_and_no_other(tmp_path: Path) -> None:
    """`deposit("x")` is an error, for pyright."""
    file = TYPES / "mistakes.py"
    assert pyright_errors(file, tmp_path).keys() == marked(file)
