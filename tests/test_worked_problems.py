"""Small problems with known answers, stated in the library's API."""

import numpy as np
import pytest
from compare import close

import fastml
from fastml.kernels.table import KERNELS
from fastml.language import RecurrentLM
from fastml.optim import Adam, global_norm

FORWARD, BACKWARD = (KERNELS[f"lstm_{way}"].tolerance["float64"] for way in ("forward", "backward"))
ADAM = KERNELS["adam_update"].tolerance["float64"]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def column(*values):
    """One feature of one sequence: (T, 1, 1)."""
    return np.array(values, float)[:, None, None]


def test_backpropagation_through_time_by_hand(cell):
    """Two steps of h_t = tanh(W_i x_t + W_h h_{t-1}), ŷ = σ(W_o h_2), binary cross-entropy."""
    rng = np.random.default_rng(2)
    w_i, w_h, w_o = rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(1, 3))
    x, target = rng.normal(size=(2, 2)), 1.0

    y, h_n, tape = fastml.rnn_forward(x[:, None], None, w_i, w_h)
    delta = sigmoid(w_o @ h_n[0]) - target
    grads = fastml.rnn_backward(tape, dh_n=(w_o.T @ delta)[None])

    h_0, h_1, h_2 = np.zeros(3), y[0, 0], y[1, 0]
    close(h_1, np.tanh(w_i @ x[0]), tolerance=FORWARD, dtype="float64")
    close(h_2, np.tanh(w_i @ x[1] + w_h @ h_1), tolerance=FORWARD, dtype="float64")
    e_2 = (w_o.T @ delta) * (1 - h_2**2)
    e_1 = (w_h.T @ e_2) * (1 - h_1**2)
    close(grads.w_hh, np.outer(e_2, h_1) + np.outer(e_1, h_0), tolerance=BACKWARD, dtype="float64")
    close(grads.w_ih, np.outer(e_2, x[1]) + np.outer(e_1, x[0]), tolerance=BACKWARD, dtype="float64")
    close(grads.x[:, 0], np.stack([e_1, e_2]) @ w_i, tolerance=BACKWARD, dtype="float64")


@pytest.mark.parametrize(
    "x, h",
    [
        ((0, 0, 1, 1, 1, 0), (0, 0, 0.761594155956, -0.761594155956, 0.761594155956, -0.380797077978)),
        ((1, 1, 0, 1, 1), (0.761594155956, -0.761594155956, 0.380797077978, 0.761594155919, -0.761594155956)),
    ],
)
def test_saturated_scalar_lstm(cell, x, h):
    """The forget gate is shut, the input gate open, the output gate the input, and the memory flips in sign."""
    w_ih, w_hh = [[100], [0], [50], [100]], [[0], [0], [-100], [0]]
    y, *_ = fastml.lstm_forward(column(*x), None, None, w_ih, w_hh, [100, -100, 0, 0])
    close(y, column(*h), tolerance=FORWARD, dtype="float64")
    assert np.array_equal(np.round(y), np.round(column(*h)))


LSTM = {
    "w_ih": [[-1, 0], [1, 2], [1, 2], [3, 0]],
    "w_hh": [[2], [0.5], [1.5], [-1]],
    "b_ih": [-0.1, 0.2, 0.5, 0.8],
}


def test_one_lstm_with_its_loss(cell):
    x = np.array([[1, 0], [0.5, -1]])[:, None]
    y, h_n, c_n, tape = fastml.lstm_forward(x, None, None, **LSTM)
    gates = [
        [0.24973989440488234, 0.7685247834990175, 0.9051482536448665, 0.9781187290638694],
        [0.4588009406845741, 0.23302782058942642, -0.5875250664880864, 0.8891990101825361],
    ]
    close(tape.arrays["gates"][:, 0], gates, tolerance=FORWARD, dtype="float64")
    close(
        tape.arrays["cells"][:, 0, 0],
        [0, 0.22605162928603262, -0.21688073466728786],
        tolerance=FORWARD,
        dtype="float64",
    )
    close(y, column(0.21741463870951444, -0.18988224905711587), tolerance=FORWARD, dtype="float64")
    loss = np.mean((y - column(0.5, 0.8)) ** 2)
    close(loss, 0.5298606767070242, tolerance=FORWARD, dtype="float64")
    assert h_n == y[-1] and c_n == tape.arrays["cells"][-1]


def test_facts_about_an_lstm(cell):
    """Biases move the state without input; a shut forget gate leaves the gradient a way; gates do not sum to 1."""
    y, _, _, tape = fastml.lstm_forward(np.zeros((3, 1, 2)), None, None, **LSTM)
    assert y.all() and len(np.unique(y)) == 3
    i, f, _, o = tape.arrays["gates"][:, 0].T
    assert all(((gate > 0) & (gate < 1)).all() for gate in (i, f, o)) and (np.abs(i + f + o - 1) > 0.1).all()

    shut = {**LSTM, "b_ih": [-0.1, -800, 0.5, 0.8]}
    x = np.array([[1, 0], [0.5, -1]])[:, None]
    y, _, _, tape = fastml.lstm_forward(x, None, None, **shut)
    assert (tape.arrays["gates"][:, 0, 1] < 1e-300).all()
    grads = fastml.lstm_backward(tape, dy=np.array([0, 1.0])[:, None, None])
    assert (np.abs(grads.x[0]) > 1e-3).any()


def test_embedding(cell):
    """A one-hot vector times a matrix is a row of it; the gradient of the matrix is a scatter-add."""
    table = np.array([[1, 1, 3, 4], [2, 3, 3, 4], [4, 1, 1, 0], [2, 0, 2, 4]], float)
    words = np.array([1, 3, 1])
    one_hot = np.eye(4)[words]
    assert np.array_equal(one_hot @ table, table[words]) and np.array_equal(table[1], [2, 3, 3, 4])
    rng = np.random.default_rng(9)
    y, _, tape = fastml.rnn_forward(table[words][:, None], None, rng.normal(size=(3, 4)) / 8, rng.normal(size=(3, 3)))
    grads = fastml.rnn_backward(tape, dy=rng.normal(size=y.shape))
    scattered = np.zeros_like(table)
    np.add.at(scattered, words, grads.x[:, 0])
    close(scattered, one_hot.T @ grads.x[:, 0], tolerance=BACKWARD, dtype="float64")


def test_gates_from_concatenated_h_and_x(cell):
    """σ(W [h; x] + b): the columns of W are w_hh and then w_ih. The other gates are held open by their biases."""
    w_i = np.array(
        [[6, 4, 3, 1, 5, 6, 2, 0], [0, 0, 6, 6, 1, 3, 3, 5], [6, 4, 2, 3, 4, 5, 1, 2], [6, 6, 2, 6, 1, 4, 0, 0]], float
    )
    open_gates = np.zeros((12, 8))
    w = np.concatenate([w_i, open_gates])
    b = np.array([4, 4, 2, 1] + [100] * 12, float)
    h, x, c = np.full((1, 4), 0.76), np.array([[[2, 3, 3, 4]]], float), np.array([[1, 1, 1, 0.99]])
    close(w_i @ np.concatenate([h[0], x[0, 0]]) + b[:4], [48.64, 53.12, 47.4, 30.2], tolerance=FORWARD, dtype="float64")
    y, _, c_n, tape = fastml.lstm_forward(x, h, c, w[:, 4:].copy(), w[:, :4].copy(), b)
    close(tape.arrays["gates"], np.ones((1, 1, 16)), tolerance=1e-13, dtype="float64")
    close(c_n, [[2, 2, 2, 1.99]], tolerance=FORWARD, dtype="float64")
    close(y, [[[0.964027580076, 0.964027580076, 0.964027580076, 0.963314218605]]], tolerance=FORWARD, dtype="float64")


def test_gates_with_given_values(cell):
    """A gate of which only the value is known is a bias of that value's logit."""
    w_c, b_c = np.array([[0, 4, 0, 5], [-2, 6, 2, 5]], float), [1, 1]
    h, c, x = [[0.4165792, 0.32134238]], [[0.44354576, 1.99999732]], np.array([[[0, 2]]], float)
    f, i, o = [0.33209835, 0.9014788], [0.99999057, 0.333263], [0.33333224, 0.99998962]
    logit = [np.log(p) - np.log1p(-p) for p in map(np.array, (i, f, o))]
    w = np.zeros((8, 4))
    w[4:6] = w_c
    b = np.concatenate([logit[0], logit[1], b_c, logit[2]])
    y, _, c_n, tape = fastml.lstm_forward(x, h, c, w[:, 2:].copy(), w[:, :2].copy(), b)
    close(tape.arrays["gates"][0, 0], [*i, *f, 0.999999999957, 0.999999999938, *o], tolerance=FORWARD, dtype="float64")
    close(c_n, [[1.147291385003, 2.136218184016]], tolerance=FORWARD, dtype="float64")
    close(y, [[[0.27228403456, 0.972478113743]]], tolerance=FORWARD, dtype="float64")


def test_both_grus(cell):
    """The reset gate before the product (row vectors, W to the right) and after it; they differ."""
    rng = np.random.default_rng(10)
    w_xr, w_xz, w_xh = rng.normal(size=(3, 2, 4))
    w_hr, w_hz, w_hh = rng.normal(size=(3, 4, 4))
    b_r, b_z, b_h, b_hh = rng.normal(size=(4, 4))
    x, h = rng.normal(size=(3, 2)), rng.normal(size=(3, 4))
    r = sigmoid(x @ w_xr + h @ w_hr + b_r)
    z = sigmoid(x @ w_xz + h @ w_hz + b_z)
    before = np.tanh(x @ w_xh + (r * h) @ w_hh + b_h + b_hh)
    after = np.tanh(x @ w_xh + b_h + r * (h @ w_hh + b_hh))

    w_i, w_h = np.concatenate([w_xr, w_xz, w_xh], axis=1).T, np.concatenate([w_hr, w_hz, w_hh], axis=1).T
    b_i, b_hidden = np.concatenate([b_r, b_z, b_h]), np.concatenate([np.zeros(8), b_hh])
    got = {}
    for reset_after, candidate in ((False, before), (True, after)):
        y, *_ = fastml.gru_forward(x[None], h, w_i, w_h, b_i, b_hidden, reset_after=reset_after)
        close(y[0], z * h + (1 - z) * candidate, tolerance=FORWARD, dtype="float64")
        got[reset_after] = y
    assert np.abs(got[True] - got[False]).max() > 0.1


@pytest.mark.parametrize("V, parts", [(9, (54, 30, 25, 45, 154)), (8, (48, 30, 25, 40, 143))])
def test_a_language_model_counts_itself(V, parts):
    """e = E[x], h = tanh(W_h h + W_e e), softmax(U h): E 6, H 5."""
    model = RecurrentLM(V, embedding=6, hidden=5, cell="rnn", bias=False)
    found = model.count_parameters()
    assert tuple(found[name] for name in ("embedding", "input", "recurrent", "output", "total")) == parts
    assert sum(weight.size for weight in model.weights.values()) == parts[-1]


def test_adam(cell):
    """The second step of Adam from given moments."""
    w, g = np.array([[-0.22, 0.33, 0.67], [0.49, -0.86, -0.90]]), [[0.78, 0.02, 0.04], [-0.88, -0.14, 1.01]]
    m, v = [[-0.27, 0.27, -0.07], [-0.12, -0.02, 0.12]], [[0.01, 0.07, 0.11], [0.14, 0.17, 0.02]]
    adam = Adam({"w": w}, lr=0.1, betas=(0.9, 0.999), eps=1e-8)
    adam.load_state_dict({"steps": 1, "first.w": m, "second.w": v})
    adam.step({"w": np.array(g)})
    new = {
        "first": [[-0.165, 0.245, -0.059], [-0.196, -0.032, 0.209]],
        "second": [[0.0105984, 0.0699304, 0.1098916], [0.1406344, 0.1698496, 0.0210001]],
    }
    for name, want in new.items():
        close(getattr(adam, name)["w"], want, tolerance=ADAM, dtype="float64", name=name)
    want = [[-0.182284785225, 0.308198525185, 0.674188153193], [0.502298809782, -0.858172865535, -0.933938168337]]
    close(w, want, tolerance=1e-12, dtype="float64")  # that many digits


@pytest.mark.parametrize("w", [3.0, -3.0, 5.0])
def test_gradients_that_vanish_and_explode(cell, w):
    """h_t = φ(W_h h_{t-1} + …) with φ(z) = σ(z) - 1/2 = tanh(z/2) / 2: tanh's recurrence in 2h, with W_h / 4.

    With W_h as w_ih, x_t is added to the state before step t, so that one backward pass gives ∂L/∂h_{t-1} in dx_t.
    """
    T, H = 100, 4
    rotation = np.linalg.qr(np.random.default_rng(13).normal(size=(H, H)))[0]  # keeps norms
    w_hh = w / 4 * rotation
    y, _, tape = fastml.rnn_forward(np.zeros((T, 1, H)), np.zeros((1, H)), w_hh, w_hh, np.zeros(H))
    assert not y.any()  # where φ' = 1/4
    upstream = np.array([[0.6, 0, 0, -0.8]])
    grads = fastml.rnn_backward(tape, dh_n=upstream)
    norms = np.linalg.norm(grads.x[:, 0], axis=1)  # of ∂L/∂h_0 … ∂L/∂h_{T-1}
    n = np.arange(T, 0, -1)
    close(np.log(norms), n * np.log(abs(w) / 4), tolerance=BACKWARD, dtype="float64")
    close(grads.h0, grads.x[0], tolerance=BACKWARD, dtype="float64")

    clipped = global_norm({"b": grads.b_ih})
    assert (clipped > 1e8) == (w == 5)
    adam = Adam({"b": np.zeros(H)}, betas=(0, 0.999), clip=1.0)  # whose first moment is the clipped gradient
    assert adam.step({"b": grads.b_ih}) == clipped
    close(adam.first["b"], grads.b_ih / max(1, clipped), tolerance=ADAM, dtype="float64")


def test_gradients_of_all_states_from_one_backward_pass(cell):
    """Zeros beside x, met by w_hh beside w_ih, are added to the state before each step: ∂L/∂h_{t-1} is their gradient,
    without what y_{t-1} itself adds. By hand: W_hᵀ ((1 - h_t²) ⊙ ∂L/∂h_t); of an LSTM: dh0 of the rest of the sequence.
    """
    T, B, I, H = 5, 2, 3, 4
    rng = np.random.default_rng(14)
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    beside = np.concatenate([x, np.zeros((T, B, H))], axis=2)

    w_i, w_h = rng.normal(size=(H, I)), rng.normal(size=(H, H))
    y, _, tape = fastml.rnn_forward(beside, None, np.concatenate([w_i, w_h], axis=1), w_h)
    grads = fastml.rnn_backward(tape, dy=dy)
    dh = np.zeros((B, H))
    for t in reversed(range(T)):
        dh = ((1 - y[t] ** 2) * (dy[t] + dh)) @ w_h
        close(grads.x[t, :, I:], dh, tolerance=BACKWARD, dtype="float64")

    w_i, w_h = rng.normal(size=(4 * H, I)), rng.normal(size=(4 * H, H))
    y, _, _, tape = fastml.lstm_forward(beside, None, None, np.concatenate([w_i, w_h], axis=1), w_h)
    grads, cells = fastml.lstm_backward(tape, dy=dy), tape.arrays["cells"]
    for t in range(1, T):
        rest = fastml.lstm_forward(x[t:], y[t - 1], cells[t], w_i, w_h)[-1]
        close(grads.x[t, :, I:], fastml.lstm_backward(rest, dy=dy[t:]).h0, tolerance=BACKWARD, dtype="float64")
