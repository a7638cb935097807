"""The unigram model: words drawn one by one.

>>> from fastml.language import UnigramLM
>>> model = UnigramLM().fit(["a rose is a rose", "is a rose"])
>>> model.vocabulary, model.probability("rose")
(('a', 'rose', 'is'), 0.375)
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from .. import check
from ..kernels.table import Rows
from ..mixture.multinomial import Counts, Multinomials, MultinomialStatistics, coefficients, multinomial_update

__all__ = ["UnigramLM"]

Document = str | Iterable[str]
FLOAT64 = np.dtype("float64")


class UnigramLM:
    """Words drawn one by one, each without regard to the others: the multinomial mixture of one component.

    .. math:: \\ln P(d | θ) = \\ln |d|! - \\sum_i \\ln c(w_i)! + \\sum_i c(w_i) \\ln θ_i,
        \\quad θ_i = \\frac{C(w_i) + α}{\\sum_j C(w_j) + α V}

    with c the counts of words in a document d, |d| their sum, and C those of the text that the model was fitted to. A
    document is a string, which the tokenizer cuts into words, or an iterable of words.

    Parameters
    ----------
    alpha : float, default=0.0
        At least 0: added to the count of each word of the vocabulary. 0 gives the largest likelihood, in which a word
        never seen has probability 0, 1 Laplace's rule.
    tokenizer : callable, default=str.split
        str → iterable of words.
    unknown : str, default="zero"
        What becomes of a word that is not in the vocabulary. "zero": it has probability 0; "error": it is a ValueError;
        "ignore": it is passed over; a word in angle brackets such as "<unk>": that word, which is added to the
        vocabulary, stands for all of them, in the text that the model is fitted to as well.
    vocabulary : iterable of str or None, default=None
        The words, in the order wanted; None for all that `fit` meets at least `min_count` times, the most frequent ones
        first, equally frequent ones in the order of the alphabet.
    min_count : int, default=1
        At least 1. Has no effect where `vocabulary` is given.

    Attributes
    ----------
    vocabulary : tuple of str
        The V words. They, and all that follow, are there after `fit`.
    counts : array of shape (V,), int64
        C, the times that each word was met.
    probabilities : array of shape (V,), float64
        θ, of sum 1.
    seen : collections.Counter
        All words that were met, those outside the vocabulary too.

    Raises
    ------
    TypeError, ValueError
        A parameter does not fit.

    Notes
    -----
    Logarithms are natural. Memory: the words met, each once; texts are read as they come and not kept.

    References
    ----------
    Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), 12.2 and 13.2.

    Examples
    --------
    >>> from fastml.language import UnigramLM
    >>> model = UnigramLM(alpha=1, vocabulary=["heads", "tails"]).fit(["heads heads tails", "heads"])
    >>> model.counts.tolist(), model.probabilities.round(6).tolist()
    ([3, 1], [0.666667, 0.333333])
    >>> round(model.log_probability("tails heads"), 6)
    -0.81093
    >>> round(model.log_probability("tails heads", ordered=True), 6)
    -1.504077
    """

    def __init__(
        self,
        alpha: float = 0.0,
        *,
        tokenizer: Callable[[str], Iterable[str]] = str.split,
        unknown: str = "zero",
        vocabulary: Iterable[str] | None = None,
        min_count: int = 1,
    ) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float, np.integer, np.floating)):
            raise TypeError(f"alpha: expected a number of at least 0, got {alpha!r}")
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha: expected a finite number of at least 0, got {alpha!r}")
        if not (isinstance(unknown, str) and (unknown in ("zero", "error", "ignore") or _in_brackets(unknown))):
            raise ValueError(
                f"unknown: expected 'zero', 'error', 'ignore' or a word in angle brackets, got {unknown!r}"
            )
        self.alpha, self.tokenizer, self.unknown = float(alpha), _checked(tokenizer), unknown
        self.min_count = check.integer("min_count", min_count, 1)
        self._given = None if vocabulary is None else tuple(_words("vocabulary", vocabulary))
        for word, times in Counter(self._given or ()).items():
            if times > 1:
                raise ValueError(f"vocabulary: expected each word once, got {word!r} {times} times")

    def __repr__(self) -> str:
        fitted = f", {len(self.vocabulary)} words" if hasattr(self, "vocabulary") else ""
        return f"UnigramLM(alpha={self.alpha}, unknown={self.unknown!r}{fitted})"

    # --------------------------------------------------------------------------------------------------------- fitting

    def fit(self, documents: Iterable[Document]) -> Self:
        """Count the words of documents, and set θ.

        Parameters
        ----------
        documents : iterable of documents
            Or one string, which is one document. Read once, as it comes.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            A document is neither a string nor an iterable of strings.
        ValueError
            There is no word to count, or with `unknown="error"` one that is not in the vocabulary given. The model is
            then what it was before.

        Examples
        --------
        >>> from fastml.language import UnigramLM
        >>> UnigramLM().fit(["a rose is", "a rose"]).vocabulary
        ('a', 'rose', 'is')
        """
        return self._set(self._words_of(documents))

    def fit_files(self, paths: Iterable[str | PathLike], *, encoding: str = "utf-8") -> Self:
        """`fit` to text files, read line by line.

        Parameters
        ----------
        paths : iterable of paths
            Or one path.
        encoding : str, default="utf-8"

        Returns
        -------
        self

        Raises
        ------
        OSError, UnicodeDecodeError
            A file cannot be read.
        ValueError
            As in `fit`.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fastml.language import UnigramLM
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = Path(folder, "rose.txt").write_text("a rose is a rose")
        ...     UnigramLM().fit_files(Path(folder, "rose.txt")).counts.tolist()
        [2, 2, 1]
        """
        seen: Counter[str] = Counter()
        for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
            with open(path, encoding=encoding) as lines:
                seen += self._words_of(lines)
        return self._set(seen)

    def _set(self, seen: Counter) -> Self:
        token = self.unknown if _in_brackets(self.unknown) else None
        if self._given is None:
            vocabulary = sorted((word for word in seen if seen[word] >= self.min_count), key=lambda w: (-seen[w], w))
        else:
            vocabulary = list(self._given)
        if token is not None and token not in vocabulary:
            vocabulary.append(token)
        index = {word: i for i, word in enumerate(vocabulary)}
        left = [word for word in seen if word not in index]
        if left and self.unknown == "error" and self._given is not None:
            raise ValueError(f"documents: expected words of the vocabulary, got {left[0]!r}")
        counts = np.array([seen[word] for word in vocabulary], np.int64)
        if token is not None:
            counts[index[token]] += sum(seen[word] for word in left)
        if not len(counts) or counts.sum() + self.alpha == 0:
            raise ValueError("documents: expected at least one word of the vocabulary, got none")
        one = MultinomialStatistics(FLOAT64, np.ones(1), counts[None].astype(FLOAT64), 0.0, 0.0, 1.0)
        _, probabilities = multinomial_update(one, alpha=self.alpha)
        self.vocabulary, self.counts, self.probabilities, self.seen = tuple(vocabulary), counts, probabilities[0], seen
        self._index, self._mixture = index, Multinomials(None, probabilities, FLOAT64)
        return self

    # -------------------------------------------------------------------------------------------------------- asking

    def probability(self, word: str) -> float:
        """θ of a word; of one that is not in the vocabulary 0, or what `unknown` says ("ignore": 0).

        Examples
        --------
        >>> from fastml.language import UnigramLM
        >>> model = UnigramLM().fit(["a rose is a rose"])
        >>> model.probability("rose"), model.probability("tulip")
        (0.4, 0.0)
        """
        self._check_fitted()
        (word,) = _words("word", [word])
        place = self._place(word)
        return 0.0 if place is None else float(self.probabilities[place])

    def log_probability(self, document: Document, *, ordered: bool = False) -> float:
        """The logarithm of a document's probability among those of as many words.

        Parameters
        ----------
        document : str or iterable of str
        ordered : bool, default=False
            False: of its counts, whatever the order of the words: with the multinomial coefficient. True: of its words
            in their order: without.

        Returns
        -------
        float
            In nats; -inf where a word has probability 0.

        Raises
        ------
        TypeError, ValueError
            The model is not fitted, `document` is not what it should be, or with `unknown="error"` has a word that is
            not in the vocabulary.

        Examples
        --------
        >>> from fastml.language import UnigramLM
        >>> model = UnigramLM().fit(["heads tails"])
        >>> [round(model.log_probability("heads tails", ordered=ordered), 6) for ordered in (False, True)]
        [-0.693147, -1.386294]
        """
        ordered = check.flag("ordered", ordered)
        counts, impossible = self._counts(self._tokens(document))
        if impossible:
            return -math.inf
        likelihood = float(self._mixture.posterior(counts, "log_likelihood")[0][0])
        return likelihood if ordered else likelihood + float(coefficients(counts)[0])

    def perplexity(self, documents: Iterable[Document]) -> float:
        """exp(-Σ ln θ / words): how many equally probable words would be as hard to foretell.

        Parameters
        ----------
        documents : iterable of documents
            Or one string, which is one document. Read once, as it comes. Words passed over do not count.

        Returns
        -------
        float
            inf where a word has probability 0.

        Raises
        ------
        TypeError, ValueError
            As in `log_probability`, or there are no words.

        Examples
        --------
        >>> from fastml.language import UnigramLM
        >>> round(UnigramLM().fit(["heads tails"]).perplexity("heads heads"), 6)
        2.0
        """
        self._check_fitted()
        counts, impossible = self._counts(self._words_of(documents))
        if impossible:
            return math.inf
        if not counts.total[0]:
            raise ValueError("documents: expected at least one word, got none")
        with np.errstate(over="ignore"):
            return float(np.exp(-self._mixture.posterior(counts, "log_likelihood")[0] / counts.total)[0])

    def sample(self, length: int, *, seed: int | np.random.Generator | None = None) -> list[str]:
        """Draw a document of `length` words, at least 0.

        Examples
        --------
        >>> from fastml.language import UnigramLM
        >>> UnigramLM().fit(["no no no"]).sample(2, seed=0)
        ['no', 'no']
        """
        self._check_fitted()
        length = check.integer("length", length, 0)
        drawn = np.random.default_rng(seed).choice(len(self.vocabulary), length, p=self.probabilities)
        return [self.vocabulary[i] for i in drawn.tolist()]

    # --------------------------------------------------------------------------------------------------------- keeping

    def save(self, path: str | PathLike) -> None:
        """Write the model to a file, as JSON; all but the tokenizer.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import UnigramLM
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     UnigramLM().fit(["a rose"]).save(os.path.join(folder, "unigram.json"))
        ...     UnigramLM.load(os.path.join(folder, "unigram.json"))
        UnigramLM(alpha=0.0, unknown='zero', 2 words)
        """
        self._check_fitted()
        names = ("alpha", "unknown", "min_count")
        data = {name: getattr(self, name) for name in names}
        text = json.dumps({**data, "vocabulary": self._given, "seen": self.seen}, ensure_ascii=False)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike, *, tokenizer: Callable[[str], Iterable[str]] = str.split) -> Self:
        """Read a model that `save` wrote; with the tokenizer that it had, if that was not `str.split`.

        Raises
        ------
        OSError
            The file cannot be read.
        TypeError, ValueError
            `tokenizer` is not callable, or the file holds no such model.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import UnigramLM
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     UnigramLM(tokenizer=list).fit(["rose"]).save(os.path.join(folder, "letters.json"))
        ...     UnigramLM.load(os.path.join(folder, "letters.json"), tokenizer=list).vocabulary
        ('e', 'o', 'r', 's')
        """
        tokenizer = _checked(tokenizer)
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            seen = Counter({word: check.integer("seen", times, 1) for word, times in data["seen"].items()})
            return cls(
                data["alpha"],
                tokenizer=tokenizer,
                unknown=data["unknown"],
                vocabulary=data["vocabulary"],
                min_count=data["min_count"],
            )._set(seen)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"path: expected a model that UnigramLM.save wrote, got {str(path)!r}") from error

    # ----------------------------------------------------------------------------------------------------------- words

    def _check_fitted(self) -> None:
        if not hasattr(self, "vocabulary"):
            raise ValueError("this UnigramLM is not fitted: call fit or fit_files first")

    def _tokens(self, document: Document) -> Sequence[str]:
        return _words("document", self.tokenizer(document) if isinstance(document, str) else document)

    def _words_of(self, documents: Iterable[Document]) -> Counter[str]:
        words: Counter[str] = Counter()
        for document in [documents] if isinstance(documents, str) else documents:
            words.update(self._tokens(document))
        return words

    def _place(self, word: str) -> int | None:
        """The number of a word, or of what stands for it; None where nothing does."""
        place = self._index.get(word)
        if place is None and self.unknown == "error":
            raise ValueError(f"document: expected words of the vocabulary, got {word!r}")
        return self._index.get(self.unknown) if place is None and _in_brackets(self.unknown) else place

    def _counts(self, words: Iterable[str] | Counter) -> tuple[Counts, bool]:
        """The counts of one row, and whether there is a word outside the vocabulary that makes it impossible."""
        self._check_fitted()
        found: Counter[int | None] = Counter()
        for word, times in Counter(words).items():
            found[self._place(word)] += times
        left = found.pop(None, 0)
        places = np.array(sorted(found), np.intp)
        values = np.array([found[place] for place in places.tolist()], FLOAT64)
        rows = Rows(values, places, np.array([0, len(places)], np.intp))
        return Counts(rows, 1, len(self.vocabulary), values.sum(keepdims=True)), bool(left) and self.unknown == "zero"


def _checked(tokenizer: Any) -> Callable[[str], Iterable[str]]:
    if not callable(tokenizer):
        raise TypeError(f"tokenizer: expected a callable, got {tokenizer!r}")
    return tokenizer


def _in_brackets(word: str) -> bool:
    return len(word) > 2 and word[0] == "<" and word[-1] == ">"


def _words(name: str, words: Any) -> list[str]:
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise TypeError(f"{name}: expected strings, got {words!r}")
    found = list(words)
    for word in found:
        if not isinstance(word, str):
            raise TypeError(f"{name}: expected strings, got {word!r}")
    return found
