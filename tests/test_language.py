"""`fastml.language.UnigramLM`: the unigram language model, and that it is the multinomial mixture of one component."""

import io
import json
import math
import pickle
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import pytest
from cells import python

import fastml
from fastml import mixture
from fastml.language import UnigramLM

FAMILIES = ("multinomial",)
TEXT = "the cat saw the dog and the dog saw the cat"


# ---------------------------------------------------------------------------------------------- the worked problem


def test_the_formula(column):
    """ln P(d|θ) = ln |d|! - Σ ln c! + Σ c ln θ, θ = C / |C|."""
    model = UnigramLM().fit([TEXT])
    assert dict(zip(model.vocabulary, model.counts.tolist(), strict=True)) == {
        "the": 4, "cat": 2, "dog": 2, "saw": 2, "and": 1,
    }  # fmt: skip
    np.testing.assert_allclose(model.probabilities, model.counts / 11, rtol=1e-15)
    in_order = 2 * math.log(4 / 11) + 3 * math.log(2 / 11)
    document = "the dog saw the dog"
    assert model.log_probability(document, ordered=True) == pytest.approx(in_order, rel=1e-12)
    orders = math.factorial(5) / (math.factorial(2) * math.factorial(2))
    assert model.log_probability(document) == pytest.approx(in_order + math.log(orders), rel=1e-12)
    assert model.log_probability(document.split()) == model.log_probability("dog dog saw the the")
    assert model.log_probability("") == 0.0 == model.log_probability([], ordered=True)


def test_no_other_distribution_gives_a_larger_likelihood(column):
    """Perturbed along the simplex, in every direction between two words and in random ones."""
    model = UnigramLM().fit([TEXT])
    X = model.counts[None]

    def likelihood(theta):
        return float(mixture.multinomial_log_density(X, theta[None])[0, 0])

    best = model.log_probability(TEXT)
    assert likelihood(model.probabilities) == pytest.approx(best, rel=1e-14)
    V, rng = len(model.vocabulary), np.random.default_rng(0)
    for size in (1e-3, 1e-2, 5e-2):
        directions = [np.eye(V)[i] - np.eye(V)[j] for i in range(V) for j in range(V) if i != j]
        directions += [d - d.mean() for d in rng.normal(size=(50, V))]
        for d in directions:
            assert likelihood(model.probabilities + size * d / abs(d).max()) < best


@pytest.mark.parametrize("alpha", [0.5, 1, 7.0])
def test_smoothing(column, alpha):
    model = UnigramLM(alpha, vocabulary=["the", "cat", "saw", "dog", "and", "bird"]).fit([TEXT])
    np.testing.assert_allclose(
        model.probabilities, (np.array([4, 2, 2, 2, 1, 0]) + alpha) / (11 + 6 * alpha), rtol=1e-15
    )
    assert model.probability("bird") == pytest.approx(alpha / (11 + 6 * alpha), rel=1e-15)
    assert math.isfinite(model.log_probability("the bird"))


@pytest.mark.parametrize("vocabulary", [None, ["the", "cat", "saw", "dog", "and", "bird"]])
def test_a_word_never_seen_is_impossible(column, vocabulary):
    """Whether the vocabulary has it or not."""
    model = UnigramLM(vocabulary=vocabulary).fit([TEXT])
    assert model.probability("bird") == 0.0
    assert model.log_probability("the bird") == -math.inf == model.log_probability("bird bird", ordered=True)
    assert model.perplexity(["the bird"]) == math.inf
    assert math.isfinite(model.log_probability("the cat"))


def test_it_is_the_mixture_of_one_component(column):
    documents = ["a b a", "b c", "a a a d"]
    model = UnigramLM(0.5).fit(documents)
    X = np.array([[document.split().count(word) for word in model.vocabulary] for document in documents])
    weights, probabilities, mean = mixture.multinomial_em_step(X, [1.0], model.probabilities[None], alpha=0.5)
    assert weights.tolist() == [1.0]
    np.testing.assert_allclose(probabilities[0], model.probabilities, rtol=1e-12)
    assert mean == pytest.approx(np.mean([model.log_probability(document) for document in documents]), rel=1e-12)
    _, likelihood = mixture.multinomial_responsibilities(X, weights, probabilities)
    np.testing.assert_allclose(likelihood, [model.log_probability(document) for document in documents], rtol=1e-12)


def test_it_is_scikit_learns_way_of_it():
    estimators = pytest.importorskip("fastml.sklearn", reason="scikit-learn is not installed")
    documents = ["a b a", "b c", "a a a d"]
    model = UnigramLM(0.5).fit(documents)
    X = np.array([[document.split().count(word) for word in model.vocabulary] for document in documents])
    fitted = estimators.MultinomialMixture(alpha=0.5).fit(X)
    np.testing.assert_allclose(fitted.probabilities_[0], model.probabilities, rtol=1e-12)
    assert fitted.perplexity(X) == pytest.approx(model.perplexity(documents), rel=1e-12)


# ------------------------------------------------------------------------------------------------------------- texts


def test_documents_of_every_kind():
    want = UnigramLM().fit([TEXT])
    for documents in ([TEXT.split()], TEXT, iter(TEXT.split()), (word for word in [TEXT]), [tuple(TEXT.split())]):
        model = UnigramLM().fit(documents)
        assert (model.vocabulary, model.counts.tolist()) == (want.vocabulary, want.counts.tolist())
    letters = UnigramLM(tokenizer=list).fit(["abca"])
    assert letters.vocabulary == ("a", "b", "c") and letters.log_probability("aa") == pytest.approx(2 * math.log(0.5))


def test_files(tmp_path):
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    paths[0].write_text("naïve words\nand words", encoding="utf-8")
    paths[1].write_text("words", encoding="utf-8")
    model = UnigramLM().fit_files(paths)
    assert model.vocabulary == ("words", "and", "naïve") and model.counts.tolist() == [3, 1, 1]
    assert UnigramLM().fit_files(str(paths[1])).vocabulary == ("words",)
    with pytest.raises(FileNotFoundError):
        UnigramLM().fit_files([tmp_path / "three.txt"])
    with pytest.raises(UnicodeDecodeError):
        UnigramLM().fit_files(paths, encoding="ascii")


def test_files_are_read_line_by_line(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a b\n" * 1000, encoding="utf-8")
    lines = []
    model = UnigramLM(tokenizer=lambda line: lines.append(line) or line.split()).fit_files(path)
    assert set(lines) == {"a b\n"} and model.counts.tolist() == [1000, 1000]


@pytest.mark.parametrize(
    "unknown, probability, ordered",
    [
        ("zero", 0.0, -math.inf),
        ("ignore", 0.0, math.log(4 / 10)),
        ("<rare>", 1 / 11, math.log(4 / 11) + math.log(1 / 11)),
    ],
)
def test_unknown_words(unknown, probability, ordered):
    """ "and" is met once only."""
    model = UnigramLM(unknown=unknown, min_count=2).fit([TEXT])
    assert model.probability("bird") == pytest.approx(probability, rel=1e-12)
    assert model.log_probability("the bird", ordered=True) == pytest.approx(ordered, rel=1e-12)
    assert "and" not in model.vocabulary and model.seen["and"] == 1
    if unknown == "<rare>":
        assert model.vocabulary[-1] == "<rare>" and model.counts.sum() == 11
        pair = math.log(2) + math.log(1 / 11) + math.log(4 / 11)
        assert model.log_probability("<rare> the") == model.log_probability("and the") == pytest.approx(pair, rel=1e-12)
    if unknown == "ignore":
        assert model.perplexity("the bird") == model.perplexity("the") == pytest.approx(10 / 4, rel=1e-12)


def test_unknown_words_that_are_errors():
    model = UnigramLM(unknown="error").fit([TEXT])
    for call in (model.log_probability, model.perplexity, lambda text: model.probability(text.split()[1])):
        with pytest.raises(ValueError, match=r"^document: expected words of the vocabulary, got 'bird'"):
            call("the bird")
    model = UnigramLM(unknown="error", vocabulary=["the"]).fit(["the the"])
    with pytest.raises(ValueError, match=r"^documents: expected words of the vocabulary, got 'cat'"):
        model.fit([TEXT])
    assert model.counts.tolist() == [2]


def test_perplexity():
    model = UnigramLM(vocabulary=list("abcdefgh"), alpha=1).fit("a b c d e f g h")
    assert model.perplexity(["a b", "h h h"]) == pytest.approx(8, rel=1e-12)
    skewed = UnigramLM().fit([TEXT])
    entropy = -sum(p * math.log(p) for p in skewed.probabilities)
    assert skewed.perplexity([TEXT]) == pytest.approx(math.exp(entropy), rel=1e-12)
    with pytest.raises(ValueError, match=r"^documents: expected at least one word, got none"):
        skewed.perplexity([""])


def test_sample():
    model = UnigramLM().fit([TEXT])
    words = model.sample(20_000, seed=0)
    assert words == model.sample(20_000, seed=np.random.default_rng(0)) != model.sample(20_000, seed=1)
    found = UnigramLM(vocabulary=model.vocabulary).fit([words])
    np.testing.assert_allclose(found.probabilities, model.probabilities, atol=0.015)
    assert model.sample(0) == []


@pytest.mark.parametrize(
    "settings", [{}, {"unknown": "<unk>", "min_count": 2}, {"vocabulary": ["cat", "é"], "alpha": 0.5}]
)
def test_saved_loaded_pickled(tmp_path, settings):
    model = UnigramLM(**settings).fit([TEXT])
    model.save(tmp_path / "model.json")
    assert json.loads((tmp_path / "model.json").read_text("utf-8"))["alpha"] == model.alpha
    for again in (UnigramLM.load(tmp_path / "model.json"), pickle.loads(pickle.dumps(model))):
        assert repr(again) == repr(model) and again.vocabulary == model.vocabulary and again.seen == model.seen
        assert again.probabilities.tobytes() == model.probabilities.tobytes()
        assert again.log_probability("cat the") == model.log_probability("cat the")


def test_names_and_words_of_the_standard_library(column):
    """What is frequent in some sources is frequent in others: far below the perplexity of a uniform model."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    if len(paths) < 40:
        pytest.skip("no sources of the standard library here")

    def tokens(path):
        with tokenize.open(path) as file:
            found = tokenize.generate_tokens(io.StringIO(file.read()).readline)
            return [token.string for token in found if token.string.strip()]

    texts = [tokens(path) for path in paths[:40]]
    model = UnigramLM(0.1, unknown="<unk>", min_count=2).fit(texts[:30])
    assert model.counts.sum() == sum(map(len, texts[:30]))
    assert {"self", "(", "def", "return"} <= set(model.vocabulary[:40])
    inside, outside = model.perplexity(texts[:30]), model.perplexity(texts[30:])
    assert 1 < inside < len(model.vocabulary) / 2 and 1 < outside < len(model.vocabulary) / 2
    total = sum(model.log_probability(text, ordered=True) for text in texts[30:])
    assert outside == pytest.approx(math.exp(-total / sum(map(len, texts[30:]))), rel=1e-9)


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"alpha": -1}, ValueError, "alpha: expected a finite number of at least 0, got -1"),
        ({"alpha": math.nan}, ValueError, "alpha: expected a finite number of at least 0, got nan"),
        ({"alpha": "1"}, TypeError, "alpha: expected a number of at least 0, got '1'"),
        ({"tokenizer": 3}, TypeError, "tokenizer: expected a callable, got 3"),
        ({"unknown": "unk"}, ValueError, "unknown: expected .* or a word in angle brackets, got 'unk'"),
        ({"unknown": None}, ValueError, "unknown: expected 'zero', .* got None"),
        ({"min_count": 0}, ValueError, "min_count: expected an integer of at least 1, got 0"),
        ({"vocabulary": "abc"}, TypeError, "vocabulary: expected strings, got 'abc'"),
        ({"vocabulary": ["a", 1]}, TypeError, "vocabulary: expected strings, got 1"),
        ({"vocabulary": ["a", "b", "a"]}, ValueError, "vocabulary: expected each word once, got 'a' 2 times"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(settings, error, message):
    with pytest.raises(error, match=f"^{message}"):
        UnigramLM(**settings)


def test_texts_that_do_not_fit():
    for documents in ([3], [["a", 3]], [["a", b"b"]]):
        with pytest.raises(TypeError, match=r"^document: expected strings, got"):
            UnigramLM().fit(documents)
    for model in (UnigramLM(), UnigramLM(vocabulary=["a"]), UnigramLM(1), UnigramLM(min_count=2)):
        with pytest.raises(ValueError, match=r"^documents: expected at least one word of the vocabulary, got none"):
            model.fit(["b"] if model.min_count == 2 else [""])
        for call in (model.perplexity, model.log_probability, model.probability, model.save):
            with pytest.raises(ValueError, match=r"^this UnigramLM is not fitted"):
                call("a")
        with pytest.raises(ValueError, match=r"^this UnigramLM is not fitted"):
            model.sample(1)
    with pytest.raises(TypeError, match=r"^ordered: expected True or False, got 1"):
        UnigramLM().fit("a").log_probability("a", ordered=1)


def test_files_that_hold_no_model(tmp_path):
    path = tmp_path / "model.json"
    UnigramLM().fit("a b a").save(path)
    model = json.loads(path.read_text("utf-8"))
    wrong = [
        {name: value for name, value in model.items() if name != "vocabulary"},
        *({**model, **change} for change in ({"alpha": "1"}, {"unknown": 3}, {"min_count": 0}, {"vocabulary": "ab"})),
        *({**model, "seen": seen} for seen in (["a"], {}, {"a": "b"}, {"a": 0.5}, {"a": -1}, {"a": 10**30})),
    ]
    for text in ("", "{", "3", "null", "[]", '"text"', "{}", *map(json.dumps, wrong)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"^path: expected a model that UnigramLM.save wrote, got '.*model\.json'"):
            UnigramLM.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"^path: expected a model"):
        UnigramLM.load(path)
    with pytest.raises(TypeError, match=r"^tokenizer: expected a callable, got 3"):
        UnigramLM.load(path, tokenizer=3)
    with pytest.raises(FileNotFoundError):
        UnigramLM.load(tmp_path / "none.json")


def test_it_needs_neither_scikit_learn_nor_scipy():
    code = """
import sys
sys.modules.update({name: None for name in ("scipy", "sklearn")})  # importing them fails
from fastml.language import UnigramLM
with __import__("fastml").use("reference"):
    print(UnigramLM().fit("a b a").log_probability("a b"))
"""
    found = python(code)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) == pytest.approx(math.log(2 * 2 / 9))
    assert fastml.language.UnigramLM is UnigramLM
