"""Personal data of events that were otherwise once: what is sealed in an older event is opened, or blank, before its
upcasters see it, whoever reads; and what is written today is sealed, whatever it is called."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hf_publish import Collecting

from holdfast.actors import Aggregate, Personal, Reaction, apply, command, event, on, query, upcast
from holdfast.actors.check import FollowingReader, check, readers_of
from holdfast.journal.records import StreamId
from holdfast.journal.verify import open_sources
from holdfast.runtime import Projection, Publisher, Runtime, Sharded, Table
from holdfast.runtime.inspection import Inspection
from holdfast.runtime.projection_definition import projection_of

FULL, MAIL, PHONE = "Ada Lovelace", "ada@analytical.example", "+44 1815 1210"
NEW_MAIL = "lovelace@engine.example"
SECRETS = (b"Lovelace", b"analytical", b"1815", b"engine.example")


def first_release() -> type[Any]:
    """Version 1, under the name that it had then."""

    @event("hf_evolved.told")
    class Told:
        who: str
        full: Annotated[str, Personal("who", kind="customer")]
        email: Annotated[str, Personal("who", kind="customer")]
        phone: Annotated[str | None, Personal("who", kind="customer")] = None

    class Customer(Aggregate, category="Customer", snapshot_every=2):
        told: list[str] = []

        @command
        def tell(self, full: str, email: str, phone: str) -> None:
            self.emit(Told(self.id, full, email, phone))

        @on(Told)
        def _told(self, event: Told) -> None:
            self.told.append(event.email)

    return Customer


@event("hf_evolved.said", version=3, aliases=("hf_evolved.told",))
class Said:
    """Renamed as a whole, with a field renamed, one split and one dropped."""

    who: str
    mail: Annotated[str, Personal("who", kind="customer")]
    given: Annotated[str, Personal("who", kind="customer")]
    family: Annotated[str, Personal("who", kind="customer")]

    @upcast(from_version=1)
    @staticmethod
    def _renamed(old: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(old["phone"], str | None)
        return {"who": old["who"], "full": old["full"], "mail": old["email"]}

    @upcast(from_version=2)
    @staticmethod
    def _split(old: dict[str, Any]) -> dict[str, Any]:
        given, _, family = old.pop("full").partition(" ")
        return {**old, "given": given, "family": family}


class Customer(Aggregate, category="Customer", snapshot_every=2):
    said: list[tuple[str, str, str]] = []

    @command
    def say(self, mail: str, given: str, family: str) -> None:
        self.emit(Said(self.id, mail, given, family))

    @query
    def look(self) -> list[tuple[str, str, str]]:
        return self.said

    @on(Said)
    def _said(self, event: Said) -> None:
        self.said.append((event.mail, event.given, event.family))


class Mails(Projection):
    mails = Table("position INTEGER PRIMARY KEY, mail TEXT NOT NULL, family TEXT NOT NULL")

    @on(Said)
    def said(self, event: Said, recorded: Any) -> None:
        self.execute(f"INSERT INTO {self.mails} VALUES (?, ?, ?)", recorded.position, event.mail, event.family)


@event("hf_evolved.greeted", version=2)
class Greeted:
    who: str
    text: Annotated[str, Personal("who", kind="customer")]

    @upcast(from_version=1)
    @staticmethod
    def _never(old: dict[str, Any]) -> dict[str, Any]:
        return old


class Greeter(Reaction):
    greeted: list[str] = []

    @on(Said, by="who")
    def greet(self, event: Said) -> None:
        self.emit(Greeted(event.who, f"dear {event.given} {event.family}"))

    @apply(Greeted)
    def _greeted(self, event: Greeted) -> None:
        self.greeted.append(event.text)

    @query
    def look(self) -> list[str]:
        return self.greeted


OLD, NEW = (MAIL, "Ada", "Lovelace"), (NEW_MAIL, "Ada", "King Lovelace")
ALL = [OLD, OLD, OLD, NEW, NEW, NEW]


def opened(folder: Path) -> Any:
    return Runtime.local(
        f"sqlite:///{folder / 'journal.db'}", keys=f"sqlite:///{folder / 'keys.db'}", placement=Sharded(1)
    )


def in_files(folder: Path) -> set[bytes]:
    """Which of the secrets stand in a file, but for the read model's, which keeps what its projection puts there."""
    files = [path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.startswith("read")]
    return {secret for secret in SECRETS if any(secret in content for content in files)}


async def seen(runtime: Any, name: str) -> dict[str, Any]:
    """What every way of reading gives; with followers that begin at the beginning, under a name of their own."""
    found = {"query": await runtime.get(Customer, "7").look()}
    state = await runtime.state_at(Customer, "7")
    found["state"] = state.said
    found["read"] = [(e.event.mail, e.event.given, e.event.family) async for e in runtime.read(Customer, "7")]
    found["subscribe"] = []
    async for each in runtime.subscribe(types=[Said]):
        found["subscribe"].append((each.event.mail, each.event.given, each.event.family))
        if len(found["subscribe"]) == len(found["read"]):
            break
    sink = Collecting()
    publisher = Publisher(name, sink, types=[Said])
    await runtime.start(publisher)
    await runtime.wait_for(publisher)
    await runtime.stop(publisher)
    data = [msgspec.json.decode(each.data) for each in sink.got]
    found["publish"] = [(each["mail"], each["given"], each["family"]) for each in data]
    return found


@pytest.mark.parametrize("passivated", [False, True], ids=["replayed", "from a snapshot"])
async def test_what_was_sealed_in_an_older_event_is_opened_before_it_is_upcast(
    tmp_path: Path, passivated: bool
) -> None:
    """On every way of reading, before and after its subject was forgotten; and no file ever holds it."""
    first: Any = first_release()
    async with opened(tmp_path) as runtime:
        for _ in range(3):
            await runtime.get(first, "7").tell(FULL, MAIL, PHONE)
        if passivated:
            await runtime.passivate(first, "7")
    async with opened(tmp_path) as runtime:
        for _ in range(3):
            await runtime.get(Customer, "7").say(*NEW)
        if passivated:
            await runtime.passivate(Customer, "7")
        types = [each.stored_type async for each in runtime.read()]
        assert types == ["hf_evolved.told"] * 3 + ["hf_evolved.said@3"] * 3
        await runtime.start(Greeter)
        await runtime.wait_for(Greeter)
        assert await runtime.get(Greeter, "7").look() == ["dear Ada Lovelace"] * 3 + ["dear Ada King Lovelace"] * 3
        assert await seen(runtime, "before") == dict.fromkeys(("query", "state", "read", "subscribe", "publish"), ALL)
        assert in_files(tmp_path) == set()
        await runtime.forget("customer", "7")
        assert await seen(runtime, "after") == dict.fromkeys(
            ("query", "state", "read", "subscribe", "publish"), [("", "", "")] * 6
        )
        assert await runtime.get(Greeter, "7").look() == [""] * 6
        assert in_files(tmp_path) == set()


async def test_a_projection_gets_what_was_sealed_in_an_older_event_opened(tmp_path: Path) -> None:
    """And, where it comes to it after its subject was forgotten, blank."""
    first: Any = first_release()
    async with opened(tmp_path) as runtime:
        await runtime.get(first, "7").tell(FULL, MAIL, PHONE)
        await runtime.get(first, "8").tell(FULL, MAIL, PHONE)
        await runtime.forget("customer", "8")
        await runtime.start(Mails, f"sqlite:///{tmp_path / 'read.db'}")
        await runtime.wait_for(Mails)
    with closing(sqlite3.connect(tmp_path / "read.db")) as raw:
        assert raw.execute("SELECT mail, family FROM Mails ORDER BY position").fetchall() == [
            (MAIL, "Lovelace"),
            ("", ""),
        ]


async def test_looking_at_and_checking_older_sealed_events_upcasts_them_blank(tmp_path: Path) -> None:
    """There are no keys there: an upcaster gets what it will get once everybody is forgotten."""
    first: Any = first_release()
    async with opened(tmp_path) as runtime:
        await runtime.get(first, "7").tell(FULL, MAIL, PHONE)
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    async with await Inspection.open(url, classes=[Customer]) as look:
        state = await look.state(StreamId("Customer", "7"))
        assert state is not None
        assert state.fields == {"said": [["", "", ""]]}
    readers = [*readers_of([Customer, Greeter]), FollowingReader("Mails", projection_of(Mails).reading)]
    report = await check(await open_sources(url), readers)
    assert report.good, report.problems


async def test_an_upcaster_that_cannot_take_a_blank_is_told_by_a_check(tmp_path: Path) -> None:
    """Before anybody is forgotten, and the aggregate would not load any more."""
    first: Any = first_release()

    @event("hf_evolved.told", version=2)
    class Told:
        who: str
        family: Annotated[str, Personal("who", kind="customer")]

        @upcast(from_version=1)
        @staticmethod
        def _split(old: dict[str, Any]) -> dict[str, Any]:
            return {"who": old["who"], "family": old["full"].split()[1]}

    class Strict(Aggregate, category="Customer"):
        @on(Told)
        def _told(self, event: Told) -> None: ...

    async with opened(tmp_path) as runtime:
        await runtime.get(first, "7").tell(FULL, MAIL, PHONE)
    report = await check(await open_sources(f"sqlite:///{tmp_path / 'journal.db'}"), readers_of([Strict]))
    assert not report.good
    assert "IndexError" in report.problems[0].problem
