"""The examples in the docstrings run, and say what comes out."""

import doctest
import importlib
import inspect
import pkgutil
from functools import cache

import pytest

import fastml

MODULES = ["fastml", *(found.name for found in pkgutil.walk_packages(fastml.__path__, "fastml."))]
PUBLIC = [
    "fastml",
    *(f"fastml.{name}" for name in ("boosting", "language", "losses", "mixture", "optim", "plot", "sklearn", "stream")),
]
FINDER = doctest.DocTestFinder(exclude_empty=True)


def imported(name):
    if name == "fastml.plot":  # imports without it, and draws with it
        pytest.importorskip("matplotlib")
    try:
        return importlib.import_module(name)
    except ImportError as error:  # an adapter's library, an extension that is not built
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [name for name in MODULES if "__main__" not in name])
def test_examples(name):
    failed, _ = doctest.testmod(imported(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


@cache
def examples(module):
    """What of a module has an example of which `test_examples` skips nothing, by qualified names."""
    tests = FINDER.find(importlib.import_module(module))
    skipped = {test.name for test in tests if any(doctest.SKIP in example.options for example in test.examples)}
    return {test.name for test in tests if test.examples} - skipped


def has_example(thing):
    return f"{thing.__module__}.{thing.__qualname__}" in examples(thing.__module__)


@pytest.mark.parametrize("name", PUBLIC)
def test_there_are_examples(name):
    """Of every public class and function, and of the classes' public methods; properties are at least explained."""
    module = imported(name)
    public = [thing for thing in map(vars(module).get, module.__all__) if callable(thing)]
    lacking = [thing.__qualname__ for thing in public if not has_example(thing)]
    for kind in filter(inspect.isclass, public):
        own = (base for base in kind.__mro__ if base.__module__.startswith("fastml."))  # not what scikit-learn has
        for base in own:
            for attribute, member in vars(base).items():
                if attribute.startswith("_"):
                    continue
                if isinstance(member, property):
                    explained = bool(member.__doc__)
                else:
                    member = getattr(member, "__func__", member)  # of a class method or a static one
                    explained = not inspect.isfunction(member) or has_example(member)
                if not explained:
                    lacking.append(f"{base.__qualname__}.{attribute}")
    assert not lacking
