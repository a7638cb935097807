"""scikit-learn's own tests of its GaussianMixture and its AdaBoost, with ours in their place."""

import importlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.6")
pytest.importorskip("sklearn.mixture.tests", reason="this scikit-learn comes without its tests")
ours = pytest.importorskip("fastml.sklearn")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NOT_OURS = {
    "only calls private functions of scikit-learn": (
        "test_suffstat_sk_full",
        "test_suffstat_sk_tied",
        "test_suffstat_sk_diag",
        "test_gaussian_suffstat_sk_spherical",
        "test_compute_log_det_cholesky",
        "test_gaussian_mixture_log_probabilities",
    ),
    "counts the calls of a private function of scikit-learn": (
        "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters",
    ),
    "is about arrays of other libraries; ours takes and gives NumPy's": (
        "test_gaussian_mixture_array_api_compliance",
        "test_gaussian_mixture_raises_where_array_api_not_implemented",
    ),
}


def own_tests(package, name, *replaced):
    """The test functions of a file of scikit-learn's, loaded anew while what is replaced in its package is ours."""
    path = Path(sklearn.__file__).parent / package / "tests" / f"{name}.py"
    spec = spec_from_file_location(f"sklearn_own_{name}", path)
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for estimator in replaced:
            patch.setattr(importlib.import_module(f"sklearn.{package}"), estimator, getattr(ours, estimator))
        spec.loader.exec_module(module)
    assert all(getattr(module, estimator) is getattr(ours, estimator) for estimator in replaced)
    left_out = {test for tests in NOT_OURS.values() for test in tests}
    found = {test: f for test, f in vars(module).items() if test.startswith("test_") and test not in left_out}
    assert not found.keys() & globals().keys()
    for f in found.values():  # pytest no longer takes an iterator, which scikit-learn's zip(…) is
        f.pytestmark = [
            pytest.mark.parametrize(m.args[0], list(m.args[1]), **m.kwargs).mark if m.name == "parametrize" else m
            for m in getattr(f, "pytestmark", [])
        ]
    return found


globals().update(own_tests("mixture", "test_gaussian_mixture", "GaussianMixture"))
globals().update(own_tests("mixture", "test_mixture", "GaussianMixture"))
globals().update(own_tests("ensemble", "test_weight_boosting", "AdaBoostClassifier", "AdaBoostRegressor"))


@pytest.fixture(params=["float32", "float64"])
def global_dtype(request):
    return np.dtype(request.param).type


@pytest.fixture
def global_random_seed():
    return 42  # what scikit-learn takes where its environment names none
