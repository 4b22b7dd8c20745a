"""Packing: any exception crosses as itself, and what cannot travel hurts its caller alone."""

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle as cloudpickle_of_ray

from holdfast.actors.errors import DeadlineExceeded, NotSerializable, Rejected
from holdfast.journal.errors import JournalLocked
from holdfast.runtime.errors import InvalidId
from holdfast.runtime.packing import Packer

PACKER = Packer(cloudpickle_of_ray.dumps, cloudpickle_of_ray.loads)


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Slotted(Exception):
    __slots__ = ("where",)


class OwnNew(ValueError):
    def __new__(cls, *, wanted: int) -> "OwnNew":
        return super().__new__(cls)

    def __init__(self, *, wanted: int) -> None:
        super().__init__(f"wanted {wanted}")
        self.wanted = wanted


class Named(OSError):
    def __init__(self, table: str) -> None:
        super().__init__(f"no table {table}")
        self.table = table


def crossed(value: Any) -> Any:
    return PACKER.unpack(pickle.loads(pickle.dumps(PACKER.pack(value))))


def raised(function: Any) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def slotted() -> Slotted:
    error = Slotted("x")
    error.where = "here"
    return error


@pytest.mark.parametrize(
    "error",
    [
        KeywordOnly(code=3),
        OwnNew(wanted=4),
        Named("users"),
        slotted(),
        InvalidId(3, "must be text"),
        DeadlineExceeded("a.m", 1.5, "unknown", "some trouble"),
        JournalLocked("/j.db", "pid 3"),
        Rejected("no", 5),
        KeyError("k"),
        SystemExit(3),
        StopIteration(5),
        ImportError("x", name="n", path="p"),
        OSError(5, "io"),
        OSError("one argument"),
        raised(lambda: Path("/no/such/file").read_bytes()),
        raised(lambda: b"\xff".decode()),
        raised(lambda: int("x")),
        raised(lambda: {}["k"]),  # type: ignore[index]
        raised(lambda: compile("a b", "f", "exec")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_crosses_as_itself(error: BaseException) -> None:
    """Class, text, arguments and fields; whatever its constructor takes."""
    other = crossed(error)
    assert type(other) is type(error)
    assert (str(other), repr(other)) == (str(error), repr(error))
    assert other.args == error.args
    fields = {k: v for k, v in vars(error).items() if k != "__notes__"}
    assert {k: v for k, v in vars(other).items() if k != "__notes__"} == fields
    for name in ("filename", "errno", "code", "value", "name", "path", "start", "where"):
        assert getattr(other, name, None) == getattr(error, name, None)


def test_notes_travel_and_say_where_it_was_raised() -> None:
    """The user's notes first, then the place; the exception that was raised stays as it was."""

    def fail() -> None:
        error = ValueError("x")
        error.add_note("mine")
        raise error

    error = raised(fail)
    for _ in range(2):
        notes = crossed(error).__notes__
        assert notes[0] == "mine"
        assert "in fail" in notes[1]
        assert len(notes) == 2
    assert error.__notes__ == ["mine"]


def test_a_rejection_says_nothing_about_its_place() -> None:
    """It is an answer, no accident."""

    def refuse() -> None:
        raise Rejected("no")

    assert not hasattr(crossed(raised(refuse)), "__notes__")


def test_a_class_without_a_module_of_its_name_travels_by_value() -> None:
    """As from `__main__` or a notebook: caught by the class of the same name that this process knows."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("class Local(Exception):\n    def __init__(self, *, n): super().__init__(n); self.n = n", scope)
    error = crossed(scope["Local"](n=5))
    assert isinstance(error, scope["Local"])
    assert error.n == 5  # type: ignore[attr-defined]


def test_an_exception_that_cannot_travel_arrives_as_its_text() -> None:
    """With the reason, as `NotSerializable`."""
    error = ValueError("the text")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    told = crossed(error)
    assert isinstance(told, NotSerializable)
    assert "builtins.ValueError: the text" in str(told)
    assert "lock" in str(told)


def test_an_exception_whose_text_fails_still_arrives() -> None:
    """Nothing about a user's exception may keep a caller waiting."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    error = Mute()
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    assert isinstance(crossed(error), NotSerializable)


def test_a_result_that_cannot_travel_is_refused() -> None:
    """At once, by name of its type."""
    with pytest.raises(NotSerializable, match="result of type lock"):
        PACKER.pack(threading.Lock())


def test_a_result_is_packed_at_the_moment_it_is_computed() -> None:
    """State goes on changing; what was answered does not."""
    state = {"a": [1]}
    packed = PACKER.pack(state)
    state["a"].append(2)
    assert PACKER.unpack(copy.deepcopy(packed)) == {"a": [1]}


@pytest.mark.parametrize("value", [1, 1.5, True, "x", b"x", None])
def test_plain_results_travel_as_they_are(value: Any) -> None:
    """No pickle for what needs none."""
    assert PACKER.pack(value) is value
