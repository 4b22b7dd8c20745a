"""A disk for tests under the real SQLite: it fails when told, fills up, and remembers all that was written to it.

    with Disk() as disk:                    # from here on SQLite's connections of this process go through it
        disk.fail_at(7)                     # the seventh operation from now on fails, as a disk would fail it
        disk.room = 100_000                 # bytes; a write that needs more meets a full disk

It is a layer over SQLite's own way to files (a VFS), made with ctypes: the database, its log and its rollback journal
go through it byte by byte, and nothing of SQLite is replaced. `Disk.log` is every write, truncation, deletion and
flush in order; `image` puts the files together again as a crash, or a loss of power, would have left them.
"""

import _sqlite3
import ctypes
import itertools
import os
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p, cast, pointer
from dataclasses import dataclass
from pathlib import Path

OK, FULL, CANTOPEN = 0, 13, 14
FAILURES = {"read": 266, "write": 778, "sync": 1034, "truncate": 1546, "delete": 2570, "open": CANTOPEN}
"""What SQLite is told when an operation fails: its extended result codes."""

SECTOR = 512

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_CLOSE = CFUNCTYPE(c_int, c_void_p)
_TRANSFER = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class _Methods(Structure):
    _fields_ = (
        [("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p), ("truncate", c_void_p)]
        + [("sync", c_void_p)]
        + [(f"other{n}", c_void_p) for n in range(13)]
    )


class _File(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(Structure):
    _fields_ = [("version", c_int), ("file_size", c_int), ("path_max", c_int), ("next", c_void_p)]
    _fields_ += [("name", c_char_p), ("data", c_void_p), ("open", c_void_p), ("delete", c_void_p)]
    _fields_ += [(f"other{n}", c_void_p) for n in range(14)]


def _library():
    """The SQLite that Python's `sqlite3` uses: a library of its own, or part of the interpreter."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    return library


@dataclass(frozen=True)
class Done:
    """One thing that was done to a file; `told` marks when a caller was told something."""

    kind: str
    path: str = ""
    offset: int = 0
    data: bytes = b""
    told: object = None


class Disk:
    """SQLite's default way to files while its `with` block lasts. One at a time."""

    def __init__(self) -> None:
        self.log: list[Done] = []
        self.operations = 0
        self.room: int | None = None
        self.failed: list[str] = []
        self._at: int | None = None
        self._lasting = False
        self._sizes: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._tables: dict[int, _Methods] = {}
        self._library = _library()
        self._alive: list[object] = []
        self._real = self._library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(self._real)
        self._vfs.next, self._vfs.name = None, b"holdfast-faulty"
        self._real_open, self._real_delete = _OPEN(self._real.open), _DELETE(self._real.delete)
        self._vfs.open = self._keep(_OPEN(self._open))
        self._vfs.delete = self._keep(_DELETE(self._delete))

    def __enter__(self):
        assert self._library.sqlite3_vfs_register(pointer(self._vfs), 1) == OK
        return self

    def __exit__(self, *error):
        self._library.sqlite3_vfs_register(pointer(self._real), 1)
        self._library.sqlite3_vfs_unregister(pointer(self._vfs))

    # What goes wrong

    def fail_at(self, number: int, *, lasting: bool = False) -> None:
        """The `number`th operation from now on fails, and with `lasting` all after it."""
        self._at, self._lasting = self.operations + number, lasting

    def heal(self) -> None:
        """Nothing fails any more, and there is room."""
        self._at = self.room = None

    def told(self, what: object) -> None:
        """Note in the log that a caller has been told this."""
        self.log.append(Done("told", told=what))

    @property
    def used(self) -> int:
        """Bytes of all files that were opened and are still there."""
        return sum(self._sizes.values())

    def _fails(self, kind: str) -> int:
        self.operations += 1
        if self._at is None or not (self.operations == self._at or (self._lasting and self.operations > self._at)):
            return OK
        self.failed.append(kind)
        return FAILURES[kind]

    def _is_full(self, path: str, end: int) -> bool:
        return self.room is not None and self.used + max(end - self._sizes[path], 0) > self.room

    # SQLite's calls

    def _open(self, vfs, name, file, flags, out):
        path = os.fsdecode(cast(name, c_char_p).value) if name else ""
        if code := self._fails("open"):
            cast(file, POINTER(_File)).contents.methods = None
            return code
        code = self._real_open(vfs, name, file, flags, out)
        if code == OK and path:
            self._paths[file] = path
            self._sizes[path] = os.path.getsize(path)
            opened = cast(file, POINTER(_File)).contents
            opened.methods = pointer(self._table(opened.methods))
        return code

    def _delete(self, vfs, name, sync):
        if code := self._fails("delete"):
            return code
        code = self._real_delete(vfs, name, sync)
        if code == OK:
            self._sizes.pop(os.fsdecode(name), None)
            self.log.append(Done("delete", os.fsdecode(name)))
        return code

    def _table(self, real):
        """SQLite's methods of a kind of file, with ours in the place of those that touch the disk."""
        address = cast(real, c_void_p).value
        if address in self._tables:
            return self._tables[address]
        own = _Methods.from_buffer_copy(real.contents)
        self._tables[address] = own
        close, read, write = _CLOSE(own.close), _TRANSFER(own.read), _TRANSFER(own.write)
        truncate = _TRUNCATE(own.truncate)

        def our_close(file):
            self._paths.pop(file, None)
            return close(file)

        def our_read(file, data, size, offset):
            return self._fails("read") or read(file, data, size, offset)

        def our_write(file, data, size, offset):
            if code := self._fails("write"):
                return code
            path = self._paths[file]
            if self._is_full(path, offset + size):
                self.failed.append("full")
                return FULL
            code = write(file, data, size, offset)
            self._sizes[path] = max(self._sizes[path], offset + size)
            self.log.append(Done("write", path, offset, ctypes.string_at(data, size)))
            return code

        def our_truncate(file, size):
            if code := self._fails("truncate"):
                return code
            self._sizes[self._paths[file]] = size
            self.log.append(Done("truncate", self._paths[file], size))
            return truncate(file, size)

        def our_sync(file, flags):
            if code := self._fails("sync"):
                return code
            self.log.append(Done("sync", self._paths[file]))
            return OK  # noted is enough: no power will be lost but on this disk

        own.close, own.read = self._keep(_CLOSE(our_close)), self._keep(_TRANSFER(our_read))
        own.write, own.truncate = self._keep(_TRANSFER(our_write)), self._keep(_TRUNCATE(our_truncate))
        own.sync = self._keep(_SYNC(our_sync))
        return own

    def _keep(self, function):
        """The address of a callback that must live as long as SQLite may call it."""
        self._alive.append(function)
        return cast(function, c_void_p).value


def image(log, folder: Path, *, chance=None) -> None:
    """The files as `log` left them, in `folder`. `chance` (a `random.Random`): the power was lost as well, so that of
    what no flush has covered each write is there, is not, or stops at a sector."""
    files: dict[str, bytearray] = {}
    safe = _flushed(log)
    for place, done in enumerate(log):
        name = Path(done.path).name
        if done.kind == "delete":
            files.pop(name, None)
        elif done.kind == "truncate":
            del files.setdefault(name, bytearray())[done.offset :]
        elif done.kind == "write":
            data = done.data if chance is None or place in safe else _torn(done.data, chance)
            file = files.setdefault(name, bytearray())
            file.extend(bytes(max(done.offset + len(data) - len(file), 0) if data else 0))
            file[done.offset : done.offset + len(data)] = data
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _flushed(log) -> set[int]:
    """The places in the log of writes that a flush of their file has covered."""
    waiting: dict[str, list[int]] = {}
    safe: set[int] = set()
    for place, done in enumerate(log):
        if done.kind == "write":
            waiting.setdefault(done.path, []).append(place)
        elif done.kind == "sync":
            safe.update(waiting.pop(done.path, ()))
    return safe


def _torn(data: bytes, chance) -> bytes:
    return data[: chance.choice((0, len(data), chance.randint(0, len(data) // SECTOR) * SECTOR))]


def acknowledged(log) -> list:
    """What callers had been told when the log ends."""
    return list(itertools.chain.from_iterable(done.told for done in log if done.kind == "told"))
