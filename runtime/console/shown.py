"""Text and values of a journal, made fit for a page.

What a journal holds is whatever its users, or their enemies, have put there. Nothing of it reaches a page as markup;
what does not print is named instead of obeyed, so that no mark turns the text after it around; and nothing is so long
that it pushes the rest away.

Before this: plain data, as the codec gives it. After this: rows that a template only has to lay out.
"""

# What this looks at is of any type at all.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import datetime as dt
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from markupsafe import Markup, escape

from holdfast.actors.plain import Difference
from holdfast.journal.sealed import shown as unsealed
from holdfast.runtime.cli_report import shown as printable
from holdfast.runtime.inspection_report import time_of

__all__ = ["Row", "brief", "inline", "moment", "plain", "rows_of", "size", "text", "value"]

TEXT_MAX, PLAIN_MAX = 2000, 200
INLINE_MAX = 80
BYTES_MAX = 64
ROWS_MAX = 400
DEPTH_MAX, DEPTH_SHOWN_MAX = 12, 5

ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a value laid out as an outline. `path`: where it stands, as a `Difference` says it; `depth`: how many
    are above it; `key`, `value`: as they are shown; `change`: what the event at hand changed there, if it did."""

    path: str
    depth: int
    key: Markup
    value: Markup
    change: Difference | None = None


def text(content: str, limit: int = TEXT_MAX) -> Markup:
    """A text, isolated from the direction of what is around it. What does not print is shown by its name."""
    shown = Markup("").join(map(_sign, content[:limit]))
    left = len(content) - limit
    more = Markup(' <span class="more">… {:,} more characters</span>').format(left) if left > 0 else Markup("")
    return Markup("<bdi>{}</bdi>{}").format(shown, more)


def inline(content: str) -> Markup:
    """A text in the middle of others: of a length that leaves them room."""
    if not content:
        return Markup('<span class="none">empty</span>')
    return text(content, INLINE_MAX) if len(content) <= INLINE_MAX else _clipped(content)


def plain(content: str, limit: int = PLAIN_MAX) -> str:
    """A text for where no markup can be, as in a title or a label: what does not print is written as an escape."""
    clipped = content if len(content) <= limit else f"{content[: limit - 1]}…"
    return printable(clipped)


def value(content: Any) -> Markup:
    """A value that holds no others."""
    return _value(content, TEXT_MAX)


def brief(content: Any) -> Markup:
    """A value of any kind in a few words."""
    if isinstance(content, Mapping | Sequence) and not isinstance(content, str | bytes | bytearray):
        return _container(content)
    return _value(content, INLINE_MAX)


def rows_of(content: Mapping[str, Any], changes: Iterable[Difference] = ()) -> list[Row]:
    """A value as an outline of at most `ROWS_MAX` lines, with what has just changed in it."""
    found: list[Row] = []
    for row in _walk(content, "", 0, {change.path: change for change in changes}):
        if len(found) == ROWS_MAX:
            more = Markup('<span class="more">more than {:,} lines: the rest is left out</span>').format(ROWS_MAX)
            return [*found, Row(path="", depth=0, key=Markup("…"), value=more)]
        found.append(row)
    return found


def moment(at: dt.datetime | int | None) -> Markup:
    """A time, in UTC, to the millisecond. An int: µs since 1970, which may be one that no calendar has."""
    found = time_of(at) if isinstance(at, int) else at
    if found is None:
        return Markup('<span class="none">{} µs</span>').format(at) if at is not None else Markup("")
    utc = found.astimezone(dt.UTC)
    day, clock = utc.strftime("%Y-%m-%d"), f"{utc:%H:%M:%S}.{utc.microsecond // 1000:03d}"
    return Markup('<time datetime="{}Z"><span class="day">{}</span> {}</time>').format(f"{day}T{clock}", day, clock)


def size(count: float | None) -> str:
    """Bytes, in the unit that leaves up to three digits before the point."""
    if count is None:
        return "-"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def _walk(content: Any, path: str, depth: int, changes: Mapping[str, Difference]) -> Iterator[Row]:
    for key, here, each in _entries(content, path):
        shown = _container(each) if _holds(each) else value(each)
        yield Row(path=here, depth=min(depth, DEPTH_SHOWN_MAX), key=key, value=shown, change=changes.get(here))
        if _holds(each) and depth < DEPTH_MAX:
            yield from _walk(each, here, depth + 1, changes)


def _entries(content: Any, path: str) -> Iterator[tuple[Markup, str, Any]]:
    """Key, path and value of each part, the path as `holdfast.actors.plain` writes it."""
    if not isinstance(content, Mapping):
        yield from ((text(f"[{index}]"), f"{path}[{index}]", each) for index, each in enumerate(content))
        return
    for key, each in content.items():
        named = isinstance(key, str) and key.isidentifier()
        here = f"{path}[{key!r}]" if not named else f"{path}.{key}" if path else key
        yield inline(key if isinstance(key, str) else repr(key)), here, each


def _holds(content: Any) -> bool:
    """Whether it is made of others, and has any."""
    return isinstance(content, Mapping | list | tuple | set | frozenset) and len(content) > 0


def _container(content: Any) -> Markup:
    count = len(content)
    what = "field" if isinstance(content, Mapping) else "entry"
    plural = {"field": "fields", "entry": "entries"}[what]
    words = f"{count:,} {what if count == 1 else plural}" if count else "empty"
    return Markup('<span class="holds">{}</span>').format(words)


def _value(content: Any, limit: int) -> Markup:
    match content:
        case None:
            return Markup('<span class="none">none</span>')
        case bool():
            return Markup('<span class="word">{}</span>').format("true" if content else "false")
        case int() | float():
            return Markup('<span class="number">{}</span>').format(content)
        case bytes() | bytearray():
            return _bytes(bytes(content))
        case str():
            return Markup('<span class="string">{}</span>').format(
                text(content, limit) if content else Markup('<span class="none">empty text</span>')
            )
        case dt.datetime():
            return moment(content)
        case _ if isinstance(content, Mapping | Sequence | set | frozenset):
            return _container(content)
        case msgspec.msgpack.Ext():
            return _extension(content, limit)
        case _:
            return text(str(content), limit)


def _extension(content: msgspec.msgpack.Ext, limit: int) -> Markup:
    """A sealed value, by whose it is; another, by its bytes."""
    said = unsealed(content)
    return (
        _bytes(bytes(content.data))
        if said is content
        else Markup('<span class="sealed">{}</span>').format(text(said, limit))
    )


def _bytes(content: bytes) -> Markup:
    head = content[:BYTES_MAX].hex(" ")
    dots = " …" if len(content) > BYTES_MAX else ""
    return Markup('<span class="bytes">{}{} <span class="more">{:,} bytes</span></span>').format(
        head, dots, len(content)
    )


def _clipped(content: str) -> Markup:
    half = INLINE_MAX // 2 - 1
    ends = Markup("").join(map(_sign, content[:half])), Markup("").join(map(_sign, content[-half:]))
    return Markup('<bdi>{}<span class="more">…</span>{}</bdi>').format(*ends)


def _sign(char: str) -> Markup:
    """A character that prints, as itself; another, by what it is."""
    if char.isprintable():
        return escape(char)
    name = unicodedata.name(char, "a control character").lower()
    code = ESCAPES.get(char, f"U+{ord(char):04X}")
    return Markup('<span class="unprinted" title="{}">{}</span>').format(name, code)
