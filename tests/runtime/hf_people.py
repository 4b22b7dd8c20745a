"""People with personal data. A module that hosts import by its name: conftest.py puts it on their path."""

import asyncio
import os
from typing import Annotated, Any

from holdfast.actors import Aggregate, Forgotten, Personal, Reaction, apply, command, event, on, query
from holdfast.runtime import Projection, Table

SECRET = "Ada Lovelace of Marylebone"
"""What must be found nowhere in the clear."""


@event("hf_people.registered")
class Registered:
    name: Annotated[str, Personal.of_aggregate("customer")]
    city: str = ""


@event("hf_people.noted")
class Noted:
    author_id: str
    text: Annotated[str, Personal("author_id", blank="(removed)")]
    mood: Annotated[int | None, Personal("author_id")] = None


class Person(Aggregate, snapshot_every=3):
    name: str = ""
    city: str = ""
    notes: list[str] = []

    @command
    def register(self, name: str, city: str = "") -> str:
        self.emit(Registered(name, city))
        return f"welcome {name}"

    @command
    def note(self, author_id: Any, text: str) -> int:
        self.emit(Noted(author_id, text, len(text)))
        return len(self.notes)

    @command
    def repeat(self) -> str:
        """Copies what the state holds into a new event."""
        self.emit(Registered(self.name, self.city))
        return self.name

    @command
    async def wait(self, told: str = "") -> None:
        await asyncio.Event().wait()

    @query
    def look(self) -> tuple[str, list[str]]:
        return self.name, self.notes

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Registered)
    def _registered(self, event: Registered) -> None:
        self.name, self.city = event.name, event.city

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.notes.append(event.text)


class People(Projection):
    people = Table("id TEXT PRIMARY KEY, name TEXT NOT NULL")

    @on(Registered)
    def registered(self, event: Registered, recorded: Any) -> None:
        self.execute(
            f"INSERT INTO {self.people} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            recorded.id,
            event.name,
        )

    @on(Forgotten)
    def forgotten(self, event: Forgotten) -> None:
        self.execute(f"UPDATE {self.people} SET name = ? WHERE id = ?", "", event.id)


@event("hf_people.greeted")
class Greeted:
    text: Annotated[str, Personal.of_aggregate("customer")]


class Greeter(Reaction):
    greeted: list[str] = []

    @on(Registered)
    def greet(self, event: Registered) -> None:
        self.emit(Greeted(f"dear {event.name}"))

    @apply(Greeted)
    def _greeted(self, event: Greeted) -> None:
        self.greeted.append(event.text)

    @query
    def look(self) -> list[str]:
        return self.greeted


@event("hf_people.counted")
class Counted:
    city: str


class Counter(Reaction):
    """Is told personal data, and keeps none of it."""

    cities: list[str] = []

    @on(Registered)
    def count(self, event: Registered) -> None:
        self.emit(Counted(event.city))

    @apply(Counted)
    def _counted(self, event: Counted) -> None:
        self.cities.append(event.city)

    @query
    def look(self) -> list[str]:
        return self.cities
