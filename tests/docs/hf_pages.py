"""The pages of `docs/`, as their tests read them: blocks of code, and what is said of them.

A fenced `python` block is run, the blocks of a page one after the other in one namespace; `output` blocks say what they
print. A block with a `title` is a file, which later blocks and `console` blocks use; tests (`test_….py`) are run by
pytest. What cannot be run has a comment before it:

    <!-- not run: it joins a cluster -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}

FENCE = re.compile(
    r"(?P<reason><!-- not run: [^\n]+ -->\n+)?^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `title`: the file that it is; `line`: where in the page it begins."""

    language: str
    body: str
    title: str
    line: int
    run: bool


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in order."""
    return list(_blocks(PAGES[page].read_text()))


def _blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        title = TITLE.search(found["info"])
        yield Block(
            language=found["language"],
            body=found["body"],
            title=title[1] if title else "",
            line=text[: found.start("language")].count("\n") + 2,
            run=found["reason"] is None,
        )


def programs(page: str) -> list[Block]:
    """What of a page is run."""
    return [each for each in blocks(page) if each.language == "python" and each.run and not is_test(each)]


def is_test(block: Block) -> bool:
    """It is a module of tests."""
    return block.title.startswith("test_")


def write_files(page: str, folder: Path) -> list[Path]:
    """The files that a page has its reader save; those of them that are tests."""
    files = [each for each in blocks(page) if each.title]
    for each in files:
        (folder / each.title).write_text(each.body)
    return [folder / each.title for each in files if is_test(each)]


def source(page: str) -> str:
    """Those as one program, each at its line of the page, so that a traceback points into it."""
    text = ""
    for block in programs(page):
        text += "\n" * (block.line - 1 - text.count("\n")) + block.body
    return text


def printed(page: str) -> str | None:
    """What the page says that they print; None where it says nothing."""
    said = [each.body for each in blocks(page) if each.language == "output"]
    return "".join(said) if said else None


def commands(page: str) -> list[str]:
    """The commands in the `console` blocks of a page that are run by a reader in a shell."""
    lines = [line for each in blocks(page) if each.language == "console" for line in each.body.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
