"""Problems, as pages: what happened, where, and what to do about it. Never a bare traceback, never a blank page."""

from starlette.responses import Response

from holdfast.actors.errors import HydrationFailed
from holdfast.journal.errors import (
    CodecError,
    CorruptRecord,
    HoldfastError,
    JournalBusy,
    JournalOpenError,
    JournalUnavailable,
    JournalUrlError,
)
from holdfast.runtime.errors import NoSuchFollower

from .addresses import BadAddress
from .rendering import rendered

__all__ = ["NoSuchThing", "Refused", "refusal", "told"]


class Refused(Exception):
    """A page that says no. `lines`: why, and what to do; what stands there in backticks is shown as code. `ours`: it is
    a fault of the console, whose traceback is worth keeping."""

    ours = False

    def __init__(self, status: int, title: str, *lines: str) -> None:
        super().__init__(status, title, *lines)
        self.status, self.title, self.lines = status, title, lines

    @property
    def pieces(self) -> list[list[str]]:
        """Of each line: text, code, text …"""
        return [line.split("`") for line in self.lines]


class Failed(Refused):
    """Nobody thought of this."""

    ours = True


class NoSuchThing(Refused):
    """There is no such stream, or event, in the journal."""

    def __init__(self, title: str, *lines: str) -> None:
        super().__init__(404, title, *lines)
        self.args = (title, *lines)


def refusal(problem: Refused) -> Response:
    """The page, for whoever is not let in: it shows nothing of the console."""
    return rendered("problem.html", problem.status, title=problem.title, lines=problem.pieces, journal=None)


def told(error: Exception, *, journal: str) -> Refused:
    """What a page says of an error."""
    match error:
        case Refused():
            return error
        case BadAddress():
            return Refused(400, "No page has this address", str(error))
        case JournalUnavailable() | JournalBusy():
            return Refused(503, "The journal does not answer", str(error), *_UNAVAILABLE)
        case JournalOpenError() | JournalUrlError():
            return Refused(503, "The journal cannot be opened", str(error), *_UNAVAILABLE)
        case CorruptRecord():
            return Refused(500, "The journal is damaged here", str(error), *_damaged(journal))
        case HydrationFailed() | CodecError():
            return Refused(500, "This cannot be read", str(error), *_damaged(journal))
        case NoSuchFollower():
            return Refused(404, "There is no such follower", str(error))
        case TimeoutError():
            return Refused(504, "No answer in time", "It may have happened, or happen yet: look again in a while.")
        case HoldfastError():
            return Refused(500, "That did not work", str(error))
        case _:
            return Failed(500, "The console failed", f"{type(error).__name__}: {error}", _OUR_BUG)


_UNAVAILABLE = (
    "Is the file, or the database server, where the URL says, and may this user read it?",
    "The console asks again with every page: reload this one when the journal is back.",
)
_OUR_BUG = "That is a fault of the console, and no harm to the journal: it was only read. Its log has the traceback."


def _damaged(journal: str) -> tuple[str, ...]:
    return (
        f"`holdfast verify {journal}` looks at the whole journal and names each place that is damaged.",
        "Other streams are not touched by it. A backup holds what stood here.",
    )
