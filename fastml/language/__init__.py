"""Language models: words without regard to each other, and recurrent networks of symbols with their training.

>>> from fastml.language import RecurrentLM, Trainer
>>> trainer = Trainer(RecurrentLM(256, hidden=8, seed=0), b"so it goes, and " * 50, batch=2, seq_len=20)
>>> first = trainer.step()
>>> min(trainer.step() for _ in range(30)) < first
True
"""

from .recurrent import LMTape, RecurrentLM
from .text import find_files, read_text
from .training import Trainer
from .unigram import UnigramLM

__all__ = ["LMTape", "RecurrentLM", "Trainer", "UnigramLM", "find_files", "read_text"]
