"""The import graph is a straight line: runtime -> actors -> journal. One file touches Ray, one aiosqlite."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["journal", "actors", "runtime"]  # lowest first: a file may import its own layer and those before it
SEAMS = {
    "ray": {"runtime/_ray.py"},
    "aiosqlite": {"journal/sqlite.py"},
    "asyncpg": {"journal/postgres_session.py", "runtime/model_postgres.py"},  # of journals, and of read models
    "cryptography": {"journal/cipher.py"},
    "zstandard": {"journal/compression.py"},
    "aiokafka": {"runtime/publish_kafka.py"},
    "nats": {"runtime/publish_nats.py"},
    "httpx2": {"runtime/publish_webhook.py"},
    "opentelemetry": {"journal/tracing.py"},
    "jinja2": {"runtime/console/rendering.py"},
    "uvicorn": {"runtime/console/serve.py"},
}

FILES = sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def imports(path: Path) -> Iterator[str]:
    """Every module named by an import in the file, function-local and TYPE_CHECKING ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno}: cross a package with its full name, not with dots"
            yield node.module or "" if node.level == 0 else ""


@each_file
def test_file_imports_only_its_own_layer_and_below(path: Path) -> None:
    """What is below never knows what is above."""
    layer = path.relative_to(ROOT).parts[0]
    within = path.parent.parent != ROOT  # inside a layer imports are relative, so never named; but in a package of it
    allowed = LAYERS[: LAYERS.index(layer) + within]
    above = [m for m in imports(path) if m.startswith("holdfast.") and m.split(".")[1] not in allowed]
    assert not above, f"{layer} may not import {above}"


@each_file
def test_only_the_seams_import_what_they_seal_off(path: Path) -> None:
    """Ray and the drivers can be replaced, simulated or left out by changing one file each; two for PostgreSQL."""
    tops = {m.split(".")[0] for m in imports(path)}
    for package, seams in SEAMS.items():
        if str(path.relative_to(ROOT)) not in seams:
            assert package not in tops


@each_file
def test_no_first_party_import_hides_in_a_function(path: Path) -> None:
    """A lazy import is a cycle in disguise."""
    hidden = [
        f"line {inner.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom) and (inner.level or (inner.module or "").startswith("holdfast"))
    ]
    assert not hidden


def test_every_package_ships_its_types() -> None:
    """Each package has its `py.typed`, and there is no fourth package that nobody packaged."""
    assert {p.parent.name for p in ROOT.glob("*/py.typed")} == set(LAYERS)
