"""fastml: a fast CPU backend for recurrent networks, mixture models and boosting.

>>> import numpy as np, fastml
>>> lstm = fastml.LSTM(16, 32, seed=0)
>>> y, (h_n, c_n) = lstm(np.zeros((100, 4, 16), "float32"))
>>> y.shape
(100, 4, 32)
"""

from . import backend, boosting, losses, mixture, optim
from .backend import active, available, show, use
from .gru import gru_backward, gru_forward, gru_pack
from .layers import GRU, LSTM, RNN, LayerTape
from .lstm import lstm_backward, lstm_forward, lstm_pack
from .onehot import OneHot
from .rnn import rnn_backward, rnn_forward, rnn_pack
from .stream import PackedLayer, Stream
from .tape import Gradients, Packed, Tape
from .tbptt import Truncated, tbptt
from .threads import get_num_threads, set_num_threads
from .version import __version__

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Gradients",
    "LayerTape",
    "OneHot",
    "Packed",
    "PackedLayer",
    "Stream",
    "Tape",
    "Truncated",
    "__version__",
    "active",
    "available",
    "backend",
    "boosting",
    "get_num_threads",
    "gru_backward",
    "gru_forward",
    "gru_pack",
    "losses",
    "lstm_backward",
    "lstm_forward",
    "lstm_pack",
    "mixture",
    "optim",
    "rnn_backward",
    "rnn_forward",
    "rnn_pack",
    "set_num_threads",
    "show",
    "tbptt",
    "use",
]
