"""Forgetting a data subject: from the key to the last process that may have had it.

1. The subject's key is destroyed, and with it those of its streams, in one transaction of the key store. Whatever is
   read from now on, anywhere, is read without it: keys are kept in no process that reads.
2. Every host lets go of what it has in memory: the aggregates of these streams leave, without a snapshot, and come back
   blank. A host that does not answer is ended: a stopped process would show what it remembers when it goes on.
3. `Forgotten` is journaled, for projections and others that have made rows of their own.

A crash anywhere in between leaves the data unreadable in the journal, and a process or a row that still has it: forget
again. Each step is harmless when it is done twice, and the last one is done once.

Before this: somebody has the right to be forgotten. After this: no query answers with the data.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from holdfast.actors.events import event_codec
from holdfast.actors.forgotten import FORGOTTEN, PRIVACY, Forgotten
from holdfast.journal.errors import DuplicateKey, Fenced, HoldfastError, VersionConflict
from holdfast.journal.journal import Journal
from holdfast.journal.keys import DataSubject, Destroyed
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.subject import Log, Subject

from .cluster import Cluster, PeerGone, incarnation
from .config import Config
from .watch import watched

__all__ = ["Forgetting", "ForgottenReport"]

log = Log(__name__)

HOSTS_AT_ONCE = 64
ASK_AGAIN_S = 0.05
TRIES_MAX = 20
WINDOW = 1000


class ForgottenReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `generation`: of the newest key that was destroyed; 0: nothing was ever kept under one.
    `streams`: those that had used it. `hosts`: how many were told. `passivated`: aggregates that left memory for it.
    `unreached`: hosts that did not answer and were ended, or could not even be: where their process still runs, cut off
    from the cluster, it may show what it has in memory. `position`: of the `Forgotten` event, in its partition."""

    kind: str
    id: str
    generation: int
    streams: tuple[str, ...]
    hosts: int
    passivated: int
    unreached: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Forgets subjects, in one cluster."""

    cluster: Cluster
    journal: Journal
    config: Config

    async def forget(self, subject: DataSubject, recorded_at: int) -> ForgottenReport:
        """Forget one, and return when that is true everywhere that can be reached. `recorded_at`: µs since 1970 UTC.
        Raises `NoKeyStore`, `JournalUnavailable`, `JournalFailed`: then do it again."""
        destroyed: Destroyed = await self.journal.parts[0].ask("destroy_keys", *subject)
        hosts = await self.cluster.host_names()
        told = [found for found in await self._tell(hosts, subject, destroyed.streams) if found is not None]
        position = await self._record(subject, destroyed.generation, recorded_at)
        return ForgottenReport(
            kind=subject.kind,
            id=subject.id,
            generation=destroyed.generation,
            streams=destroyed.streams,
            hosts=len([passivated for _, passivated in told if passivated is not None]),
            passivated=sum(passivated or 0 for _, passivated in told),
            unreached=tuple(sorted(host for host, passivated in told if passivated is None)),
            position=position,
        )

    async def _tell(
        self, hosts: Sequence[str], subject: DataSubject, streams: Sequence[str]
    ) -> list[tuple[str, int | None] | None]:
        at_once = asyncio.Semaphore(HOSTS_AT_ONCE)

        async def tell(host: str) -> tuple[str, int | None] | None:
            async with at_once:
                return await self._tell_one(host, subject, streams)

        return list(await asyncio.gather(*map(tell, hosts)))

    async def _tell_one(self, host: str, subject: DataSubject, streams: Sequence[str]) -> tuple[str, int | None] | None:
        """How many aggregates left memory there. None for a number: it did not answer; None at all: it has gone."""
        peer = await self.cluster.find_host(host)
        if peer is None:
            return None
        try:
            async with asyncio.timeout(self.config.timeout_s):
                return host, int(await watched(peer, self.config, "forget", *subject, streams))
        except (TimeoutError, HoldfastError) as error:
            if isinstance(error, PeerGone) and await self.cluster.find_host(host) != peer:
                return None  # it died by itself, and took what it knew along
            log.warning(Subject("host", host), "did not answer that %s was forgotten, and is ended: %s", subject, error)
            await self.cluster.kill(peer)
            return host, None

    async def _record(self, subject: DataSubject, generation: int, recorded_at: int) -> int:
        """Have `Forgotten` in the journal, once for each generation. Returns its position."""
        stream = StreamId(PRIVACY, f"{subject.kind}/{subject.id}")
        payload = event_codec(Forgotten, {}).encode(Forgotten(subject.kind, subject.id, generation))
        command_id, owner = f"forget-{generation}", f"{PRIVACY}:{stream.id}"
        event = NewEvent(type=FORGOTTEN, payload=payload, command_id=command_id, recorded_at=recorded_at)
        for _ in range(TRIES_MAX):
            newest = await self.journal.read_stream(stream, limit=1, backward=True)
            if newest and newest[0].command_id == command_id:
                return newest[0].position
            try:
                append = Append(
                    stream=stream,
                    owner=owner,
                    epoch=await self.journal.claim(owner, incarnation()),
                    expected_version=newest[0].version if newest else 0,
                    events=(event,),
                )
                return (await self.journal.append(append)).position
            except (VersionConflict, Fenced, DuplicateKey):  # somebody else is forgetting the same subject
                await asyncio.sleep(ASK_AGAIN_S)
        raise Fenced(owner, 0, 0)
