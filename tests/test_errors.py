"""Every error crosses a process boundary as itself: same type, same fields, same words."""

import inspect
import pickle

import pytest

import holdfast.actors.errors
import holdfast.journal.archive_errors
import holdfast.journal.errors
import holdfast.runtime.cluster
import holdfast.runtime.errors
import holdfast.runtime.model_errors
from holdfast.journal.errors import CorruptRecord, HoldfastError

TREES = [
    holdfast.journal.errors,
    holdfast.journal.archive_errors,
    holdfast.actors.errors,
    holdfast.runtime.errors,
    holdfast.runtime.model_errors,
]
MODULES = [*TREES, holdfast.runtime.cluster]
ERRORS = sorted(
    {
        thing
        for module in MODULES
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, HoldfastError) and thing.__module__ == module.__name__
    },
    key=lambda error: error.__qualname__,
)
SAMPLES = {str: "text", int: 7, float: 1.5, object: "anything", tuple[str, ...]: ("A/1", "B/2", "A/1")}


def sample(error):
    """An instance, made from its constructor's annotations."""
    parameters = list(inspect.signature(error.__init__).parameters.values())[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) or error.__init__ is Exception.__init__:
        return error("text", 7)
    return error(*(SAMPLES[p.annotation] for p in parameters))


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__qualname__)
def test_an_error_survives_pickling_with_its_fields_and_words(error):
    """`args` equal the constructor's arguments, the condition for coming out as it went in."""
    raised = sample(error)
    copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is error
    assert copy.args == raised.args
    assert str(copy) == str(raised)
    assert vars(copy) == vars(raised)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__qualname__)
def test_an_error_says_whether_to_retry_and_what_to_do(error):
    """`retryable` is a fact of the class; the docstring tells the caller what it means."""
    assert isinstance(error.retryable, bool)
    assert len(error.__doc__) > 20


@pytest.mark.parametrize(
    ("version", "position", "said"),
    [(3, 17, "A/1 version 3 (position 17): rot"), (3, 0, "A/1 version 3: rot"), (0, 17, "A/1 (position 17): rot")],
)
def test_a_corrupt_record_tells_the_place_as_far_as_it_is_known(version, position, said):
    """No version and no position is 0."""
    assert str(CorruptRecord("A/1", version, position, "rot")) == said


@pytest.mark.parametrize("module", TREES, ids=lambda m: m.__name__)
def test_the_tree_drawn_at_the_top_names_every_error_of_the_file(module):
    """The drawing is what people read; it must not fall behind."""
    for error in ERRORS:
        if error.__module__ == module.__name__:
            assert error.__name__ in module.__doc__, error
