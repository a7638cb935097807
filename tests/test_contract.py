"""What is written is what there is: the table of kernels, the functions' signatures, their docstrings."""

import ast
import importlib
import inspect
from itertools import pairwise
from pathlib import Path

import pytest

import fastml
from fastml import boosting, losses, mixture, optim
from fastml.kernels.table import BINS, FACTORS, KERNELS, Codes

PUBLIC = {
    f"{prefix}{name}": getattr(module, name)
    for prefix, module in (
        ("", fastml),
        ("mixture.", mixture),
        ("boosting.", boosting),
        ("losses.", losses),
        ("optim.", optim),
    )
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}
ROWS = [row.name for row in KERNELS]
LETTERS = {
    "rnn": "TBIH", "gru": "TBIH", "lstm": "TBIH", "gaussian": "NDK", "multinomial": "NKV", "samme": "N",
    "exponential": "NK", "tree": "NDKE", "softmax": "NVH", "adam": "N",
}  # fmt: skip
OF_DEPTH = "CPQLSM"  # of trees: channels, nodes, leaves and columns, which follow from K, E and the depth
DTYPES = ("intp", "float64", "int32", "uint8", "bool")


@pytest.mark.parametrize("kernel", ROWS)
@pytest.mark.parametrize("backend", fastml.backend.BACKENDS)
def test_kernel_takes_what_its_row_says(kernel, backend):
    """The row's inputs and then its outputs, by name, in order; `native`'s own by keyword alone."""
    row = KERNELS[kernel]
    reason = fastml.available()[kernel][backend]
    if reason:
        pytest.skip(reason)
    function = getattr(importlib.import_module(f"fastml.kernels.{backend}.{row.family}"), kernel)
    parameters = inspect.signature(function).parameters
    by_position = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    assert by_position == [*row.inputs, *row.outputs]
    own = [] if backend != "native" else ["isa", "packed"] if kernel.endswith("forward") else ["isa"]
    assert [name for name in parameters if name not in by_position] == own


@pytest.mark.parametrize("kernel", ROWS)
def test_row(kernel):
    row = KERNELS[kernel]
    assert row.source and row.name.startswith(row.family)
    assert set(row.tolerance) == {"float32", "float64"}
    assert not row.inputs.keys() & row.outputs.keys()
    for shape in (*row.inputs.values(), *row.outputs.values()):
        axes = shape.split()
        if len(axes) > 1 and axes[0] in DTYPES:
            del axes[0]
        letters = LETTERS[row.family] + OF_DEPTH * (row.family == "tree")
        assert shape in ("bool", "covariance_type", "codes", "criterion", "float64") or all(
            axis in ("factors", "1", str(BINS + 1)) or axis.removesuffix("+1")[-1] in letters for axis in axes
        )
    assert any("factors" in shape for shape in row.inputs.values()) == ("covariance_type" in row.inputs.values())
    for sizes in row.sizes.values():
        assert set(sizes) - {"depth"} == set(LETTERS[row.family]) and row.work(sizes) > 0
        assert ("depth" in sizes) == (row.family == "tree")


def test_statistics_are_float64():
    """Whatever the dtype of the rows that they are of; so are all sums of weights."""
    for row in (row for row in KERNELS if row.family != "tree"):
        wide = {name for name, shape in row.outputs.items() if shape.startswith("float64 ")}
        sums = {name for name, shape in row.outputs.items() if shape in ("1", "float64 1")}
        assert wide == (set(row.outputs) if row.name.endswith("_statistics") else sums)


def test_factors_are_shaped_as_covariances():
    assert tuple(FACTORS) == mixture.COVARIANCE_TYPES
    assert all(axis in LETTERS["gaussian"] for shape in FACTORS.values() for axis in shape.split())


def test_trees_know_no_dtype_but_of_rows():
    """Codes go in as they came out; what is of weights, or of nodes, is float64 whatever the rows are."""
    row = KERNELS["tree_encode"]
    assert tuple(row.outputs) == Codes._fields
    assert [name for name, axes in row.outputs.items() if axes == "D N"] == ["values"]
    for row in (row for row in KERNELS if row.family == "tree" and row.name != "tree_encode"):
        floating = {**row.inputs, **row.outputs}
        plain = [name for name, axes in floating.items() if axes.split()[0] not in DTYPES]
        assert set(plain) <= {"X", "codes", "criterion"}


def test_rows_are_found_by_name():
    assert len(set(KERNELS.names())) == len(KERNELS) and all(KERNELS[row.name] is row for row in KERNELS)


@pytest.mark.parametrize("kernel", ROWS)
def test_backward_mirrors_forward(kernel):
    """A gradient for every floating-point argument, in its shape; what was saved goes back in as it came out."""
    if not kernel.endswith("_backward"):
        pytest.skip("a forward kernel")
    back, forth = KERNELS[kernel], KERNELS[kernel.replace("backward", "forward")]
    differentiable = {name: shape for name, shape in forth.inputs.items() if shape != "bool" and "intp" not in shape}
    assert back.outputs == {f"d{name}": shape for name, shape in differentiable.items()}
    known = {**forth.inputs, **forth.outputs, **{f"d{name}": shape for name, shape in forth.outputs.items()}}
    assert all(known[name] == shape for name, shape in back.inputs.items())


def test_public_names():
    assert not {name for name in fastml.__all__ if not hasattr(fastml, name)}
    assert {row.name for row in KERNELS if row.family in ("rnn", "gru", "lstm")} <= set(fastml.__all__)
    for module in (mixture, boosting, losses, optim):
        assert not {name for name in module.__all__ if not hasattr(module, name)}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_function_is_annotated(name):
    signature = inspect.signature(PUBLIC[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize("name", PUBLIC)
def test_public_function_is_documented(name):
    """A one-line summary; every parameter under Parameters, and the sections that apply."""
    function = PUBLIC[name]
    lines = inspect.getdoc(function).splitlines()
    assert lines[0].endswith((".", ":")) and not (lines[1:] and lines[1])
    sections = {line for line, under in pairwise(lines) if under and set(under) == {"-"}}
    parameters = inspect.signature(function).parameters
    if name in ROWS:
        assert {"Parameters", "Returns", "Raises", "Notes", "References", "Examples"} <= sections
    if name.startswith(("mixture.", "boosting.", "losses.", "optim.")):
        assert {"Parameters", "Returns", "Raises", "Examples"} <= sections
    if parameters:
        assert "Parameters" in sections
        start = lines.index("Parameters") + 2
        end = (
            next((n for n, under in enumerate(lines) if n > start and under and set(under) == {"-"}), len(lines) + 1)
            - 1
        )
        described = ", ".join(
            line.partition(" :")[0] for line in lines[start:end] if line and not line.startswith(" ")
        ).split(", ")
        assert set(parameters) <= set(described)


def test_reference_has_no_other_kernels():
    """Every function of the reference's modules that the table lacks is no kernel."""
    kinds = tuple({f"_{row.name.partition('_')[2]}" for row in KERNELS})
    folder = Path(inspect.getfile(fastml)).parent / "kernels" / "reference"
    defined = {
        node.name
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith(kinds)
    }
    assert defined == set(ROWS)
