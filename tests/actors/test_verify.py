"""Verifying with the code: which classes a module brings."""

from types import ModuleType

from holdfast.actors import Aggregate, Reaction
from holdfast.actors.verify import aggregates_in


class Base(Aggregate, abstract=True):
    """Only there for others."""


class Counter(Base):
    """One that can be used."""

    count: int = 0


def test_abstract_classes_of_a_module_are_passed_over():
    """A module that imports a base class, such as `Reaction`, gives those that can be used, and no error."""
    module = ModuleType("shop")
    vars(module).update(Base=Base, Counter=Counter, Reaction=Reaction, Aggregate=Aggregate)
    assert aggregates_in(module) == [Counter]
