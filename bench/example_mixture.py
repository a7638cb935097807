"""Three Gaussians fitted to Fisher's irises: contours of the fitted mixture, and how the fit converged.

    python bench/example_mixture.py [--output mixture.png]

The 150 flowers have 4 features; the picture is of the marginal of the lengths and widths of petals. Full covariances,
ten starts of k-means, the best kept. The fit is not told the species; it prints how well its components agree with
them.
"""

import argparse
import sys
from pathlib import Path

from fastml import plot
from fastml.sklearn import GaussianMixture

FEATURES = (2, 3)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("mixture.png"), metavar="FILE", help="the picture to write")
    arguments = parser.parse_args(argv)
    figure, text = example()
    figure.savefig(arguments.output, format="png", dpi=100, pil_kwargs={"optimize": True})
    print(text)
    return 0


def example():
    """The figure, and a line about the fit."""
    from matplotlib.figure import Figure
    from sklearn.datasets import load_iris
    from sklearn.metrics import adjusted_rand_score

    iris = load_iris()
    fitted = GaussianMixture(3, covariance_type="full", n_init=10, tol=1e-6, random_state=0).fit(iris.data)
    parameters = fitted.weights_, fitted.means_, fitted.covariances_

    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    left, right = figure.subplots(1, 2)
    plot.mixture(*parameters, fitted.covariance_type, X=iris.data, features=FEATURES, ax=left)
    names = dict(zip(("xlabel", "ylabel"), (iris.feature_names[n] for n in FEATURES), strict=True))
    left.set(**names)
    left.set_title("density, and ellipses of 1 and 2 deviations", fontsize=10)
    plot.convergence(fitted.lower_bounds_, tol=fitted.tol, ax=right)
    right.set_title(f"convergence of the best of {fitted.n_init} starts", fontsize=10)

    agreement = adjusted_rand_score(iris.target, fitted.predict(iris.data))
    return figure, (
        f"{fitted.n_iter_} iterations, mean log-likelihood {fitted.lower_bound_:.4f}, "
        f"adjusted Rand index with the species {agreement:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
