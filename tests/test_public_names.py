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
    public = {name for name in dir(package) if not name.startswith("_")} - modules
    assert public == set(package.__all__)


@each_module
def test_every_public_thing_says_what_it_is(module):
    """Modules, classes and functions in `__all__` have docstrings of their own."""
    assert module.__doc__
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{module.__name__}.{name}"


def test_the_names_that_programs_rely_on_are_there():
    """The imports of the README's first program, and the way to open a runtime."""
    assert {"Aggregate", "Rejected", "command", "query", "event", "on"} <= set(holdfast.actors.__all__)
    assert {"Runtime", "Dedicated", "Sharded"} <= set(holdfast.runtime.__all__)
