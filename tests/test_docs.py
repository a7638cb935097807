"""The examples in the docstrings run, and say what comes out."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fastml
from fastml import boosting, language, losses, mixture, optim

MODULES = ["fastml", *(found.name for found in pkgutil.walk_packages(fastml.__path__, "fastml."))]


@pytest.mark.parametrize("name", [name for name in MODULES if "__main__" not in name])
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:  # an adapter's library, an extension that is not built
        pytest.skip(str(error))
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


def test_there_are_examples():
    """Every kernel's public function has one that was found."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    functions = [
        getattr(importlib.import_module(f"fastml.{name}"), f"{name}_forward") for name in ("lstm", "gru", "rnn")
    ]
    for module in (mixture, boosting, losses, optim, language):
        functions += filter(inspect.isroutine, map(vars(module).get, module.__all__))
    for function in functions:
        assert any(test.examples for test in finder.find(function)), function.__name__


@pytest.mark.parametrize("kind", [language.RecurrentLM, language.Trainer, language.UnigramLM, optim.Adam])
def test_classes_have_examples(kind):
    """Each one, and each of its public methods; properties are at least explained."""
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=False)
    assert any(test.examples for test in finder.find(kind))
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            assert member.__doc__, name
        elif inspect.isroutine(getattr(kind, name)):
            assert any(test.examples for test in finder.find(getattr(kind, name), name)), name
