"""Rendering: the one environment of templates. Everything that is put into a page is escaped, `Markup` alone is not,
and only `shown` makes any of content. A name that a template misspells is an error, not a hole in the page."""

from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from . import addresses, shown

__all__ = ["FOLDER", "rendered"]

FOLDER = Path(__file__).parent

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    text=shown.text,
    plain=shown.plain,
    inline=shown.inline,
    moment=shown.moment,
    size=shown.size,
    brief=shown.brief,
)
_environment.tests["there"] = lambda value: value is not msgspec.UNSET  # one side of a `Difference`
_globals: dict[str, Any] = {
    "address": addresses.with_query,
    "event_at": addresses.event_at,
    "stream_at": addresses.stream_at,
}
_environment.globals.update(_globals)


def rendered(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, or a piece of one."""
    return HTMLResponse(_environment.get_template(template).render(**context), status_code=status)
