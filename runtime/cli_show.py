"""`holdfast show`: one stream. Its events, what each of them changed, and the state at any version or time.

Events are shown from where no class of the journal can be imported; states, and what changed, need the aggregate's
class: `--module`.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from holdfast.journal.errors import HoldfastError
from holdfast.journal.records import StreamId

from .cli_event import difference_lines, event_line, event_map, json_line, time_text, value_text
from .cli_journal import classes_in, journal_option, look_at, module_option, named_stream, unknown_word, url_and_rest
from .cli_report import shown
from .cli_status import note, told
from .inspection import Inspection
from .inspection_report import Change, time_of

__all__ = ["Moment", "NoSuchStream", "show_command"]

if TYPE_CHECKING:
    _Type = click.ParamType[int | datetime]
else:  # older releases of click do not take the brackets
    _Type = click.ParamType

PAGE = 500
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"-((?:\d+[smhdw])+)")


class NoSuchStream(HoldfastError):
    """The journal has no event of a stream of this name. `holdfast streams` lists those that there are."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"there is no stream {self.stream!r} in the journal; holdfast streams lists them"


class Moment(_Type):
    """A version, or a time: `20`, `2026-05-01`, `2026-05-01T10:30:00Z`, `-2h`, `now`. Without an offset it is UTC."""

    name = "VERSION|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        """An `int` is a version, anything else an aware time."""
        text = str(value).strip()
        if text.isascii() and text.isdigit():
            return int(text)
        if text == "now":
            return datetime.now(UTC)
        try:
            if ago := _AGO.fullmatch(text):
                parts = re.findall(r"(\d+)(\w)", ago[1])
                return datetime.now(UTC) - timedelta(seconds=sum(int(count) * UNITS[unit] for count, unit in parts))
            time = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither a version nor a time, as 20, 2026-05-01T10:30Z, -2h, now", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


class _Wanted(NamedTuple):
    stream: StreamId
    at: int | datetime | None
    diff: bool
    after: int
    limit: int
    in_json: bool


@click.command("show", short_help="One stream: events, changes, the state at any version.")
@click.argument("words", nargs=-1, required=True, metavar="[URL] STREAM")
@journal_option
@click.option("--at", type=Moment(), help="The state then: at a version, or at a time (UTC unless it says otherwise).")
@click.option("--diff", is_flag=True, help="With each event, what it changed of the state.")
@click.option("--after", metavar="VERSION", type=click.IntRange(0), default=0, help="Only events after this one.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(0), default=100, help="As many events at most (0: all). [100]"
)
@module_option("what states, and what changed, are told by")
@click.option(
    "--json", "in_json", is_flag=True, help="A JSON object for each event, on a line of its own; one with --at."
)
def show_command(
    words: tuple[str, ...],
    journal: str | None,
    at: int | datetime | None,
    diff: bool,
    after: int,
    limit: int,
    modules: Sequence[str],
    in_json: bool,
) -> None:
    """Show one stream, as Account/alice: its events with time, version, type, payload, and the command of each.

    With --at, the state at that version or time instead; with --at and --diff, also the last events up to it and what
    each changed. Both need the class of the aggregate: --module. Events are shown without.

    \b
    Examples:
      holdfast show Account/alice
      holdfast show Account/alice --diff --module bank.accounts
      holdfast show Account/alice --at 20 --module bank.accounts
      holdfast show Account/alice --at -2h --diff --module bank.accounts
    """
    url, rest = url_and_rest(words)
    if len(rest) != 1:
        files = [word for word in rest if word.endswith(".db")]
        raise unknown_word(files[0]) if files else click.UsageError("one stream is shown, as Account/alice")
    wanted = _Wanted(named_stream(rest[0]), at, diff, after, limit, in_json)
    with told():
        classes = classes_in(modules)
        asyncio.run(_show(url or journal, classes, wanted))


async def _show(url: str | None, classes: Sequence[type], wanted: _Wanted) -> None:
    async with await look_at(url, None, classes) as look:
        stream = wanted.stream
        head = await look.head(stream)
        if not head:
            raise NoSuchStream(str(stream))
        if (wanted.diff or wanted.at is not None) and stream.category not in look.known:
            note(f"the state of {stream} is told by its class: name the module that it is in, --module")
        elif (wanted.diff or wanted.at is not None) and stream.category in look.blanked:
            note("personal data is sealed, and there are no keys here: it is blank in states and what changed in them")
        await (_events(look, wanted, head) if wanted.at is None else _state(look, wanted, head))


async def _events(look: Inspection, wanted: _Wanted, head: int) -> None:
    stream = wanted.stream
    upto = head if not wanted.limit else min(head, wanted.after + wanted.limit)
    if not wanted.in_json:
        click.echo(f"{shown(str(stream))}, version {head}")
    await _each(look, wanted, wanted.after, upto, _printer(wanted.in_json, len(str(upto))))
    if upto < head and not wanted.in_json:
        note(f"{head - upto} more: --after {upto} goes on, --limit 0 shows all")


def _printer(in_json: bool, width: int) -> Callable[[Change], None]:
    def as_json(change: Change) -> None:
        click.echo(json_line(event_map(change.event, change.differences)))

    def as_text(change: Change) -> None:
        click.echo(event_line(change.event, width=width))
        for line in difference_lines(change.differences or ()):
            click.echo(f"{' ' * (width + 4)}{line}")

    return as_json if in_json else as_text


async def _each(look: Inspection, wanted: _Wanted, after: int, upto: int, take: Callable[[Change], None]) -> None:
    """The events after one version and up to another, page by page: a stream may be of any length."""
    while after < upto:
        size = min(PAGE, upto - after)
        if wanted.diff:
            page = await look.changes(wanted.stream, after=after, limit=size)
        else:
            page = [Change(event=event) for event in await look.events(wanted.stream, after=after, limit=size)]
        if not page:
            return
        for change in page:
            take(change)
        after = page[-1].event.version


async def _state(look: Inspection, wanted: _Wanted, head: int) -> None:
    stream, at = wanted.stream, wanted.at
    version = min(at, head) if isinstance(at, int) else await look.version_at(stream, at or datetime.now(UTC))
    view = await look.state(stream, version)
    then = await look.events(stream, after=version - 1, limit=1) if version else []
    time = time_of(then[0].record.recorded_at) if then else None
    changes: list[Change] = []
    if wanted.diff:
        after = max(wanted.after, version - wanted.limit if wanted.limit else 0)
        await _each(look, wanted, after, version, changes.append)
    if wanted.in_json:
        found: dict[str, Any] = {"stream": str(stream), "version": version, "head": head, "time": time}
        found["state"] = view.fields if view else None
        if wanted.diff:
            found["events"] = [event_map(each.event, each.differences) for each in changes]
        click.echo(json_line(found))
        return
    when = f", {time_text(time)}" if then else ", before its first event"
    click.echo(f"{shown(str(stream))}, version {version} of {head}{when}")
    for change in changes:
        _printer(False, len(str(version)))(change)
    fields = view.fields if view else {}
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"  {click.style(shown(name).ljust(width), bold=True)}  {value_text(value)}")
    if view is None and not wanted.diff and then:
        click.echo(event_line(then[0]))
