"""fastml.sklearn.AdaBoostClassifier and AdaBoostRegressor: scikit-learn's answers, and what they have beyond them."""

import copy
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from inspect import signature

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn.ensemble
from scipy import sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import estimator_checks_generator

import fastml
from fastml import boosting
from fastml.sklearn import AdaBoostClassifier, AdaBoostRegressor, BoostingIteration
from fastml.sklearn.decision_trees import covered

FAMILIES = ("tree",)
ALGORITHMS = ("SAMME", "SAMME.R", "gentle", "logit")
BOTH = (AdaBoostClassifier, AdaBoostRegressor)
MORE = [
    "early_stopping", "validation_fraction", "n_iter_no_change", "tol", "n_jobs", "missing", "warm_start", "callback",
    "progress",
]  # fmt: skip
NODES = (
    "children_left", "children_right", "feature", "threshold", "impurity", "n_node_samples",
    "weighted_n_node_samples", "value", "missing_go_to_left", "max_depth", "node_count", "n_features", "n_classes",
)  # fmt: skip


def problem(K, N=300, D=3, seed=0, noise=0.3):
    """Continuous features; classes with noise, or of K = 0 a number."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(N, D)).astype("float32")
    score = X[:, 0] + X[:, -1] ** 2 - X[:, 0] * X[:, -1] + 0.5 * random.normal(size=N)
    if not K:
        return X, score
    y = np.searchsorted(np.quantile(score, np.linspace(0, 1, K + 1)[1:-1]), score)
    wrong = random.random(N) < noise
    y[wrong] = random.integers(0, K, wrong.sum())
    return X, y


def weights_with_zeros(N, seed=0):
    random = np.random.default_rng(seed)
    return random.exponential(size=N) * (random.random(N) > 0.15)


def theirs(estimator):
    """scikit-learn's own, with the same parameters."""
    kind = getattr(sklearn.ensemble, type(estimator).__name__)
    params = estimator.get_params(deep=False)
    return kind(**{name: params[name] for name in kind().get_params(deep=False) if name in params})


def fitted_theirs(estimator, X, y, sample_weight=None):
    with np.errstate(divide="ignore"):  # it takes the logarithm of weights of 0
        return theirs(estimator).fit(X, y, sample_weight)


def close(one, other):
    return np.allclose(one, other, rtol=1e-9, atol=1e-9)


def without_ties(estimator, X, y, sample_weight=None):
    """scikit-learn's fit, or None where splits or the classes of a leaf are tied: it then differs for the same rows,
    mirrored or in another order of the features.
    """
    one = fitted_theirs(estimator, X, y, sample_weight)
    rows = X if sample_weight is None else X[sample_weight > 0]
    decide = "predict" if isinstance(estimator, AdaBoostRegressor) else "decision_function"
    for mirror in (np.negative, np.fliplr):
        other = fitted_theirs(estimator, mirror(X), y, sample_weight)
        if len(one) != len(other) or not close(one.estimator_errors_, other.estimator_errors_):
            return None
        if not close(getattr(one, decide)(rows), getattr(other, decide)(mirror(rows))):
            return None
    if isinstance(estimator, AdaBoostClassifier):
        for tree in one.estimators_:
            leaves = np.sort(tree.tree_.value[tree.tree_.feature < 0, 0], axis=1)
            if (leaves[:, -1] - leaves[:, -2]).min() < 1e-9:
                return None
    return one


def alike(ours, other, X, structure=True):
    """To 1e-9: weights, errors, predictions; and the trees, node by node."""
    assert close(ours.estimator_errors_, other.estimator_errors_)
    assert close(ours.estimator_weights_, other.estimator_weights_)
    assert len(ours) == len(other) == len(ours.estimators_)
    assert [each.random_state for each in ours.estimators_] == [each.random_state for each in other.estimators_]
    if structure:
        assert close(ours.feature_importances_, other.feature_importances_)
        for mine, each in zip(ours.estimators_, other.estimators_, strict=True):
            for name in NODES:
                assert close(getattr(mine.tree_, name), getattr(each.tree_, name)), name
            assert vars(mine).keys() == vars(each).keys() and type(mine) is type(each)
            assert np.array_equal(mine.apply(X), each.apply(X))
    else:  # nodes of a few rows are tied; where the root splits is not
        for mine, each in zip(ours.estimators_, other.estimators_, strict=True):
            assert mine.tree_.feature[0] == each.tree_.feature[0]
            assert mine.tree_.threshold[0] == each.tree_.threshold[0]
    if isinstance(ours, AdaBoostRegressor):
        assert close(ours.predict(X), other.predict(X))
        assert all(map(close, ours.staged_predict(X[:20]), other.staged_predict(X[:20])))
        return
    assert np.array_equal(ours.classes_, other.classes_) and ours.n_classes_ == other.n_classes_
    assert np.array_equal(ours.predict(X), other.predict(X))
    assert all(map(np.array_equal, ours.staged_predict(X), other.staged_predict(X)))
    for name in ("decision_function", "predict_proba", "predict_log_proba"):
        assert close(getattr(ours, name)(X), getattr(other, name)(X)), name
    for name in ("staged_decision_function", "staged_predict_proba"):
        assert all(map(close, getattr(ours, name)(X), getattr(other, name)(X))), name


def same(one, other):
    """Bitwise."""
    for name in ("estimator_weights_", "estimator_errors_", "train_loss_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert len(one) == len(other)
    for made in zip(one.estimators_, other.estimators_, strict=True):
        if not hasattr(made[0], "tree_") and not isinstance(made[0], list):
            continue
        for mine, each in zip(*made, strict=True) if isinstance(made[0], list) else (made,):
            a, b = mine.tree_.__getstate__(), each.tree_.__getstate__()
            assert np.array_equal(a["nodes"], b["nodes"]) and np.array_equal(a["values"], b["values"])
            assert mine.get_params() == each.get_params()


# ---------------------------------------------------------------------------------------------------- as scikit-learn's


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("K", "criterion"), [(2, "gini"), (3, "gini"), (5, "gini"), (2, "log_loss"), (4, "entropy")])
def test_stumps_are_scikit_learns(K, criterion, weighted):
    """50 rounds, all of it."""
    found = 0
    for seed in range(2):
        X, y = problem(K, seed=seed)
        weight = weights_with_zeros(len(X), seed) if weighted else None
        ours = AdaBoostClassifier(DecisionTreeClassifier(criterion=criterion, max_depth=1), random_state=seed)
        other = without_ties(ours, X, y, weight)
        if other is not None:
            alike(ours.fit(X, y, weight), other, problem(K, seed=9)[0])
            found += 1
    assert found == 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("K", "criterion"), [(2, "gini"), (2, "entropy"), (3, "entropy"), (5, "gini")])
def test_deeper_trees_are_scikit_learns(K, criterion, weighted):
    """Of depth 3. Some of their nodes have a few rows, which several splits part alike: of the first without."""
    for seed in range(8):
        X, y = problem(K, N=300, seed=seed)
        weight = weights_with_zeros(len(X), seed) if weighted else None
        ours = AdaBoostClassifier(DecisionTreeClassifier(criterion=criterion, max_depth=3), random_state=seed)
        other = without_ties(ours, X, y, weight)
        if other is not None:
            alike(ours.fit(X, y, weight), other, X if weight is None else X[weight > 0], structure=False)
            return
    raise AssertionError("every problem had ties")


@pytest.mark.parametrize(("K", "seed", "untied"), [(3, 0, True), (5, 2, True), (2, 2, False)])
def test_deeper_trees_of_many_rows_are_scikit_learns(K, seed, untied):
    """50 rounds of depth 3: errors and weights; and every node, where none has so few rows that splits tie."""
    random = np.random.default_rng(seed)
    y = random.integers(0, K, 4000)
    X = (random.normal(size=(4000, 4)) + 0.4 * random.normal(size=(K, 4))[y]).astype("float32")
    weight = random.random(4000)
    ours = AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), random_state=0).fit(X, y, weight)
    other = fitted_theirs(ours, X, y, weight)
    assert close(ours.estimator_errors_, other.estimator_errors_)
    assert close(ours.estimator_weights_, other.estimator_weights_)
    same_trees = [
        np.array_equal(a.tree_.feature, b.tree_.feature)
        and np.allclose(a.tree_.threshold, b.tree_.threshold, rtol=1e-12, atol=0)
        and np.array_equal(a.tree_.n_node_samples, b.tree_.n_node_samples)
        for a, b in zip(ours.estimators_, other.estimators_, strict=True)
    ]
    assert len(same_trees) == 50 and sum(same_trees) >= (50 if untied else 20)


@pytest.mark.parametrize("loss", ["linear", "square", "exponential"])
@pytest.mark.parametrize(("max_depth", "D"), [(1, 3), (None, 1)])
def test_regression_is_scikit_learns(loss, max_depth, D):
    """The default depth is 3."""
    found = 0
    for seed in range(2):
        X, y = problem(0, D=D, seed=seed)
        weight = weights_with_zeros(len(X), seed) if seed else None
        tree = None if max_depth is None else DecisionTreeRegressor(max_depth=max_depth)
        ours = AdaBoostRegressor(tree, loss=loss, random_state=seed)
        other = without_ties(ours, X, y, weight)
        if other is not None:
            alike(ours.fit(X, y, weight), other, problem(0, D=D, seed=9)[0])
            found += 1
    assert found == 2


def test_defaults_and_labels():
    X, y = problem(3)
    for labels in (np.array(["no", "perhaps", "yes"])[y], 10 - y, y / 2):
        if labels.dtype.kind == "f":
            labels = labels.astype(int) * 1.0
        ours = AdaBoostClassifier(random_state=0).fit(X, labels)
        alike(ours, fitted_theirs(ours, X, labels), X)
        assert ours.predict(X).dtype == labels.dtype


def test_generators_are_drawn_from_alike():
    X, y = problem(3)
    one, other = np.random.RandomState(3), np.random.RandomState(3)
    ours = AdaBoostClassifier(random_state=one).fit(X, y)
    alike(ours, sklearn.ensemble.AdaBoostClassifier(random_state=other).fit(X, y), X)
    assert one.randint(1 << 30) == other.randint(1 << 30)
    X, y = problem(0, D=1)
    ours = AdaBoostRegressor(random_state=one).fit(X, y)
    alike(ours, sklearn.ensemble.AdaBoostRegressor(random_state=other).fit(X, y), X)
    assert one.randint(1 << 30) == other.randint(1 << 30)


@pytest.mark.parametrize("load", [datasets.load_digits, datasets.load_wine, datasets.load_breast_cancer])
def test_accuracy_on_real_data(load):
    """With ties; the default settings, and trees of depth 3. Over several splits: of wine, a row is 2 points."""
    X, y = load(return_X_y=True)
    estimators = [None, DecisionTreeClassifier(max_depth=3)] if load is datasets.load_wine else [None]
    for estimator in estimators:
        scores = []
        for seed in range(4 if load is datasets.load_wine else 2):
            X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=y)
            ours = AdaBoostClassifier(estimator, random_state=seed).fit(X_train, y_train)
            scores.append((ours.score(X_test, y_test), fitted_theirs(ours, X_train, y_train).score(X_test, y_test)))
        assert np.mean([a for a, _ in scores]) > np.mean([b for _, b in scores]) - (
            0.005 if estimator is None else 0.02
        )


def test_zero_weights_are_dropped_but_predicted():
    X, y = problem(3)
    y[:40] = 3  # a class of which no row has a weight
    weight = np.where(np.arange(len(X)) < 40, 0.0, 1.0)
    ours = AdaBoostClassifier(random_state=0).fit(X, y, weight)
    alike(ours, fitted_theirs(ours, X, y, weight), X)
    assert ours.n_classes_ == 4 and ours.predict_proba(X).shape == (len(X), 4)


# --------------------------------------------------------------------------------------------------- the general path


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        GaussianNB(),
        DecisionTreeClassifier(max_depth=2, splitter="random"),
        DecisionTreeClassifier(max_depth=2, max_features=1),
        DecisionTreeClassifier(max_depth=2, class_weight={0: 1.5}),
        DecisionTreeClassifier(max_depth=9, min_samples_leaf=30),
    ],
)
def test_other_classifiers(estimator):
    X, y = problem(3)
    weight = weights_with_zeros(len(X))
    assert covered(estimator) is None
    ours = AdaBoostClassifier(estimator, n_estimators=5, random_state=1).fit(X, y, weight)  # before chance is reached
    other = fitted_theirs(ours, X, y, weight)
    np.testing.assert_allclose(ours.estimator_errors_, other.estimator_errors_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(X), other.decision_function(X), rtol=1e-6, atol=1e-6)
    assert len(ours.estimators_) == len(other.estimators_) and np.isfinite(ours.train_loss_).all()


@pytest.mark.parametrize("estimator", [LinearRegression(), DecisionTreeRegressor(max_depth=2, max_features=1)])
def test_other_regressors(estimator):
    X, y = problem(0)
    ours = AdaBoostRegressor(estimator, n_estimators=10, random_state=1).fit(X, y)
    other = fitted_theirs(ours, X, y)
    np.testing.assert_allclose(ours.estimator_errors_, other.estimator_errors_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict(X), other.predict(X), rtol=1e-9)


def test_sparse():
    """Fitted and predicted, as scikit-learn does; and predicted by trees that were fitted to dense rows."""
    X, y = problem(3)
    X[np.abs(X) < 0.5] = 0
    ours = AdaBoostClassifier(random_state=0).fit(sparse.csr_matrix(X), y)
    other = sklearn.ensemble.AdaBoostClassifier(random_state=0).fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(ours.estimator_errors_, other.estimator_errors_, rtol=1e-9)
    dense = AdaBoostClassifier(random_state=0).fit(X, y)
    assert np.array_equal(dense.decision_function(sparse.csc_matrix(X)), dense.decision_function(X))


def test_what_the_fast_path_covers():
    for depth in range(1, 9):
        assert covered(DecisionTreeClassifier(max_depth=depth)) == ("gini", depth)
    assert (
        covered(DecisionTreeClassifier(max_depth=np.int64(2), criterion="log_loss", random_state=3)).criterion
        == "entropy"
    )
    assert covered(DecisionTreeRegressor(max_depth=3)) == ("squared_error", 3)
    assert covered(DecisionTreeRegressor(max_depth=3, criterion="absolute_error")) is None
    for others in (
        {"max_depth": 9}, {"max_depth": None}, {"max_depth": True}, {"max_depth": 0}, {"class_weight": "balanced"},
        {"ccp_alpha": 0.1}, {"max_leaf_nodes": 2}, {"min_samples_split": 3}, {"monotonic_cst": [1, 0, 0]},
        {"min_impurity_decrease": 0.1}, {"splitter": "random"}, {"criterion": "gain"}, {"min_samples_split": "a"},
    ):  # fmt: skip
        assert covered(DecisionTreeClassifier(**{"max_depth": 1} | others)) is None, others
    assert covered(type("Mine", (DecisionTreeClassifier,), {})(max_depth=1)) is None


# ------------------------------------------------------------------------------------------------------------ protocol

CHECKS = [
    check
    for estimator in (AdaBoostClassifier(n_estimators=5), AdaBoostRegressor(n_estimators=5))
    for check in estimator_checks_generator(estimator)
    # Of 15 rows and 30 features: most splits are tied, and rounding decides, which differs for weighted and repeated
    # rows (test_ensemble.py has both, without ties). And a bootstrap of weighted rows is none of repeated ones.
    if "sample_weight_equivalence" not in str(check[1])
]


@pytest.mark.parametrize(
    "estimator, check", CHECKS, ids=lambda part: getattr(getattr(part, "func", None), "__name__", "")
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("ours", BOTH)
def test_parameters_are_scikit_learns_and_more(ours):
    parent = getattr(sklearn.ensemble, ours.__name__)
    mine, others = (list(signature(kind).parameters.values()) for kind in (ours, parent))
    others = [p for p in others if p.name != "algorithm"]  # deprecated up to 1.7
    for one, other in zip(mine, others, strict=False):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
    names = [p.name for p in mine[len(others) :]]
    assert [name for name in names if name not in ("algorithm", "weight_trim")] == MORE
    assert issubclass(ours, parent) and all(p.kind is p.KEYWORD_ONLY for p in mine[1:])
    assert clone(ours(missing="learn")).missing == "learn"


def test_estimators_are_made_when_asked_for():
    X, y = problem(3)
    ours = AdaBoostClassifier(random_state=0).fit(X, y)
    ours.predict(X), ours.feature_importances_, len(ours), ours.gain_importances_, list(ours.staged_predict_proba(X))
    assert "_estimators" not in vars(ours)
    made = ours.estimators_
    assert type(made) is list and ours.estimators_ is made and ours[0] is made[0] and list(ours) == made
    assert len(made[:3]) == 3 and len(ours) == len(made) == 50
    with pytest.raises(AttributeError, match="has no attribute 'estimators_'"):
        _ = AdaBoostClassifier().estimators_


def test_a_changed_list_of_estimators_serves():
    X, y = problem(3)
    ours = AdaBoostClassifier(random_state=0).fit(X, y)
    ten = list(ours.staged_decision_function(X))[9]
    fast = ours.predict(X)
    del ours.estimators_[10:]
    assert len(ours) == 10
    norm = ours.estimator_weights_
    np.testing.assert_allclose(ours.decision_function(X) * norm.sum() / norm[:10].sum(), ten, rtol=1e-9, atol=1e-12)
    ours = AdaBoostClassifier(random_state=0).fit(X, y)
    ours.estimators_ = list(ours.estimators_)
    assert np.array_equal(ours.predict(X), fast) and ours._fast() is None
    assert ours.feature_importances_ == pytest.approx(AdaBoostClassifier(random_state=0).fit(X, y).feature_importances_)


@pytest.mark.parametrize("estimator", [*(AdaBoostClassifier(algorithm=a) for a in ALGORITHMS), AdaBoostRegressor()])
@pytest.mark.parametrize("asked", [False, True])
def test_pickle_and_copy(estimator, asked):
    X, y = problem(3)
    ours = clone(estimator).set_params(random_state=0, n_estimators=10).fit(X, y)
    if asked:
        assert len(ours.estimators_) == len(ours)
    for other in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        same(other, ours)
        assert np.array_equal(other.predict(X), ours.predict(X)) and other._fast() is not None
        assert np.array_equal(other.feature_importances_, ours.feature_importances_)
    assert not hasattr(clone(ours), "estimator_weights_")


@pytest.mark.parametrize("max_depth", [1, 2, 5, 8])
def test_made_trees_predict_what_the_ensemble_says(max_depth):
    """Each by itself, so that their votes are the decision."""
    X, y = problem(3)
    ours = AdaBoostClassifier(DecisionTreeClassifier(max_depth=max_depth), n_estimators=8, random_state=0).fit(X, y)
    unseen = problem(3, seed=1)[0]
    votes = sum(
        w * (tree.predict(unseen)[:, None] == ours.classes_)
        for w, tree in zip(ours.estimator_weights_, ours.estimators_, strict=False)
    )
    assert np.array_equal(ours.predict(unseen), ours.classes_[votes.argmax(axis=1)])
    for tree in ours.estimators_:
        assert tree.tree_.max_depth <= max_depth and tree.get_n_leaves() == (tree.tree_.feature == -2).sum()
        assert tree.get_params()["max_depth"] == max_depth
        assert tree.feature_importances_.sum() == pytest.approx(1)
        pickle.loads(pickle.dumps(tree)).predict_proba(unseen)


def test_an_error_leaves_the_estimator_as_it_was():
    X, y = problem(2)
    ours = AdaBoostClassifier(random_state=0, n_estimators=5).fit(X, y)
    before = ours.decision_function(X)
    with pytest.raises(ValueError, match="worse than random"):
        ours.fit(np.ones((4, 2)), [0, 1, 0, 1])
    assert np.array_equal(ours.decision_function(X), before) and ours.n_features_in_ == 3


def test_names_of_features():
    pandas = pytest.importorskip("pandas")
    X, y = problem(2)
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    ours = AdaBoostClassifier(random_state=0).fit(frame, y)
    assert ours.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(ours.predict(frame), AdaBoostClassifier(random_state=0).fit(X, y).predict(X))


# -------------------------------------------------------------------------------------------------- errors and warnings


def messages(estimator, *arguments):
    with pytest.raises((ValueError, TypeError)) as caught:
        estimator.fit(*arguments)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("ours", BOTH)
@pytest.mark.parametrize(
    "change",
    [
        {"X": [[0.0], [np.nan], [1.0]]},
        {"X": [[0.0], [np.inf], [1.0]]},
        {"X": [[0.0], [1e300], [1.0]]},
        {"X": [["a"], ["a"], ["a"]]},
        {"X": [[[0.0]], [[1.0]], [[2.0]]]},
        {"X": [0.0, 1.0, 2.0]},
        {"X": [[0.0], [1.0]]},
        {"y": [0, np.nan, 1]},
        {"y": None},
        {"sample_weight": [1.0, 1.0]},
        {"sample_weight": [1.0, -1.0, 1.0]},
        {"n_estimators": 0},
        {"learning_rate": 0.0},
        {"learning_rate": "1"},
        {"estimator": "tree"},
        {"random_state": "seed"},
    ],
)
def test_errors_are_scikit_learns(ours, change):
    arguments = {"X": [[0.0], [1.0], [2.0]], "y": [0, 1, 0], "sample_weight": None}
    parameters = {name: value for name, value in change.items() if name not in arguments}
    arguments = [change.get(name, value) for name, value in arguments.items()]
    estimator = ours(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cast to float32
        found, expected = messages(estimator, *arguments), messages(theirs(estimator), *arguments)
    assert found == expected


def test_continuous_classes():
    X, y = problem(0)
    assert messages(AdaBoostClassifier(), X, y) == messages(sklearn.ensemble.AdaBoostClassifier(), X, y)


@pytest.mark.parametrize("ours", BOTH)
def test_predicting_errors_are_scikit_learns(ours):
    X, y = problem(2)
    mine = ours(n_estimators=3, random_state=0).fit(X, y)
    other = fitted_theirs(mine, X, y)
    with pytest.raises(NotFittedError):
        ours().predict(X)
    for wrong in ([[np.nan] * 3], [[0.0]], [[1e300] * 3], [0.0, 1.0, 2.0]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError) as found:
                mine.predict(wrong)
            with pytest.raises(ValueError) as expected:
                other.predict(wrong)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("estimator", [None, DecisionTreeClassifier(max_depth=1, min_samples_leaf=2)])
def test_infinite_weights(estimator):
    """The warning of scikit-learn, in the same round, on both paths."""
    X, y = datasets.load_iris(return_X_y=True)
    ours = AdaBoostClassifier(estimator, n_estimators=30, learning_rate=23.0, random_state=0)
    with pytest.warns(UserWarning, match="Sample weights have reached infinite values") as found:
        ours.fit(X, y)
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        other = theirs(ours).fit(X, y)
    texts = [str(each.message) for each in expected if each.category is UserWarning]
    assert [str(each.message) for each in found] == texts and len(ours) == len(other)
    np.testing.assert_allclose(ours.estimator_weights_, other.estimator_weights_, rtol=1e-6)


def test_worse_than_random():
    X, y = np.ones((4, 2)), [0, 1, 0, 1]
    for estimator in (None, LogisticRegression()):
        found = messages(AdaBoostClassifier(estimator), X, y)
        assert found == messages(sklearn.ensemble.AdaBoostClassifier(estimator), X, y)


def test_perfect_and_one_class():
    X = np.arange(6.0)[:, None]
    for y in ([0, 0, 0, 1, 1, 1], [1] * 6):
        ours = AdaBoostClassifier(random_state=0).fit(X, y)
        other = fitted_theirs(ours, X, y)
        assert len(ours) == 1
        assert np.array_equal(ours.estimator_weights_, other.estimator_weights_)
        assert np.array_equal(ours.predict_proba(X), other.predict_proba(X))
    ours = AdaBoostRegressor(random_state=0).fit(X, [1.0] * 6)
    assert len(ours) == 1 and ours.predict(X).tolist() == [1.0] * 6
    X, y = np.random.default_rng(0).normal(size=(2, 30, 1))
    ours = AdaBoostRegressor(DecisionTreeRegressor(max_depth=1), random_state=0, loss="linear").fit(X, y[:, 0])
    assert len(ours) == len(fitted_theirs(ours, X, y[:, 0]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"algorithm": "SAMME.S"}, "The 'algorithm' parameter of AdaBoostClassifier must be a str among"),
        (
            {"algorithm": "gentle", "estimator": LogisticRegression()},
            "algorithm: 'gentle' needs dense X and a Decision",
        ),
        ({"algorithm": "logit", "estimator": DecisionTreeClassifier()}, "algorithm: 'logit' needs dense X and a Dec"),
        ({"algorithm": "SAMME.R", "estimator": LinearSVC()}, "algorithm: 'SAMME.R' needs an estimator with predict_pr"),
        (
            {"weight_trim": 0.9, "estimator": GaussianNB()},
            r"weight_trim: expected None with the estimator GaussianNB\(\)",
        ),
        ({"weight_trim": 2.0}, "The 'weight_trim' parameter of AdaBoostClassifier must be"),
        ({"n_jobs": 0}, "n_jobs: expected an integer other than 0, or None, got 0"),
        ({"n_jobs": 1.5}, "The 'n_jobs' parameter"),
        ({"missing": "drop"}, "The 'missing' parameter"),
        ({"early_stopping": "yes"}, "The 'early_stopping' parameter"),
        ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, "The 'n_iter_no_change' parameter"),
        ({"tol": -1.0}, "The 'tol' parameter"),
        ({"callback": 3}, "The 'callback' parameter"),
        ({"progress": 1}, "The 'progress' parameter"),
        ({"warm_start": None}, "The 'warm_start' parameter"),
    ],
)
def test_errors_of_what_is_beyond(parameters, message):
    with pytest.raises(ValueError, match=message):
        AdaBoostClassifier(**parameters).fit(*problem(2))


def test_additive_models_need_two_classes():
    for algorithm in ("gentle", "logit"):
        with pytest.raises(ValueError, match="y: expected at least two classes for the algorithm"):
            AdaBoostClassifier(algorithm=algorithm).fit([[0.0], [1.0]], [1, 1])


# ---------------------------------------------------------------------------------------------------------- algorithms


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms_are_those_of_fit_trees(algorithm, K):
    X, y = problem(K)
    ours = AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=12, algorithm=algorithm, random_state=0)
    ours.fit(X, y)
    ensemble = boosting.fit_trees(X, y, 12, 2, algorithm=algorithm)
    np.testing.assert_allclose(ours.train_loss_, ensemble.losses, rtol=1e-9)
    np.testing.assert_allclose(ours.estimator_errors_, ensemble.errors, rtol=1e-9)
    scores = boosting.decision(X, ensemble)
    assert np.array_equal(ours.predict(X), scores.argmax(axis=1))
    found = ours.decision_function(X)
    if algorithm in ("gentle", "logit"):
        np.testing.assert_allclose(found, scores if K > 2 else scores[:, 1] - scores[:, 0], rtol=1e-9, atol=1e-9)
    stages = list(ours.staged_decision_function(X))
    assert len(stages) == 12
    np.testing.assert_allclose(stages[-1], found, rtol=1e-9, atol=1e-9)
    proba = ours.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert np.array_equal(proba.argmax(axis=1), ours.predict(X))
    if algorithm == "logit":
        loss = -np.log(proba[np.arange(len(X)), y]).mean()
        assert loss == pytest.approx(ours.train_loss_[-1], rel=1e-9)


@pytest.mark.parametrize("algorithm", ["SAMME.R", "gentle", "logit"])
def test_made_trees_of_other_algorithms(algorithm):
    """What they predict makes the decision."""
    for K in (2, 3):
        X, y = problem(K)
        ours = AdaBoostClassifier(n_estimators=6, algorithm=algorithm, random_state=0).fit(X, y)
        made = ours.estimators_
        if algorithm == "SAMME.R":
            log_p = [np.log(np.maximum(tree.predict_proba(X), np.finfo(float).eps)) for tree in made]
            F = sum((K - 1) * (each - each.mean(axis=1, keepdims=True)) for each in log_p) / len(made)
        elif K == 2:
            f = sum(tree.predict(X) for tree in made) / (2 if algorithm == "logit" else 1)
            F = np.stack([-f, f], axis=1)
        else:
            f = sum(np.stack([tree.predict(X) for tree in trees], axis=1) for trees in made)
            F = (K - 1) * f if algorithm == "gentle" else (K - 1) / K * (f - f.mean(axis=1, keepdims=True))
        expected = F[:, 1] - F[:, 0] if K == 2 else F
        np.testing.assert_allclose(ours.decision_function(X), expected, rtol=1e-9, atol=1e-9)
        assert ours.feature_importances_.sum() == pytest.approx(1) == ours.gain_importances_.sum()


def test_samme_r_of_any_estimator():
    X, y = problem(3, noise=0.1)
    ours = AdaBoostClassifier(GaussianNB(), algorithm="SAMME.R", n_estimators=8, random_state=0).fit(X, y)
    assert (ours.estimator_weights_ == 1).all() and len(ours) == 8
    assert np.isfinite(ours.decision_function(X)).all() and ours.train_loss_[0] < 1
    assert np.array_equal(list(ours.staged_predict(X))[-1], ours.predict(X))
    # On trees that the fast path covers but for a name, it is the fast path's.
    named = type("Named", (DecisionTreeClassifier,), {})
    slow, fast = (
        AdaBoostClassifier(kind(max_depth=1), algorithm="SAMME.R", n_estimators=8, random_state=0).fit(X, y)
        for kind in (named, DecisionTreeClassifier)
    )
    assert slow._fast() is None and fast._fast() is not None
    np.testing.assert_allclose(slow.train_loss_, fast.train_loss_, rtol=1e-9)
    np.testing.assert_allclose(slow.decision_function(X), fast.decision_function(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms_on_real_data(algorithm):
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    ours = AdaBoostClassifier(algorithm=algorithm, n_estimators=30, random_state=0).fit(X_train, y_train)
    assert ours.score(X_test, y_test) > 0.93 and ours.train_loss_[-1] < 0.5 * ours.train_loss_[0]


# ---------------------------------------------------------------------------------------------- stopping and going on


@pytest.mark.parametrize(
    "estimator",
    [
        AdaBoostClassifier(),
        AdaBoostClassifier(algorithm="logit"),
        AdaBoostClassifier(GaussianNB()),
        AdaBoostClassifier(GaussianNB(), algorithm="SAMME.R"),
        AdaBoostRegressor(),
        AdaBoostRegressor(LinearRegression()),
    ],
)
def test_early_stopping(estimator):
    X, y = problem(3, noise=0.6, N=200) if isinstance(estimator, AdaBoostClassifier) else problem(0, N=200)
    weight = np.random.default_rng(0).uniform(1, 2, len(X))
    ours = clone(estimator).set_params(
        early_stopping=True, n_estimators=60, n_iter_no_change=4, validation_fraction=0.2, random_state=3
    )
    ours.fit(X, y, weight)
    scores = ours.validation_scores_
    best = int(scores.argmax()) + 1
    assert len(ours) == best and len(scores) == len(ours.train_loss_) <= best + 4
    assert (ours.estimator_errors_[best:] == 1).all() and (ours.estimator_weights_[best:] == 0).all()
    stratify = y if isinstance(estimator, AdaBoostClassifier) else None
    X_train, X_held, y_train, y_held, w_train, w_held = train_test_split(
        X, y, weight, test_size=0.2, random_state=3, stratify=stratify
    )
    assert scores[best - 1] == pytest.approx(ours.score(X_held, y_held, w_held))
    whole = clone(ours).set_params(early_stopping=False, n_estimators=len(scores)).fit(X_train, y_train, w_train)
    np.testing.assert_allclose(whole.estimator_errors_[:best], ours.estimator_errors_[:best], rtol=1e-9)
    np.testing.assert_allclose(list(whole.staged_score(X_held, y_held, w_held)), scores, rtol=1e-9, atol=1e-12)
    assert not hasattr(whole, "validation_scores_")


def test_tol_of_early_stopping():
    X, y = problem(3)
    ours = AdaBoostClassifier(early_stopping=True, tol=1.0, n_iter_no_change=3, random_state=0).fit(X, y)
    assert len(ours) == 1 and len(ours.validation_scores_) == 4


@pytest.mark.parametrize("random_state", [0, "generator"])
@pytest.mark.parametrize(
    "estimator",
    [
        *(AdaBoostClassifier(algorithm=algorithm) for algorithm in ALGORITHMS),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), weight_trim=0.95),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2, max_features=1)),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=1, splitter="random"), algorithm="SAMME.R"),
        AdaBoostRegressor(),
        AdaBoostRegressor(DecisionTreeRegressor(max_depth=2, splitter="random"), loss="square"),
    ],
)
def test_warm_start(estimator, random_state):
    """Three fits are one."""
    X, y = problem(3) if isinstance(estimator, AdaBoostClassifier) else problem(0)
    weight = weights_with_zeros(len(X))
    ours, whole = (
        clone(estimator).set_params(
            n_estimators=12, random_state=np.random.RandomState(0) if random_state else 0, warm_start=warm
        )
        for warm in (True, False)
    )
    for n in (3, 4, 12, 12):
        ours.set_params(n_estimators=n).fit(X, y, weight)
        assert len(ours) == n
    whole.fit(X, y, weight)
    same(ours, whole)
    assert np.array_equal(ours.predict(X), whole.predict(X))
    ours.set_params(n_estimators=5)
    with pytest.raises(ValueError, match=r"n_estimators=5 must be larger or equal to len\(estimators_\)=12"):
        ours.fit(X, y)


def test_warm_start_of_early_stopping():
    X, y = problem(3, noise=0.6)
    ours = AdaBoostClassifier(n_estimators=4, early_stopping=True, warm_start=True, random_state=1).fit(X, y)
    ours.set_params(n_estimators=50).fit(X, y)
    whole = clone(ours).fit(X, y)
    same(ours, whole)
    assert np.array_equal(ours.validation_scores_, whole.validation_scores_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "logit"}, "warm_start: expected the algorithm of the fit before, 'SAMME'"),
        ({"estimator": DecisionTreeClassifier(max_depth=2)}, "warm_start: expected the criterion and max_depth"),
        ({"estimator": GaussianNB()}, "warm_start: expected the same kind of estimator"),
    ],
)
def test_a_warm_start_that_cannot_go_on(change, message):
    X, y = problem(3)
    ours = AdaBoostClassifier(n_estimators=3, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=message):
        ours.set_params(n_estimators=5, **change).fit(X, y)
    with pytest.raises(ValueError, match="warm_start: expected the classes of the fit before"):
        ours.set_params(algorithm="SAMME", estimator=None).fit(X, y + 1)
    with pytest.raises(ValueError, match="X has 2 features, but AdaBoostClassifier is expecting 3 features"):
        ours.fit(X[:, :2], y)


@pytest.mark.parametrize(
    "estimator",
    [
        AdaBoostClassifier(),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2, max_features=1)),
        AdaBoostRegressor(),
        AdaBoostRegressor(LinearRegression()),
    ],
)
def test_callback(estimator):
    X, y = problem(0 if isinstance(estimator, AdaBoostRegressor) else 3, N=400)
    told = []
    ours = clone(estimator).set_params(callback=told.append, n_estimators=6, random_state=0).fit(X, y)
    assert all(isinstance(each, BoostingIteration) for each in told) and [each.n_iter for each in told] == [
        *range(1, 7)
    ]
    assert [each.error for each in told] == ours.estimator_errors_.tolist()
    assert [each.weight for each in told] == ours.estimator_weights_.tolist()
    assert [each.loss for each in told] == ours.train_loss_.tolist()
    assert {each.validation_score for each in told} == {None}
    stopped = clone(estimator).set_params(callback=lambda each: each.n_iter == 2, n_estimators=6, random_state=0)
    assert len(stopped.fit(X, y)) == 2 and (stopped.estimator_errors_[2:] == 1).all()
    told.clear()
    ours.set_params(warm_start=True, n_estimators=8, early_stopping=False).fit(X, y)
    assert [each.n_iter for each in told] == [7, 8]
    ours.set_params(warm_start=False, early_stopping=True, n_estimators=3).fit(X, y)
    assert [each.validation_score for each in told[2:]] == ours.validation_scores_.tolist()


def test_progress(capsys):
    pytest.importorskip("rich")
    AdaBoostClassifier(progress=True, n_estimators=3).fit(*problem(2))
    assert capsys.readouterr().err.strip() == ""  # no terminal


def test_n_jobs(threads):
    X, y = problem(3)
    threads(2)
    seen = []
    for n_jobs in (None, 1, 3, -1):
        AdaBoostClassifier(
            n_jobs=n_jobs, n_estimators=1, callback=lambda each: seen.append(fastml.get_num_threads())
        ).fit(X, y)
        assert fastml.get_num_threads() == 2
    assert seen == [2, 1, 3, fastml.threads.usable_cpus()]


# ----------------------------------------------------------------------------------------------- missing and trimming


@pytest.mark.parametrize("ours", BOTH)
def test_missing_values(ours):
    X, y = problem(2, N=400, noise=0.05)
    X[np.arange(len(X)) % 4 == 0, 0] = np.nan
    estimator = ours(random_state=0, n_estimators=20)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.fit(X, y)
    assert not estimator.__sklearn_tags__().input_tags.allow_nan
    learnt = clone(estimator).set_params(missing="learn")
    assert learnt.__sklearn_tags__().input_tags.allow_nan
    learnt.fit(X, y)
    assert learnt.score(X, y) > (0.8 if ours is AdaBoostClassifier else 0.3)
    made = clone(learnt).fit(X, y)
    made.estimators_ = list(made.estimators_)  # scikit-learn's trees send NaN the same way
    np.testing.assert_allclose(made.predict(X), learnt.predict(X))
    with pytest.raises(ValueError, match=re.escape("Input X contains infinity")):
        learnt.fit(np.where(np.isnan(X), np.inf, X), y)


def test_missing_values_tell_classes_apart():
    y = np.arange(40) % 2
    X = np.where(y[:, None] == 1, np.nan, np.random.default_rng(0).normal(size=(40, 1)))
    assert AdaBoostClassifier(missing="learn").fit(X, y).score(X, y) == 1


def test_weight_trim():
    X, y = problem(2, noise=0.05)
    whole, same_, trimmed = (
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), weight_trim=trim, random_state=0).fit(X, y)
        for trim in (None, 1.0, 0.9)
    )
    same(whole, same_)
    rows = [tree.tree_.n_node_samples[0] for tree in trimmed.estimators_]
    assert rows[0] == len(X) and min(rows) < 0.9 * len(X)
    unseen, classes = problem(2, seed=1, noise=0)
    assert trimmed.score(unseen, classes) > whole.score(unseen, classes) - 0.05


# ---------------------------------------------------------------------------------------------------------- importances


def test_gain_importances():
    """Of stumps, the shares by gain are no counts: one feature, in one round, gains more than many in the last ones."""
    X, y = problem(2, noise=0.3)
    ours = AdaBoostClassifier(random_state=0).fit(X, y)
    gain = np.zeros(3)
    for weight, tree in zip(ours.estimator_weights_, ours.estimators_, strict=True):
        gain += weight * tree.tree_.compute_feature_importances(normalize=False)
    np.testing.assert_allclose(ours.gain_importances_, gain / gain.sum(), rtol=1e-9)
    counts = np.bincount([tree.tree_.feature[0] for tree in ours.estimators_], ours.estimator_weights_, minlength=3)
    np.testing.assert_allclose(ours.feature_importances_, counts / counts.sum(), rtol=1e-9)
    with pytest.raises(AttributeError, match="gain_importances_: expected trees of the fast path"):
        _ = AdaBoostClassifier(GaussianNB()).fit(X, y).gain_importances_
    with pytest.raises(AttributeError):
        _ = AdaBoostClassifier(GaussianNB()).fit(X, y).feature_importances_
    X, y = problem(0)
    ours = AdaBoostRegressor(random_state=0).fit(X, y)
    assert ours.gain_importances_.sum() == pytest.approx(1) and (ours.gain_importances_ >= 0).all()


# -------------------------------------------------------------------------------------------------- what has gone wrong


def test_threads_of_fits_side_by_side(threads):
    """n_jobs is the fit's own: others, and what comes after, keep the process's setting."""
    threads(3)
    X, y = problem(2)

    def fit(n_jobs):
        seen = []
        callback = lambda told: seen.append(fastml.get_num_threads())
        AdaBoostClassifier(n_estimators=5, n_jobs=n_jobs, random_state=0, callback=callback).fit(X, y)
        return set(seen)

    with ThreadPoolExecutor(4) as pool:
        jobs = [1, 2, None, 1, 2, None] * 4
        assert list(pool.map(fit, jobs)) == [{3 if n is None else n} for n in jobs]
    assert fastml.get_num_threads() == 3
    for n_jobs in (0, True):
        with pytest.raises((ValueError, TypeError), match="n_jobs"):
            AdaBoostClassifier(n_jobs=n_jobs).fit(X, y)


def test_trees_of_the_other_kind_are_scikit_learns_to_refuse():
    X, y = problem(2)
    for ours, theirs, tree, target in (
        (AdaBoostClassifier, sklearn.ensemble.AdaBoostClassifier, DecisionTreeRegressor(max_depth=1), y),
        (AdaBoostRegressor, sklearn.ensemble.AdaBoostRegressor, DecisionTreeClassifier(max_depth=2), X[:, 0]),
    ):
        errors = []
        for kind in (ours, theirs):
            with pytest.raises((TypeError, ValueError, AttributeError)) as error:
                kind(tree, random_state=0).fit(X, target)
            errors.append((error.type, str(error.value)))
        assert errors[0] == errors[1]


def test_targets_too_large_to_be_subtracted():
    X, y = problem(0)
    with pytest.raises(ValueError, match="y: expected numbers whose differences are finite"), np.errstate(all="ignore"):
        AdaBoostRegressor(n_estimators=8, random_state=0).fit(X, np.sign(y) * 1e308)


def test_weights_whose_sum_overflows():
    X, y = problem(2)
    ours = AdaBoostClassifier(n_estimators=5, random_state=0)
    one = ours.fit(X, y, np.full(len(X), 1e308)).estimator_weights_
    np.testing.assert_allclose(ours.fit(X, y).estimator_weights_, one, rtol=1e-9)


def test_early_stopping_of_no_classes():
    X, y = problem(0)
    with pytest.raises(ValueError, match="Unknown label type"):
        AdaBoostClassifier(early_stopping=True).fit(X, y)


def test_numbers_beyond_float32():
    X, y = problem(2)
    ours = AdaBoostClassifier(n_estimators=5, random_state=0).fit(X, y)
    for large in (1e200, 1e39):
        with pytest.raises(ValueError, match="too large for dtype"), np.errstate(over="ignore"):
            ours.predict(np.full((1, X.shape[1]), large))
    assert ours.predict(np.full((1, X.shape[1]), 3.2e38)).shape == (1,)


def test_rows_rounded_to_float32():
    """float64 rows go where they would go as float32, those between two float32 values too."""
    X, y = problem(2)
    ours = AdaBoostClassifier(n_estimators=20, random_state=0).fit(X, y)
    thresholds = np.array([tree.tree_.threshold[0] for tree in ours.estimators_])
    steps = np.concatenate([np.nextafter(thresholds.astype("float32"), np.float32(s)) for s in (-9, 9)])
    values = np.concatenate([thresholds, steps, (thresholds.astype("float32").astype("float64") + steps[:20]) / 2])
    values = np.concatenate([values, np.nextafter(values, -9), np.nextafter(values, 9)])
    rows = np.repeat(values[:, None], X.shape[1], axis=1)
    np.testing.assert_array_equal(ours.decision_function(rows), ours.decision_function(rows.astype("float32")))
