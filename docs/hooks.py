"""What MkDocs does not do by itself: pages point to files of the repository, which are not part of the site.

On GitHub and in an editor such a link opens the file. In the site it becomes its text; one to a file that is not there
is a warning, so the build fails.
"""

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)#]+)(#[^)]*)?\)")

log = logging.getLogger("mkdocs.hooks.repository")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs with each page before it is rendered."""
    folder = Path(page.file.abs_src_path).parent

    def shown(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(DOCS):
            return link[0]
        if not target.exists():
            log.warning("%s points to %s, which is not there", page.file.src_uri, link["target"])
        return link["text"]

    return LINK.sub(shown, markdown)
