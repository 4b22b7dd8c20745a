"""`__all__` is the public surface: complete, true, and what the checks of others rely on."""

import importlib
import inspect
import pkgutil

import pytest

import holdfast.actors
import holdfast.journal
import holdfast.runtime

PACKAGES = [holdfast.journal, holdfast.actors, holdfast.runtime]
MODULES = [
    importlib.import_module(f"{package.__name__}.{info.name}")
    for package in PACKAGES
    for info in pkgutil.iter_modules(package.__path__)
]
each_module = pytest.mark.parametrize("module", [*PACKAGES, *MODULES], ids=lambda m: m.__name__)


@each_module
def test_all_names_exist_and_are_sorted(module):
    """A name in `__all__` that is not there breaks `import *`; an unsorted one hides."""
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda m: m.__name__)
def test_a_package_shows_no_public_class_or_function_beside_its_all(package):
    """What is importable from a package without an underscore is meant to be, or is a module of it."""
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    public = {name for name in dir(package) if not name.startswith(("_", "@"))} - modules  # "@": of pytest's rewriting
    assert public == set(package.__all__)


@each_module
def test_every_public_thing_says_what_it_is(module):
    """Modules, classes and functions in `__all__` have docstrings of their own."""
    assert module.__doc__
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{module.__name__}.{name}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda m: m.__name__)
def test_every_public_class_shows_more_of_itself_than_an_address(package):
    """A `repr` of its own, or that of a record; protocols and classes that are only described are left out."""
    classes = {name: getattr(package, name) for name in package.__all__}
    without = {
        name
        for name, thing in classes.items()
        if inspect.isclass(thing)
        and not inspect.isabstract(thing)
        and not getattr(thing, "_is_protocol", False)
        and thing.__repr__ is object.__repr__
    }
    assert without == set()


def test_no_repr_shows_a_password():
    """Neither of a runtime about to open, nor of a store, nor of a URL."""
    url = "postgres://ann:hunter2@db.example/bank"
    shown = [repr(holdfast.runtime.Runtime.open(url)), repr(holdfast.journal.open_store(url))]
    assert all("hunter2" not in each and "db.example" in each for each in shown), shown


def test_the_names_that_programs_rely_on_are_there():
    """The imports of the README's first program, and the way to open a runtime."""
    assert {"Aggregate", "Rejected", "command", "query", "event", "on"} <= set(holdfast.actors.__all__)
    assert {"Runtime", "Dedicated", "Sharded"} <= set(holdfast.runtime.__all__)
