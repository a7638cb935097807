"""Pictures of mixtures: what is drawn is what the numbers say."""

import doctest
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import pyplot
from matplotlib.collections import PathCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fastml import mixture, plot

BENCH = Path(__file__).parent.parent / "bench"
TYPES = mixture.COVARIANCE_TYPES


@pytest.fixture(autouse=True)
def no_figure_left_open():
    pyplot.switch_backend("agg")
    yield
    assert pyplot.get_fignums() == []


def problem(K, D, covariance_type="full", dtype="float64", N=60):
    """(weights, means, covariances), the covariances as full matrices, and rows."""
    random = np.random.default_rng(K * 10 + D)
    weights = random.uniform(0.5, 1.5, K)
    means = 4 * random.normal(size=(K, D))
    a = random.normal(size=(K, D, D))
    full = a @ a.swapaxes(1, 2) + 0.2 * np.eye(D)
    covariances = {
        "full": full, "tied": full[0], "diag": np.einsum("kdd->kd", full), "spherical": full[:, 0, 0],
    }[covariance_type]  # fmt: skip
    matrices = {
        "full": full,
        "tied": np.array([full[0]] * K),
        "diag": np.array([np.diag(np.diag(f)) for f in full]),
        "spherical": np.array([f[0, 0] * np.eye(D) for f in full]),
    }[covariance_type]
    parameters = tuple(np.asarray(array, dtype) for array in (weights / weights.sum(), means, covariances))
    X = means[np.arange(N) % K] + random.normal(size=(N, D))
    return parameters, matrices, X.astype(dtype)


def density(x, weights, means, matrices):
    """Of points (M, G), (M,)."""
    found = np.zeros(len(x))
    for weight, mean, matrix in zip(weights, means, matrices, strict=True):
        d = x - mean
        distance = np.einsum("md,de,me->m", d, np.linalg.inv(matrix), d)
        found += weight * np.exp(-distance / 2) / np.sqrt(np.linalg.det(2 * np.pi * matrix))
    return found


def contours(ax):
    (found,) = (c for c in ax.collections if isinstance(c, ContourSet))
    return found


def points(ax):
    """The rows drawn, by component: the lines that no legend names."""
    return [line.get_xydata() for line in ax.lines if line.get_label().startswith("_")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(("K", "D", "features"), [(1, 2, (0, 1)), (3, 2, (1, 0)), (4, 5, (3, 1)), (2, 5, (-1, 0))])
def test_two_features(K, D, features, covariance_type, dtype):
    parameters, matrices, X = problem(K, D, covariance_type, dtype)
    before = [array.copy() for array in (*parameters, X)]
    ax = plot.mixture(*parameters, covariance_type, X=X, features=features)
    assert all(map(np.array_equal, before, (*parameters, X)))

    kept = np.array(features)
    weights, means = parameters[0], parameters[1][:, kept]
    matrices = matrices[:, kept[:, None], kept]
    assert len(ax.patches) == 2 * K and all(isinstance(patch, Ellipse) for patch in ax.patches)
    circle = np.exp(2j * np.pi * np.arange(16) / 16)
    for n, patch in enumerate(ax.patches):
        k, deviations = n // 2, 1 + n % 2
        d = patch.get_patch_transform().transform(np.column_stack([circle.real, circle.imag])) - means[k]
        distance = np.sqrt(np.einsum("md,de,me->m", d, np.linalg.inv(matrices[k]), d))
        np.testing.assert_allclose(distance, deviations, rtol=1e-5 if dtype == "float32" else 1e-10)
        assert patch.get_linestyle() == ("-" if deviations == 1 else "--") and not patch.get_fill()

    found = contours(ax)
    np.testing.assert_allclose(found.levels[1:] / found.levels[:-1], 2)
    assert len(found.levels) == 8
    peak = density(means.astype("float64"), weights, means, matrices).max()
    assert peak * 0.999 < 2 * found.levels[-1] < peak * 1.1  # between components it may be higher than at a mean
    for level, path in zip(found.levels, found.get_paths(), strict=True):
        assert len(path.vertices)
        np.testing.assert_allclose(
            density(path.vertices, weights, means, matrices), level, rtol=0.1
        )  # linear in a cell

    labels = mixture.responsibilities(X, *parameters, covariance_type)[0].argmax(axis=1)
    for k, drawn in enumerate(points(ax)):
        assert np.array_equal(drawn, X[labels == k][:, kept])
    assert len(points(ax)) == K
    marked = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in marked] == [f"component {k}" for k in range(K)]
    assert np.array_equal(np.concatenate([line.get_xydata() for line in marked]), means)
    assert (ax.get_xlabel(), ax.get_ylabel()) == tuple(f"feature {n % D}" for n in features)
    everything = np.concatenate([X[:, kept], means])
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert ((everything >= [left, bottom]) & (everything <= [right, top])).all()


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(("K", "D", "features"), [(1, 1, (0, 1)), (3, 1, (0, 1)), (3, 5, [4])])
def test_one_feature(K, D, features, covariance_type):
    parameters, matrices, X = problem(K, D, covariance_type)
    ax = plot.mixture(*parameters, covariance_type, X=X, features=features)
    d = 0 if D == 1 else features[0]
    weights, means, matrices = parameters[0], parameters[1][:, [d]], matrices[:, [d]][:, :, [d]]
    *shares, total = ax.lines
    assert [line.get_label() for line in ax.lines] == [*(f"component {k}" for k in range(K)), "mixture"]
    for k, line in enumerate(shares):
        x, y = line.get_data()
        one = slice(k, k + 1)
        np.testing.assert_allclose(y, density(x[:, None], weights[one], means[one], matrices[one]), atol=1e-12)
        assert means[k, 0] in x
    x, y = total.get_data()
    np.testing.assert_allclose(y, density(x[:, None], weights, means, matrices), atol=1e-12)
    assert np.diff(x) @ (y[1:] + y[:-1]) / 2 == pytest.approx(1, abs=5e-3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"feature {d}", "density")
    area = sum(bar.get_width() * bar.get_height() for bar in ax.patches)
    assert len(ax.patches) == 10 * K and area == pytest.approx(1)
    assert min(bar.get_x() for bar in ax.patches) == pytest.approx(X[:, d].min())


def test_a_narrow_component_is_not_missed():
    """Of a ten-thousandth of the picture's width: between two of the grid's even lines."""
    parameters = [0.5, 0.5], [[0.0, 0.0], [33.3, 33.3]], [100.0, 1e-6]
    found = contours(plot.mixture(*parameters, "spherical"))
    assert 2 * found.levels[-1] == pytest.approx(0.5 / (2 * np.pi * 1e-6), rel=1e-3)
    y = plot.mixture([0.5, 0.5], [[0.0], [33.3]], [100.0, 1e-6], "spherical").lines[-1].get_ydata()
    assert y.max() == pytest.approx(0.5 / np.sqrt(2 * np.pi * 1e-6), rel=0.1)


def test_an_almost_singular_covariance():
    """Positive definite to Cholesky, with an eigenvalue below 0 to eigh: OpenBLAS's gave -7e-15 of the first one."""
    for a, b, c in (
        (33307.377687533684, 1289.2971411121314, 49.907474964685605),
        (0.2353692225018689, 0.03000849469899597, 0.0038259452299143275),
    ):
        ax = plot.mixture([1.0], [[0.0, 0.0]], [[[a, b], [b, c]]])
        for deviations, patch in enumerate(ax.patches, 1):
            assert patch.height == pytest.approx(2 * deviations * np.sqrt(a + c))
            assert 0 <= patch.width < 1e-6 * patch.height


def test_labels_colour_the_rows():
    parameters, _, X = problem(3, 2)
    labels = np.arange(len(X)) % 2 * 2  # none is 1
    drawn = points(plot.mixture(*parameters, X=X, labels=labels))
    assert [np.array_equal(rows, X[labels == k]) for k, rows in enumerate(drawn)] == [True, True, True]
    bars = plot.mixture(*problem(3, 1)[0], X=X[:, :1], labels=labels).patches
    assert sum(bar.get_height() for bar in bars[10:20]) == 0 < sum(bar.get_height() for bar in bars[20:])


def test_components_differ_without_colour():
    ax = plot.mixture(*problem(9, 2)[0], X=problem(9, 2)[2])
    styles = {(line.get_color(), line.get_marker()) for line in ax.lines}
    assert len(styles) == 9 and len({marker for _, marker in styles}) == 7
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"component {k}" for k in range(9)]
    assert plot.mixture(*problem(11, 2)[0]).get_legend() is None


def test_levels():
    parameters, *_ = problem(2, 2)
    assert len(contours(plot.mixture(*parameters, levels=3)).levels) == 3
    assert contours(plot.mixture(*parameters, levels=[0.001, 0.004])).levels.tolist() == [0.001, 0.004]


@pytest.mark.parametrize("D", [1, 2])
def test_without_rows(D):
    parameters, *_ = problem(2, D)
    for ax in (plot.mixture(*parameters), plot.mixture(*parameters, X=np.empty((0, D)))):
        assert all(len(rows) == 0 for rows in points(ax))
        assert not any(isinstance(c, PathCollection) for c in ax.collections)
        assert len(ax.patches) == (0 if D == 1 else 4)


def test_many_rows_and_lists():
    X = np.random.default_rng(0).normal(size=(10_001, 2))
    assert plot.mixture([1.0], [[0, 0]], [1], "spherical", X=X).get_legend()._loc == 1
    ax = plot.mixture([1], [[0]], [4], "spherical", X=[[1], [2]], labels=[0, 0])
    assert len(ax.patches) == 10


def test_on_given_axes():
    left, right = Figure().subplots(1, 2)
    assert plot.mixture(*problem(2, 2)[0], ax=left) is left and left.patches
    assert plot.convergence([-2.0, -1.0], ax=right) is right and right.lines
    ax = plot.mixture(*problem(2, 2)[0])
    assert ax.figure.axes == [ax]


def test_it_can_be_saved(tmp_path):
    for n, ax in enumerate(
        [
            plot.mixture(*problem(3, 5)[0], X=problem(3, 5)[2]),
            plot.mixture(*problem(3, 1)[0], X=problem(3, 1)[2]),
            plot.convergence([-1.0, -2.0, -0.5, -0.5], tol=1e-3),
            plot.convergence([-1.0]),
        ]
    ):
        ax.figure.savefig(tmp_path / f"{n}.png")
        assert (tmp_path / f"{n}.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------------------------------------------------- convergence


def test_convergence():
    bounds = [-3.0, -2.0, -1.5, -1.5, -1.6, -1.5]
    ax = plot.convergence(bounds, tol=0.01)
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6] and line.get_ydata().tolist() == bounds
    first, beside = ax.figure.axes
    assert first is ax and ax.get_yscale() == "linear" and beside.get_yscale() == "log"
    gains, losses, tol = beside.lines
    assert gains.get_xdata().tolist() == [2, 3, 6]
    np.testing.assert_allclose(gains.get_ydata(), [1, 0.5, 0.1])
    assert losses.get_xdata().tolist() == [5] and losses.get_ydata() == pytest.approx([0.1])
    assert "loss" in beside.get_ylabel()
    assert list(tol.get_ydata()) == [0.01, 0.01] and [text.get_text() for text in beside.texts] == ["tol = 0.01"]


def test_convergence_of_a_fit():
    """By `em_step`: gains alone, on the logarithmic axis."""
    (weights, means, covariances), _, X = problem(3, 2)
    bounds = []
    for _ in range(6):
        weights, means, covariances, bound = mixture.em_step(X, weights, means, covariances, reg_covar=0)
        bounds.append(bound)
    beside = plot.convergence(np.array(bounds)).figure.axes[1]
    (gains,) = beside.lines
    np.testing.assert_allclose(gains.get_ydata(), np.diff(bounds))
    assert "loss" not in beside.get_ylabel()


# ------------------------------------------------------------------------------------------------------------- boosting


def test_boosting_curve(tmp_path):
    ax = plot.boosting_curve([0.9, 0.7, 0.6], [0.5, 0.75, 0.75])
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [0.9, 0.7, 0.6]
    first, beside = ax.figure.axes
    assert first is ax and beside.get_ylabel() == "score of the rows held out"
    scores, best = beside.lines
    assert scores.get_ydata().tolist() == [0.5, 0.75, 0.75]
    assert best.get_xdata() == [2] and best.get_ydata() == [0.75]  # the first of equals, where a fit is cut
    ax.figure.savefig(tmp_path / "curve.png")
    given = Figure().add_subplot()
    assert plot.boosting_curve([0.5], ax=given) is given and given.figure.axes == [given]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train": None}, TypeError, "train: expected an array, got None"),
        ({"train": []}, ValueError, "train: expected finite numbers, at least one"),
        ({"train": [[0.1]]}, ValueError, "train: expected shape"),
        ({"train": [0.1], "validation": [np.nan]}, ValueError, "validation: expected finite numbers"),
        ({"train": [0.1], "validation": "high"}, TypeError, "validation: expected float32 or float64"),
        ({"train": [0.1], "ax": Figure()}, TypeError, "ax: expected matplotlib Axes or None, got Figure"),
    ],
)
def test_errors_of_boosting_curve(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.boosting_curve(**arguments)


# ------------------------------------------------------------------------------------------------------------- training


def test_training_curve(tmp_path):
    rows = np.column_stack([np.arange(1, 201) * 1e3, np.arange(1, 201) * 3.0, 8 - np.arange(200) / 50])
    held = rows[99::100] + np.array([0, 0, 0.5])
    for against, x in (("characters", rows[:, 0]), ("minutes", rows[:, 1] / 60)):
        ax = plot.training_curve(rows, held, against=against)
        each, mean, validation = ax.lines
        np.testing.assert_array_equal(each.get_xdata(), x)
        np.testing.assert_array_equal(each.get_ydata(), rows[:, 2])
        np.testing.assert_array_equal(mean.get_xdata(), x[3:])
        np.testing.assert_allclose(mean.get_ydata(), rows[3:, 2] + 1.5 / 50)  # of a step and the three before it
        np.testing.assert_array_equal(validation.get_xdata(), x[99::100])
        np.testing.assert_array_equal(validation.get_ydata(), held[:, 2])
        assert against in ax.get_xlabel()
    ax.figure.savefig(tmp_path / "curve.png")
    given = Figure().add_subplot()
    assert plot.training_curve(rows[:3], ax=given) is given and len(given.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"training": None}, TypeError, "training: expected an array, got None"),
        ({"training": np.empty((0, 3))}, ValueError, "training: expected finite numbers, at least one row"),
        ({"training": [1.0, 2.0]}, ValueError, r"training: expected shape \(N, 3\), got \(2,\)"),
        ({"validation": [[1.0, 1.0, np.nan]]}, ValueError, "validation: expected finite numbers"),
        ({"against": "steps"}, ValueError, "against: expected 'characters' or 'minutes', got 'steps'"),
        ({"ax": Figure()}, TypeError, "ax: expected matplotlib Axes or None, got Figure"),
    ],
)
def test_errors_of_training_curve(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.training_curve(**{"training": [[1.0, 1.0, 1.0]], **arguments})


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": [0.5, 0.6]}, ValueError, "weights: expected numbers of at least 0"),
        ({"means": None}, TypeError, "means: expected an array, got None"),
        ({"means": [0.0, 1.0]}, ValueError, "means: expected shape"),
        ({"covariances": np.ones((2, 2))}, ValueError, "covariances: expected shape"),
        ({"covariances": -np.ones((2, 3, 3))}, ValueError, "covariances: expected positive definite"),
        ({"covariance_type": "round"}, ValueError, "covariance_type: expected one of"),
        ({"features": (0, 3)}, ValueError, "features: expected features below D = 3, got 3"),
        ({"features": (1, 1)}, ValueError, "features: expected each feature once"),
        ({"features": (0, 1, 2)}, ValueError, "features: expected one or two, got 3"),
        ({"features": (0.0, 1.0)}, TypeError, "features: expected integers"),
        ({"X": np.zeros((4, 2))}, ValueError, r"X: expected shape \(N, D\) with D = 3 \(from means\)"),
        ({"X": np.zeros((4, 3), "float32")}, TypeError, "weights: expected float32 as X, got float64"),
        ({"X": np.full((4, 3), np.nan)}, ValueError, "X: expected finite numbers"),
        ({"X": np.zeros((4, 3)), "labels": [0, 1]}, ValueError, r"labels: expected shape \(N,\) with N = 4"),
        ({"X": np.zeros((1, 3)), "labels": [2]}, ValueError, "labels: expected components from 0 to 1, got 2"),
        ({"X": np.zeros((1, 3)), "labels": [-1]}, ValueError, "labels: expected components from 0 to 1, got -1"),
        ({"X": np.zeros((1, 3)), "labels": [0.5]}, TypeError, "labels: expected integers"),
        ({"labels": [0, 1]}, ValueError, "labels: expected None without X"),
        ({"levels": 0}, ValueError, "levels: expected an integer of at least 1"),
        ({"levels": True}, TypeError, "levels: expected an integer"),
        ({"levels": None}, TypeError, "levels: expected an integer or an array"),
        ({"levels": []}, ValueError, "levels: expected increasing densities"),
        ({"levels": [0.2, 0.1]}, ValueError, "levels: expected increasing densities"),
        ({"levels": [0.0, 0.1]}, ValueError, "levels: expected increasing densities"),
        ({"levels": [0.1, np.nan]}, ValueError, "levels: expected increasing densities"),
    ],
)
def test_errors(change, error, message):
    """And nothing is drawn."""
    ax = Figure().add_subplot()
    (weights, means, covariances), *_ = problem(2, 3)
    arguments = {"weights": weights, "means": means, "covariances": covariances, "ax": ax} | change
    with pytest.raises(error, match=message):
        plot.mixture(**arguments)
    assert not ax.has_data()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lower_bounds": None}, TypeError, "lower_bounds: expected an array, got None"),
        ({"lower_bounds": []}, ValueError, "lower_bounds: expected finite numbers, at least one"),
        ({"lower_bounds": [[1.0]]}, ValueError, "lower_bounds: expected shape"),
        ({"lower_bounds": [-np.inf, 0.0]}, ValueError, "lower_bounds: expected finite numbers"),
        ({"lower_bounds": [0.0], "tol": 0}, ValueError, "tol: expected a number above 0, got 0"),
        ({"lower_bounds": [0.0], "tol": "1"}, ValueError, "tol: expected a number above 0, got '1'"),
        ({"lower_bounds": [0.0], "ax": Figure()}, TypeError, "ax: expected matplotlib Axes or None, got Figure"),
    ],
)
def test_errors_of_convergence(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.convergence(**arguments)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    for draw in (lambda: plot.convergence([0.0]), lambda: plot.mixture(*problem(2, 2)[0])):
        with pytest.raises(ImportError, match=r"pip install fastml\[plot\]"):
            draw()


def test_matplotlib_is_imported_by_drawing_alone():
    code = "import sys, fastml, fastml.plot; assert not [n for n in sys.modules if n.startswith('matplotlib')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


# ------------------------------------------------------------------------------------------------------------- examples


def test_examples():
    """Those of the docstrings, which `test_docs.py` skips, as it runs without matplotlib too."""
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(plot):
        for example in test.examples:
            example.options.pop(doctest.SKIP, None)
        runner.run(test)
    assert runner.summarize(verbose=False) == (0, 12)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_the_picture_of_the_readme(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(BENCH)
    example = importlib.import_module("example_mixture")
    pictures = []
    for name in ("a.png", "b.png"):
        assert example.main(["--output", str(tmp_path / name)]) == 0
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1] and pictures[0][:4] == b"\x89PNG" and len(pictures[0]) < 120_000
    assert "adjusted Rand index with the species 0.904" in capsys.readouterr().out
