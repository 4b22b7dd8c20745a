"""One run: brings up the database, the cluster and the drivers, lets the nemesis loose, and asks for the verdict.

Times here and in the notes are of the monotonic clock, which all processes of a machine share.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from .databases import Database, database
from .driver import ALL_QUIET, Orders
from .nemesis import KINDS, SHORT, Fault, Nemesis
from .notes import Histories, Note
from .processes import die_with_parent
from .ray_nodes import Nodes
from .verdict import Verdict, judged
from .workload import DEDICATED, TYPES

__all__ = ["Conductor", "Run", "Settings"]

ROOT = Path(__file__).parent.parent.parent
DRIVERS = 3
TICK_S = 0.03
UP_S = 120.0  # within which a driver must be ready
SERVED_S = 120.0  # within which callers must be served again after the last fault
OWED_S = 60.0  # that a run may take longer until each kind of fault was done once
FINISH_S = 150.0  # within which drivers must have their last answers
DRIVER = "from tests.soak.driver import main; main()"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `journal`: one kind."""

    seconds: float
    seed: int
    placement: str
    journal: str
    folder: str
    faults: list[str] = []

    @property
    def placements(self) -> list[str]:
        return ["dedicated", "sharded"] if self.placement == "both" else [self.placement]


@dataclass(slots=True)
class Run:
    """What came out. `problems`: everything that must not be; empty for a good one."""

    settings: Settings
    faults: list[Fault] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    drivers: int = 0


class Stopped(Exception):
    """The run cannot go on: what was waited for did not come."""


@dataclass(slots=True)
class _Role:
    """A driver's part, played by one process after another."""

    number: int
    lives: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    names: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.names[-1]

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Conductor:
    """Also the nemesis's way to its victims. `show`: told what goes on, now and then."""

    def __init__(self, settings: Settings, show: Callable[["Conductor"], None]) -> None:
        self.settings, self.began = settings, time.monotonic()
        self.folder = Path(settings.folder)
        self.histories_in = self.folder / "notes"
        self.histories_in.mkdir()
        self.histories = Histories(self.histories_in)
        self.rng = random.Random(settings.seed)
        self.answers = 0
        self.phase = "starting"
        self._show = show
        self._problems: list[str] = []
        self._roles = [_Role(number) for number in range(DRIVERS)]
        self._sessions = 0
        self.database: Database = database(settings.journal, self.folder)
        self._database_back_at = 0.0
        self._nodes = self._cluster()
        possible = SHORT if settings.seconds < 60 else KINDS
        first = settings.faults or [kind for kind in possible if kind != "kill database" or self.database.server]
        self.nemesis = Nemesis(self, self.rng, settings.placements, first=first)

    def carry_out(self) -> Run:
        """The whole run."""
        try:
            self._soak()
        except Stopped as stopped:
            self._problems += [str(stopped), f"what there was: {self._nodes.actors()}"]
            self._ask_what_waits()
        finally:
            self.nemesis.resume()
        self.phase = "judging"
        self._show(self)
        self._end()
        return self._judged()

    # -- what the nemesis reaches for ----------------------------------------------------------------------------

    def residents(self) -> dict[str, int]:
        return self._nodes.residents()

    def drivers(self) -> dict[str, int]:
        """Those that are at work."""
        return {role.name: role.process.pid for role in self._roles if role.process and self._is_ready(role)}

    def nodes(self) -> dict[str, list[int]]:
        return {ip: self._nodes.processes(ip) for ip in self._nodes.worker_ips()}

    def lose_database(self, down_s: float) -> bool:
        if not self.database.server or self._database_back_at:
            return False
        self.database.kill()
        self._database_back_at = time.monotonic() + down_s
        return True

    def lose_everything(self) -> None:
        for role in self._roles:
            if role.process is not None:
                role.process.send_signal(signal.SIGKILL)
                role.process.wait()
        self._nodes.end()
        self.database.kill()
        self.database.start()
        self._database_back_at = 0.0
        self._nodes = self._cluster()
        self._raise_drivers()

    # -- phases --------------------------------------------------------------------------------------------------

    def _soak(self) -> None:
        self._raise_drivers()
        self.began = time.monotonic()
        self.phase = "at it"
        end = self.began + self.settings.seconds
        restarts = self._restarts()
        while time.monotonic() < end or (self.nemesis.owes and time.monotonic() < end + OWED_S):
            if restarts and time.monotonic() > restarts[0]:
                restarts.pop(0)
                self.nemesis.next("kill everything")
            self.nemesis.turn()
            self._turn()
        self.phase = "settling"
        self.nemesis.resume()
        self._until(lambda: not self.nemesis.unserved and self._all_ready(), SERVED_S, "callers were not served again")
        self.phase = "finishing"
        for role in self._roles:
            assert role.process is not None, "ready, so started"
            role.process.send_signal(signal.SIGTERM)
        self._until(lambda: self._all_said("quiet"), FINISH_S, "callers did not come to their end", tend=False)
        (self.histories_in / ALL_QUIET).touch()
        self._until(self._all_finished, FINISH_S, "callers did not get their last answers", tend=False)

    def _restarts(self) -> list[float]:
        """When everything goes down: about every three minutes, and once in a run of one; there is no time for it in
        a shorter one."""
        seconds = self.settings.seconds
        if seconds < 60:
            return []
        times = max(1, round(seconds / 180))
        return [self.began + seconds * (n + 0.5) / times for n in range(times)]

    def _turn(self, *, tend: bool = True) -> None:
        """Hear what callers were told, and bring back what is down."""
        for note in self.histories.fresh():
            self.answers += 1
            if note.done and note.returned is not None:
                owned = TYPES[note.line["aggregate"].partition("/")[0]] in DEDICATED
                self.nemesis.served("dedicated" if owned else "sharded", note.called, note.returned)
        if tend:
            self._tend()
        self._show(self)
        time.sleep(TICK_S)

    def _tend(self) -> None:
        if self._database_back_at and time.monotonic() > self._database_back_at:
            self.database.start()
            self._database_back_at = 0.0
        self._nodes.mend()
        for role in self._roles:
            if not role.is_up:
                self._raise(role)

    def _until(self, done: Callable[[], bool], within_s: float, problem: str, *, tend: bool = True) -> None:
        give_up = time.monotonic() + within_s
        while not done():
            if time.monotonic() > give_up:
                raise Stopped(f"{problem} within {within_s:g} s")
            self._turn(tend=tend)

    # -- processes -----------------------------------------------------------------------------------------------

    def _cluster(self) -> Nodes:
        self._sessions += 1
        return Nodes(self.folder / f"r{self._sessions}")

    def _raise_drivers(self) -> None:
        """The first of them starts the journal, so it must not always be the same."""
        roles = self.rng.sample(self._roles, len(self._roles))
        for number, role in enumerate(roles):
            self._raise(role)
            if number == 0:
                self._until(lambda: self._is_ready(roles[0]), UP_S, "the first driver did not start", tend=False)
        self._until(self._all_ready, UP_S, "the drivers did not start")

    def _raise(self, role: _Role) -> None:
        role.lives += 1
        predecessors = list(role.names)[-1:]
        role.names.append(f"d{role.number}-{role.lives}")
        ips = self._nodes.ips()
        orders = Orders(
            name=role.name,
            role=f"d{role.number}",
            folder=str(self.histories_in),
            address=self._nodes.address,
            ip=ips[role.number % len(ips)],
            url=self.database.url,
            read_url=self.database.read_url,
            placement=self.settings.placement,
            seed=str(self.settings.seed),
            began=self.began,
            predecessors=predecessors,
        )
        with (self.folder / f"{role.name}.log").open("wb") as log:
            role.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, msgspec.json.encode(orders).decode()],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def _is_ready(self, role: _Role) -> bool:
        return role.is_up and "ready" in self.histories.said(role.name)

    def _all_ready(self) -> bool:
        return all(map(self._is_ready, self._roles))

    def _all_said(self, what: str) -> bool:
        for role in self._roles:
            if not role.is_up and what not in self.histories.said(role.name):
                raise Stopped(f"driver {role.name} ended before it was {what}")
        return all(what in self.histories.said(role.name) for role in self._roles)

    def _all_finished(self) -> bool:
        gone = [role.name for role in self._roles if not role.is_up]
        for name in gone:
            if "finished" not in self.histories.said(name):
                self.histories.fresh()
                if "finished" not in self.histories.said(name):
                    raise Stopped(f"driver {name} ended before it was done")
        return len(gone) == len(self._roles)

    def _ask_what_waits(self) -> None:
        """Each driver writes into its log what its tasks wait for."""
        for role in self._roles:
            if role.process is not None and role.is_up:
                role.process.send_signal(signal.SIGUSR1)
        time.sleep(1.0)

    # -- the end -------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        for role in self._roles:
            if role.process is not None and role.is_up:
                role.process.kill()
                role.process.wait()
        self._nodes.end()
        self.histories.fresh()

    def _judged(self) -> Run:
        if self.database.server:
            self.database.start()
        run = Run(self.settings, self.nemesis.faults, list(self.histories.notes()))
        run.drivers = sum(role.lives for role in self._roles)
        run.problems = [*self._problems, *self.histories.problems]
        run.verdict = judged(self.database.url, run.notes, self.histories_in, self.database.read_url)
        run.problems += run.verdict.wrong
        late = [note for note in run.notes if note.line["patient"] and "DeadlineExceeded" in note.why]
        run.problems += [f"waited a minute for nothing: {note.line} {note.why}" for note in late[:3]]
        run.problems += [f"not survived: {fault}" for fault in self.nemesis.unserved]
        if not run.faults:
            run.problems.append("no fault was done, so nothing was shown")
        return run
