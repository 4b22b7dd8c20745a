"""The journal that a console looks at: opened when somebody looks, and opened again when it was lost.

So a console starts before its journal does, tells with each page that there is none yet, and shows it as soon as there
is one.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from holdfast.actors.definition import definition_of
from holdfast.journal.errors import JournalError, JournalLost, JournalUnavailable
from holdfast.journal.url import JournalUrl
from holdfast.runtime.inspection import Inspection

__all__ = ["Source"]


class Source:
    """One journal, by its URL. `name`: the URL as it may be shown. `classes`: aggregate classes that are at hand."""

    def __init__(self, url: str, classes: Sequence[type] = ()) -> None:
        """Raises `JournalUrlError`."""
        self.url, self.classes = url, tuple(classes)
        self.name = JournalUrl.parse(url).redacted
        self._look: Inspection | None = None
        self._opening = asyncio.Lock()

    def class_of(self, category: str) -> type | None:
        """The class of a category, if it is at hand."""
        return next((cls for cls in self.classes if definition_of(cls).category == category), None)

    async def look(self) -> Inspection:
        """The open journal. Raises `JournalOpenError`s, `JournalUnavailable`."""
        async with self._opening:
            if self._look is None:
                self._look = await Inspection.open(self.url, self.classes)
            return self._look

    async def failed(self, error: Exception) -> None:
        """Have it opened anew for the next page, if that may help."""
        if isinstance(error, JournalUnavailable | JournalLost):
            await self.close()

    async def close(self) -> None:
        """Let go of it, for now or for good."""
        look, self._look = self._look, None
        if look is not None:
            with contextlib.suppress(JournalError):
                await look.close()
