"""Which database a read model is in.

    sqlite:///read.db                        a file of this machine
    postgres://ann@db.example/shop           the schema `public`, or `?schema=…`

As the URLs of journals are, see `JournalUrl`: with the same options, as far as they concern a database that is written
by one connection. A read model and a journal are never the same file.
"""

import inspect
from dataclasses import dataclass
from typing import Any, Self

from holdfast.journal.errors import JournalUrlError
from holdfast.journal.postgres_session import PostgresAddress
from holdfast.journal.sqlite_file import APPLICATION_ID
from holdfast.journal.url import JournalUrl

from .model import Model
from .model_errors import ReadModelConflict, ReadModelUrlError
from .model_postgres import PostgresModel
from .model_sqlite import SqliteModel

__all__ = ["ModelUrl"]

_POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True)
class ModelUrl:
    """A read model's URL, checked. `text`: whole and absolute, a password included."""

    url: JournalUrl

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a URL apart. Raises `ReadModelUrlError`, which shows no password."""
        try:
            url = JournalUrl.parse(text)
        except JournalUrlError as error:
            raise ReadModelUrlError(error.url, error.problem) from None
        model = {"sqlite": SqliteModel, "postgres": PostgresModel}.get(url.scheme)
        if model is None:
            raise ReadModelUrlError(url.redacted, "a read model outlives its process: sqlite:///… or postgres://…")
        known = {*inspect.signature(model).parameters, "host"}
        for option in url.options:
            if option not in known:
                raise ReadModelUrlError(url.redacted, f"{option!r} is an option of journals")
        return cls(url)

    @property
    def text(self) -> str:
        """For the process that is to open it."""
        return self.url.absolute()

    def __repr__(self) -> str:
        return f"<read model {self.url.redacted}>"

    def open(self) -> Model:
        """Connect. In the thread that is to use it. Raises `ReadModelUnavailable`, `ReadModelConflict`."""
        options: dict[str, Any] = dict(self.url.options)
        if self.url.is_local_file:
            model = SqliteModel(self.url.path, **options)
            if model.application_id() == APPLICATION_ID:
                model.close()
                raise ReadModelConflict(model.name, "that file is a journal; a read model has one of its own")
            return model
        address = PostgresAddress(
            host=options.pop("host", self.url.host),
            port=self.url.port or _POSTGRES_PORT,
            user=self.url.user,
            password=self.url.password,
            database=self.url.path,
        )
        return PostgresModel(self.url.redacted, address, **options)
