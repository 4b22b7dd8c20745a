"""The pages are true: their programs run as they stand, and their commands, links and pictures exist."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from hf_pages import DOCS, PAGES, ROOT, blocks, commands, is_test, printed, programs, source, write_files

from holdfast.runtime.cli import cli

NOT_RUN = {"cluster.md": 1}
"""Blocks of a page that are not run; each says why in its page."""

ON_RAY = {"guide.md"}
"""Pages whose programs start Ray: they are run in a process of their own, and marked."""

LANGUAGES = {"python", "output", "console", "text", "sql", "yaml", "toml", "json", "promql", "ini", "diff"}
EXAMPLES = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("examples/*/README.md"))]
each_page = pytest.mark.parametrize("page", PAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page) and page not in ON_RAY])
def test_docs_the_programs_of_a_page_run_as_they_stand(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader would paste them into one file, and they print what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT), *sys.path])
    module = ModuleType(re.sub(r"\W", "_", page))
    monkeypatch.setitem(sys.modules, module.__name__, module)  # some look their classes' modules up
    before = set(sys.modules)
    write_files(page, tmp_path)
    try:
        exec(compile(source(page), str(PAGES[page]), "exec"), module.__dict__)
    finally:
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
                del sys.modules[name]
    said = printed(page)
    if said is not None:
        assert capsys.readouterr().out == said


@pytest.mark.ray
def test_docs_the_programs_of_the_guide_run_as_they_stand(tmp_path: Path) -> None:
    """One after the other, as a reader would paste them into one file."""
    (tmp_path / "guide.py").write_text(source("guide.md"))
    ran = subprocess.run(
        [sys.executable, "guide.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if re.match(r"\d|ann ", line)]  # Ray may speak among them
    assert lines[:3] == ["100", "ann has 12.50", "7.50 7.50"], ran.stdout
    assert lines[-5].startswith("12.50 "), ran.stdout
    assert lines[-4] == "101"
    assert [line.split(maxsplit=1)[1] for line in lines[-3:]] == [
        f"alice Deposited(amount={amount})" for amount in (100, 1, 1)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_test, blocks(page)))])
def test_docs_the_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    """By a pytest of their own, with the fixtures that Holdfast brings."""
    tests = write_files(page, tmp_path)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, tests)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    count = sum(len(re.findall(r"^(?:async )?def test_", test.read_text(), re.MULTILINE)) for test in tests)
    assert ran.stdout.splitlines()[-1].startswith(f"{count} passed"), ran.stdout


def test_docs_every_block_that_is_not_run_is_counted() -> None:
    """Whoever adds one that cannot run says so here, too; it must at least be Python."""
    skipped = {page: [each for each in blocks(page) if each.language == "python" and not each.run] for page in PAGES}
    assert {page: len(found) for page, found in skipped.items() if found} == NOT_RUN
    for found in skipped.values():
        for block in found:
            compile(block.body, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@each_page
def test_docs_every_block_says_what_it_is(page: str) -> None:
    """One without a language, or with another, would be checked by nobody."""
    assert {each.language for each in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_docs_the_commands_of_a_page_exist(page: str) -> None:
    """Targets of make, commands of `holdfast`, modules, files of the page: nothing that a reader types is not there."""
    files = {each.title for each in blocks(page) if each.title}
    for line in commands(page):
        for command in re.split(r"\s*(?:&&|\||;|&)\s*", line.rstrip("&")):
            check_command(command, files)


def check_command(command: str, files: set[str]) -> None:
    words = [word for word in shlex.split(command, comments=True) if not re.fullmatch(r"\w+=.*", word)]
    if not words:
        return
    program, *rest = words
    arguments = [word for word in rest if not word.startswith("-")]
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    elif program == "holdfast":
        assert arguments[0] in cli.commands, command
    elif program in ("python", "python3") and "-m" in rest:
        assert importlib.util.find_spec(arguments[0]) is not None, command
    elif program in ("python", "python3"):
        assert arguments[0] in files, command
    elif program == "pytest":
        assert set(arguments) <= files, command
    elif program in ("uvicorn", "serve"):
        module, _, name = arguments[-1].partition(":")
        assert re.search(rf"^{name}\b.*=", (ROOT / f"{module.replace('.', '/')}.py").read_text(), re.MULTILINE), command
    else:
        assert program in {
            "pip",
            "ray",
            "curl",
            "tail",
            "cat",
            "cd",
            "export",
            "kill",
            "until",
            "do",
            "done",
            ".",
            "git",
            "rm",
            "jupyter",
        } or (shutil.which(program)), command


def test_docs_a_command_that_is_not_there_is_found() -> None:
    """The check is not blind."""
    for command in ("make nothing", "holdfast nothing x", "python -m examples.nothing", "python nothing.py"):
        with pytest.raises(AssertionError):
            check_command(command, {"bank.py"})


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES])
def test_docs_each_link_leads_somewhere(page: str) -> None:
    """Pages, anchors in them, pictures, files of the repository."""
    path = PAGES.get(page, ROOT / page)
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), link


def anchors(page: Path) -> set[str]:
    """As MkDocs makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("picture", sorted(path.name for path in DOCS.glob("images/*.svg")))
def test_docs_each_picture_is_used_and_whole(picture: str) -> None:
    """It is well-formed, has a title for those who cannot see it, loads nothing, and stands in some page."""
    text = (DOCS / "images" / picture).read_text()
    root = ElementTree.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert not re.search(r"(href|src)\s*=|url\((?!#)", text)
    assert any(picture in path.read_text() for path in PAGES.values())


def test_docs_the_navigation_names_every_page() -> None:
    """A page that nobody can reach is one that nobody reads."""
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == set(PAGES)


def test_docs_every_concept_has_a_picture_and_a_program() -> None:
    """One page per promise: what it means, a picture, and a program that shows it."""
    concepts = [page for page in PAGES if page.startswith("concepts/") and not page.endswith("index.md")]
    assert len(concepts) >= 7
    for page in concepts:
        assert programs(page), page
        assert printed(page), page
        assert ".svg" in PAGES[page].read_text(), page


def test_docs_quote_no_figure_that_was_not_measured() -> None:
    """A rate or a ratio in a page of the design stands in the record of the benchmarks, to the digit."""
    measured = (ROOT / "benchmarks" / "README.md").read_text() + (ROOT / "README.md").read_text()
    for page in ("design.md", "howto/sizing.md"):
        for figure in re.findall(r"\d+,\d{3}(?:,\d{3})*/s|\d+(?:\.\d+)? x\b", PAGES[page].read_text()):
            assert figure in measured or figure.replace("/s", " /s") in measured, f"{page}: {figure}"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_docs_every_command_is_in_the_page_of_the_command_line(name: str) -> None:
    """In its table, so that nobody has to find it by chance."""
    table = PAGES["cli.md"].read_text().split("| to look | |")[1].split("\n\n")[0]
    assert re.search(rf"^\|.*`{name}[ `]", table, re.MULTILINE)
