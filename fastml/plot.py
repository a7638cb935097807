"""Pictures of Gaussian mixtures, and of how their fits, boosting and training went, with matplotlib (the extra `plot`).

Each function draws on the Axes given and returns it. Without one it makes a figure of its own, which pyplot does not
know of: save it with `ax.figure.savefig(path)`. Colours are Okabe and Ito's, which the colour-blind can tell apart, and
each component has a marker besides.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check
from .mixture import log_density, marginal, responsibilities
from .mixture.gaussian import Gaussians, factors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["boosting_curve", "convergence", "mixture", "training_curve"]

Array = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*P"  # one more than colours: 42 components differ

POINTS = 200
"""Along an axis, evenly; each component adds its own every quarter of a standard deviation, so that none is missed."""
REACH = 3.5
"""Standard deviations from a mean that are in the picture: a density 457 times below the one there."""
NAMED = 10
"""Components up to which there is a legend."""


def mixture(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    covariance_type: str = "full",
    *,
    X: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    features: Sequence[int] = (0, 1),
    levels: int | ArrayLike = 8,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a Gaussian mixture in two features: rows, contours of the density, and ellipses of the components.

    What is drawn is the marginal of the mixture. A component's mean is a large marker, its ellipses are 1 (solid) and 2
    (dashed) standard deviations from it. In one feature it is curves instead, of the density (black) and of each
    component's share of it, over a stacked histogram of the rows.

    Parameters
    ----------
    weights, means, covariances, covariance_type
        As in `fastml.mixture.responsibilities`.
    X : array of shape (N, D) or None
        Rows to draw, coloured by component.
    labels : integers of shape (N,) or None
        The component of each row; None for the most probable one, by all D features.
    features : one or two integers
        Those to draw. Not read where D is 1.
    levels : int or array of shape (L,)
        Densities to draw contours at, increasing; or how many, of which the highest is half the largest density and
        each other one half of the next. Not used in one feature.
    ax : matplotlib.axes.Axes or None
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        As in `fastml.mixture.responsibilities` and `marginal`; or X is not finite, a label is no component's, there are
        more than two features, or `levels` do not increase from above 0. Nothing has been drawn then.

    Notes
    -----
    Cost: the density at (200 + 29·K)² points. Memory: about 50 bytes for each, and N·K numbers without `labels`.

    Examples
    --------
    >>> from fastml import plot
    >>> ax = plot.mixture([0.5, 0.5], [[0.0, 0.0], [4.0, 1.0]], [1.0, 2.0], "spherical")
    >>> len(ax.patches)
    4
    """
    given = check.arrays(X=X, weights=weights, means=means, covariances=covariances)
    X, weights, means, covariances = given.values()
    if means is not None and means.shape[1:] == (1,):
        features = (0,)
    drawn = marginal(weights, means, covariances, features, covariance_type)
    if len(features) > 2:
        raise ValueError(f"features: expected one or two, got {len(features)}")
    K, D = means.shape
    features = np.asarray(features) % D
    rows = None
    if X is not None:
        check.shape("X", X, "N D", {"D": (D, "means")})
        if not np.isfinite(X).all():
            raise ValueError("X: expected finite numbers")
        if labels is None:
            labels = responsibilities(X, weights, means, covariances, covariance_type)[0].argmax(axis=1)
        labels = _checked_labels(labels, len(X), K)
        rows = X[:, features].astype("float64")
    elif labels is not None:
        raise ValueError("labels: expected None without X")
    levels = _checked_levels(levels)
    weights, means, covariances = (array.astype("float64") for array in drawn)
    factors = factors_of(covariances, covariance_type)
    matrices = _matrices(covariances, covariance_type, *means.shape)
    deviations = np.sqrt(np.einsum("kgg->kg", matrices))
    seen = means if rows is None else np.concatenate([means, rows])
    axes = [_coordinates(*columns) for columns in zip(means.T, deviations.T, seen.T, strict=True)]

    ax = _axes(ax)
    if len(features) == 1:
        shares = weights * np.exp(log_density(axes[0][:, None], means, covariances, covariance_type))
        _draw_curves(ax, axes[0], shares, rows, labels)
        ax.set(xlabel=f"feature {features[0]}", ylabel="density")
    else:
        x, y = np.meshgrid(*axes)
        model = Gaussians(weights, means, factors, covariance_type, np.dtype("float64"))
        (logs,) = model.posterior(np.column_stack([x.ravel(), y.ravel()]), "log_likelihood")
        density = np.exp(logs).reshape(x.shape)
        if isinstance(levels, int):
            levels = density.max() / 2.0 ** np.arange(levels, 0, -1)
        ax.contour(x, y, density, levels, colors="0.55", linewidths=0.7)
        _draw_components(ax, means, matrices, rows, labels)
        ax.set(xlabel=f"feature {features[0]}", ylabel=f"feature {features[1]}")
    if K <= NAMED:
        few = rows is None or len(rows) <= 10_000  # "best" compares with every row
        ax.legend(fontsize=8, loc="best" if few else "upper right")
    return ax


def _checked_labels(labels: ArrayLike, N: int, K: int) -> NDArray[np.integer]:
    found = check.integers("labels", labels)
    check.shape("labels", found, "N", {"N": (N, "X")})
    wrong = (found < 0) | (found >= K)
    if wrong.any():
        raise ValueError(f"labels: expected components from 0 to {K - 1}, got {found[wrong][0]}")
    return found


def _checked_levels(levels: int | ArrayLike) -> int | Array:
    if isinstance(levels, Integral):
        return check.integer("levels", levels, 1)
    if levels is None:
        raise TypeError("levels: expected an integer or an array, got None")
    found = check.arrays(levels=levels)["levels"]
    check.shape("levels", found, "L", {})
    if not (len(found) and (np.diff(found, prepend=0) > 0).all() and found[-1] < np.inf):
        raise ValueError(f"levels: expected increasing densities above 0, got {levels!r}")
    return found


def _matrices(covariances: Array, covariance_type: str, K: int, G: int) -> Array:
    """(K, G, G), whatever the type."""
    if covariance_type in ("full", "tied"):
        return np.broadcast_to(covariances, (K, G, G))
    variances = covariances if covariance_type == "diag" else covariances[:, None]
    return variances[:, None] * np.eye(G)


def _coordinates(means: Array, deviations: Array, seen: Array) -> Array:
    """Of the grid's lines along one feature, those that are `seen` within."""
    near = (means + deviations * np.arange(-REACH, REACH + 0.25, 0.25)[:, None]).ravel()
    low, high = min(seen.min(), near.min()), max(seen.max(), near.max())
    return np.union1d(np.linspace(low, high, POINTS), near)


def _style(k: int) -> dict[str, str]:
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}


def _draw_components(
    ax: "Axes", means: Array, matrices: Array, rows: Array | None, labels: NDArray[np.integer] | None
) -> None:
    from matplotlib.patches import Ellipse

    for k, (mean, matrix) in enumerate(zip(means, matrices, strict=True)):
        style = _style(k)
        if rows is not None:
            ax.plot(*rows[labels == k].T, **style, linestyle="", markersize=4, markeredgewidth=0, alpha=0.5)
        variances, directions = np.linalg.eigh(matrix)
        angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
        for n, line in ((1, "-"), (2, "--")):
            width, height = 2 * n * np.sqrt(np.maximum(variances, 0))  # rounding may leave -1e-17
            outline = {"edgecolor": style["color"], "linestyle": line, "linewidth": 1.5, "zorder": 3}
            ax.add_patch(Ellipse(mean, width, height, angle=angle, fill=False, **outline))
        edge = {"markersize": 9, "markeredgecolor": "black", "zorder": 4}
        ax.plot(*mean[:, None], **style, **edge, linestyle="", label=f"component {k}")


def _draw_curves(ax: "Axes", x: Array, shares: Array, rows: Array | None, labels: NDArray[np.integer] | None) -> None:
    K = shares.shape[1]
    colours = [_style(k)["color"] for k in range(K)]
    if rows is not None and len(rows):
        parts = [rows[labels == k, 0] for k in range(K)]
        bins = int(np.clip(np.sqrt(len(rows)), 10, 100))
        ax.hist(parts, bins, density=True, stacked=True, color=colours, alpha=0.4)
    for k, colour in enumerate(colours):
        ax.plot(x, shares[:, k], color=colour, linewidth=1.5, label=f"component {k}")
    ax.plot(x, shares.sum(axis=1), color="black", linewidth=1, linestyle="--", label="mixture")


def convergence(lower_bounds: ArrayLike, *, tol: float | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the mean log-likelihood by iteration, and on a second axis, logarithmic, what each iteration gained.

    Parameters
    ----------
    lower_bounds : array of shape (n_iter,)
        Mean log-likelihoods of a row, in nats: `lower_bounds_` of `fastml.sklearn.GaussianMixture`, or what
        `fastml.mixture.em_step` returns.
    tol : float or None
        The gain that the fit stopped below, drawn as a line.
    ax : matplotlib.axes.Axes or None
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        That of the log-likelihood, numbered from 1; the gains' is the last of `ax.figure.axes`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        `lower_bounds` are not finite numbers in one axis, at least one of them, or `tol` is not above 0.

    Notes
    -----
    A gain is drawn at the later of its two iterations. Losses, which `reg_covar` may cause, are drawn as black
    triangles at their size; a gain of 0 is not drawn.

    Examples
    --------
    >>> from fastml import plot
    >>> ax = plot.convergence([-2.0, -1.5, -1.4])
    >>> ax.lines[0].get_ydata().tolist()
    [-2.0, -1.5, -1.4]
    """
    if lower_bounds is None:
        raise TypeError("lower_bounds: expected an array, got None")
    bounds = check.arrays(lower_bounds=lower_bounds)["lower_bounds"]
    check.shape("lower_bounds", bounds, "N", {})
    if not (len(bounds) and np.isfinite(bounds).all()):
        raise ValueError(f"lower_bounds: expected finite numbers, at least one, got {lower_bounds!r}")
    if tol is not None and not (isinstance(tol, Real) and 0 < tol < np.inf):
        raise ValueError(f"tol: expected a number above 0, got {tol!r}")
    ax = _axes(ax)
    from matplotlib.ticker import MaxNLocator

    blue, red = COLOURS[:2]
    iterations = np.arange(1, len(bounds) + 1)
    ax.plot(iterations, bounds, color=blue, marker="o", markersize=4)
    ax.set_xlabel("iteration")
    ax.set_ylabel("mean log-likelihood (nats)", color=blue)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    beside = ax.twinx()
    beside.set_yscale("log")
    beside.set_ylabel("gain (nats)", color=red)
    gains = np.diff(bounds)
    beside.plot(iterations[1:][gains > 0], gains[gains > 0], color=red, marker="s", markersize=4, linestyle="--")
    if (gains < 0).any():
        losses = iterations[1:][gains < 0], -gains[gains < 0]
        beside.plot(*losses, color="black", marker="v", markersize=6, linestyle="")
        beside.set_ylabel("gain, ▼ loss (nats)", color=red)
    if tol is not None:
        beside.axhline(tol, color="black", linewidth=1, linestyle=":")
        # In the middle there is room: gains are above it, and the log-likelihood at its height.
        middle = {"xycoords": beside.get_yaxis_transform(), "textcoords": "offset points", "ha": "center"}
        beside.annotate(f"tol = {tol:g}", (0.5, tol), (0, 3), fontsize=8, **middle)
    return ax


def boosting_curve(train: ArrayLike, validation: ArrayLike | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the error or loss of boosting by round, and on a second axis the score of rows that were held out.

    Parameters
    ----------
    train : array of shape (rounds,)
        Errors or losses of the rows that were fitted: `train_loss_` of `fastml.sklearn.AdaBoostClassifier`, or 1 less
        what its `staged_score` gives.
    validation : array of shape (rounds,) or None
        Scores: its `validation_scores_`. The best one, where `early_stopping` cuts the ensemble, is marked.
    ax : matplotlib.axes.Axes or None
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        That of the error, numbered from 1; the scores' is the last of `ax.figure.axes`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        `train` or `validation` are not finite numbers in one axis, at least one of them.

    Examples
    --------
    >>> from fastml import plot
    >>> ax = plot.boosting_curve([0.9, 0.7, 0.6], [0.8, 0.9, 0.85])
    >>> ax.figure.axes[1].lines[0].get_ydata().tolist()
    [0.8, 0.9, 0.85]
    """
    curves = []
    for name, value in (("train", train), ("validation", validation)):
        if value is None and name == "train":
            raise TypeError("train: expected an array, got None")
        found = check.arrays(**{name: value})[name]
        if found is not None:
            check.shape(name, found, "N", {})
            if not (len(found) and np.isfinite(found).all()):
                raise ValueError(f"{name}: expected finite numbers, at least one, got {value!r}")
        curves.append(found)
    train, validation = curves
    ax = _axes(ax)
    from matplotlib.ticker import MaxNLocator

    blue, red = COLOURS[:2]
    ax.plot(np.arange(1, len(train) + 1), train, color=blue, marker="o", markersize=3)
    ax.set_xlabel("round")
    ax.set_ylabel("error of the fitted rows", color=blue)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if validation is not None:
        beside = ax.twinx()
        beside.set_ylabel("score of the rows held out", color=red)
        rounds, best = np.arange(1, len(validation) + 1), int(validation.argmax())
        beside.plot(rounds, validation, color=red, marker="s", markersize=3, linestyle="--")
        beside.plot([best + 1], [validation[best]], color="black", marker="v", markersize=8, linestyle="")
    return ax


def training_curve(
    training: ArrayLike, validation: ArrayLike | None = None, *, against: str = "characters", ax: "Axes | None" = None
) -> "Axes":
    """Draw the bits per character of a language model as it is trained.

    Parameters
    ----------
    training : array of shape (steps, 3)
        `training_curve` of `fastml.language.Trainer`: characters, seconds and bits per character of each step, drawn as
        they are, thin, and as their mean over a 50th of all steps.
    validation : array of shape (validations, 3) or None
        Its `validation_curve`.
    against : {"characters", "minutes"}
        The horizontal axis.
    ax : matplotlib.axes.Axes or None
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        A curve is not of finite numbers in such a shape, `training` has no row, or `against` is neither.

    Examples
    --------
    >>> from fastml import plot
    >>> ax = plot.training_curve([[100, 1, 8.0], [200, 2, 6.0]], [[200, 2, 6.5]])
    >>> ax.lines[-1].get_ydata().tolist()
    [6.5]
    """
    if against not in ("characters", "minutes"):
        raise ValueError(f"against: expected 'characters' or 'minutes', got {against!r}")
    curves = []
    for name, value in (("training", training), ("validation", validation)):
        if value is None and name == "training":
            raise TypeError("training: expected an array, got None")
        found = np.empty((0, 3)) if value is None else check.arrays(**{name: value})[name]
        if found.ndim != 2 or found.shape[1] != 3:
            raise ValueError(f"{name}: expected shape (N, 3), got {found.shape}")
        if not np.isfinite(found).all() or (name == "training" and not len(found)):
            raise ValueError(f"{name}: expected finite numbers, at least one row, got {value!r}")
        curves.append(found)
    training, validation = curves
    ax = _axes(ax)
    blue, red = COLOURS[:2]
    column, unit = (0, 1.0) if against == "characters" else (1, 60.0)
    x, bits = training[:, column] / unit, training[:, 2]
    width = max(1, len(bits) // 50)
    if width > 1:
        ax.plot(x, bits, color=blue, linewidth=0.5, alpha=0.3)
        bits = np.convolve(bits, np.full(width, 1 / width), "valid")
    ax.plot(x[width - 1 :], bits, color=blue, label="training")
    if len(validation):
        ax.plot(validation[:, column] / unit, validation[:, 2], color=red, marker="s", markersize=4, label="held out")
    ax.set(xlabel="characters read" if against == "characters" else "minutes of training", ylabel="bits per character")
    ax.legend(fontsize=8)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    """With the grid of all pictures."""
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("fastml.plot needs matplotlib: pip install fastml[plot]") from error
    if ax is None:
        ax = Figure(figsize=(5, 4), layout="constrained").add_subplot()
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax: expected matplotlib Axes or None, got {type(ax).__name__}")
    ax.grid(which="both", alpha=0.25)
    ax.set_axisbelow(True)
    return ax
