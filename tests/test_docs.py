"""The examples in the docstrings run, and say what comes out."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fastml
from fastml import boosting, losses, mixture, optim

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
    for module in (mixture, boosting, losses, optim):
        functions += filter(inspect.isfunction, map(vars(module).get, module.__all__))
    for function in functions:
        assert any(test.examples for test in finder.find(function)), function.__name__
