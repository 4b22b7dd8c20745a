"""Whether the index of names tells the truth about a stream.

SQLite answers a look-up by name from the index alone, and the index has no checksum of its own. An entry that leads
to another stream is caught by that one's events, whose checksums hold its name; one that leads to a stream without
events would make a full stream look empty.
"""

import sqlite3

from .records import StreamId

__all__ = ["MISLED", "is_named"]

MISLED = "the index of names, which is damaged, leads elsewhere"
"""What is said of a stream when `is_named` is False."""

# NOT INDEXED: by key, in the tables themselves. The indexes hold every column, and they are what is in doubt.
_SELECT_NAMED = (
    "SELECT 1 FROM streams AS s NOT INDEXED CROSS JOIN categories AS c NOT INDEXED"
    " WHERE s.key = ? AND c.key = s.category AND c.name = ? AND s.id = ?"
)


def is_named(connection: sqlite3.Connection, key: int, stream: StreamId) -> bool:
    """Whether the stream with this key bears this name."""
    return connection.execute(_SELECT_NAMED, (key, *stream)).fetchone() is not None
