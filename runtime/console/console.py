"""A console: what all its pages share, and how they answer.

Each page is a plain coroutine from a request to a response. Whatever it raises becomes a page too.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from holdfast.journal.subject import Log, Subject
from holdfast.runtime.inspection import Inspection

from .guard import Keys
from .onlooker import ABSENT, Onlooker, View
from .problems import told
from .rendering import rendered
from .source import Source

__all__ = ["Console", "Page", "answering", "console_of"]

log = Log(__name__)

Page = Callable[["Console", Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """`onlooker`: None where no cluster is to be looked at. `names`: of hosts under which it is reached, beside this
    machine's. `allow_changes`: whether it may do more than look."""

    source: Source
    onlooker: Onlooker | None = None
    keys: Keys = field(default_factory=Keys)
    names: Sequence[str] = ()
    allow_changes: bool = False

    async def look(self) -> Inspection:
        """The open journal. Raises `JournalOpenError`s, `JournalUnavailable`."""
        return await self.source.look()

    async def view(self) -> View:
        """The cluster, if there is one to look at."""
        return ABSENT if self.onlooker is None else await self.onlooker.view()

    def page(self, template: str, here: str = "", status: int = 200, **context: Any) -> Response:
        """A page of this console. `here`: the path of the part that it belongs to."""
        return rendered(
            template,
            status,
            here=here,
            journal=self.source.name,
            allow_changes=self.allow_changes,
            form_token=self.keys.form,
            cluster=self.onlooker is not None,
            **context,
        )


def console_of(request: Request) -> Console:
    """The one that a request is for."""
    console: Console = request.app.state.console
    return console


def answering(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """A page as Starlette wants it, that answers in any case."""

    async def answer(request: Request) -> Response:
        console = console_of(request)
        try:
            return await page(console, request)
        except Exception as error:  # of the journal, of the address, of ours: each has its page
            await console.source.failed(error)
            problem = told(error, journal=console.source.name)
            if problem.ours:
                log.error(Subject("console", request.url.path), "a page failed", exc_info=error)
            return console.page("problem.html", "", problem.status, title=problem.title, lines=problem.pieces)

    return answer
