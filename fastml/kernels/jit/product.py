"""The one matrix product of this back end: c += a @ b, blocked for registers.

Every sum is one serial chain over k in the order of k, then added to c: rows, blocks and threads may be cut anywhere
without changing a bit.

Right operands are packed once per call into panels of PANEL vectors of columns, (panels, K, PANEL * lanes), which the
kernel reads from front to back; columns are padded with zeros to whole panels.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled, inlined
from .simd import REGISTERS, Vector, at, constant, flush_denormals, fused, lanes, restore_denormals, splat, step

PANEL = 4  # vectors
ROWS = 4 if REGISTERS == 32 else 2  # accumulators: ROWS * PANEL; the panel and one number of a need registers too


def columns(n: int, dtype) -> int:
    """n rounded up to whole panels."""
    return -n % (PANEL * lanes(dtype)) + n


def units(n: int, dtype) -> int:
    """n rounded up to whole vectors."""
    return -n % lanes(dtype) + n


def skewed(n: int, dtype) -> int:
    """n and one vector more: rows that are a power of two apart would compete for the same few sets of the cache, and
    `outer` reads columns of panels (256 × 1024 numbers, 96 rows: 134 → 250 GFLOP/s)."""
    return n + lanes(dtype)


def buffers(rows: int, *widths: int, dtype) -> list[np.ndarray]:
    """One `scratch` of `rows` rows for each width."""
    return [scratch(rows, width, dtype=dtype) for width in widths]


def scratch(*shape: int, dtype) -> np.ndarray:
    """Zeros that begin on a cache line: NumPy's own arrays do not, and every vector would straddle two."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _panels(b: np.ndarray) -> np.ndarray:
    """(K, columns) → (panels, K, columns of a panel)."""
    K, N = b.shape
    width = PANEL * lanes(b.dtype)
    out = scratch(N // width, K, width, dtype=b.dtype)
    for p, panel in enumerate(out):  # one by one, so that Ctrl-C is noticed in between
        panel[...] = b[:, p * width : (p + 1) * width]
    return out


def forward_weights(w: np.ndarray, gates: int, pitch: int, bias: np.ndarray | None = None) -> np.ndarray:
    """`w.T` (gates * H columns, each gate padded to `pitch`) in panels; a bias becomes the weight of a leading 1."""
    K, lead = w.shape[1], 0 if bias is None else 1
    wide = np.zeros((gates, pitch, lead + K), w.dtype)
    H = w.shape[0] // gates
    wide[:, :H, lead:] = w.reshape(gates, H, K)
    if bias is not None:
        wide[:, :H, 0] = bias.reshape(gates, H)
    return _panels(wide.reshape(gates * pitch, -1).T)


def backward_weights(w: np.ndarray, gates: int, pitch: int) -> np.ndarray:
    """`w` (gates * H rows, each gate padded to `pitch`) in panels."""
    N, H = w.shape[1], w.shape[0] // gates
    wide = np.zeros((gates, pitch, columns(N, w.dtype)), w.dtype)
    wide[:, :H, :N] = w.reshape(gates, H, N)
    return _panels(wide.reshape(gates * pitch, -1))


@compiled
def unpack(sums, gates, pitch, db, dw):
    """What `outer` summed, a row for the leading 1 and one for each input → the gradients of bias and weights."""
    H = len(db) // gates
    for g in range(gates):
        for j in range(H):
            db[g * H + j] = sums[0, g * pitch + j]
        for block in range(0, H, 16):  # a cache line of sums at a time, so that each is read once
            for i in range(dw.shape[1]):
                for j in range(block, min(block + 16, H)):
                    dw[g * H + j, i] = sums[1 + i, g * pitch + j]


@intrinsic(prefer_literal=True)
def _tile(typingctx, c, c_row, a, a_row, a_k, b, b_panel, b_k, K, rows, panels):
    """c[:rows, : columns of `panels`] += a[:rows, :K] @ b, the sums in registers.

    c, a, b are addresses, what follows them strides, in numbers; `rows` and `panels` are constants of the program.
    """
    vector = Vector(c.dtype)
    R, V = range(rows.literal_value), range(panels.literal_value * PANEL)

    def generate(context, builder, sig, args):
        c, c_row, a, a_row, a_k, b, b_panel, b_k, K = args[:9]
        kind, align, intp = vector.register, vector.bits // 8, K.type

        def ahead(pointer, count, stride):
            count = count if isinstance(count, ir.Value) else intp(count)
            return builder.gep(pointer, [builder.mul(count, stride)])

        def register(pointer, v):
            return builder.bitcast(ahead(pointer, v, intp(vector.lanes)), kind.as_pointer())

        sums = [[cgutils.alloca_once_value(builder, constant(kind, 0.0)) for _ in V] for _ in R]
        with cgutils.for_range(builder, K) as loop:
            b_of = [ahead(ahead(b, loop.index, b_k), panel, b_panel) for panel in range(panels.literal_value)]
            right = [builder.load(register(b_of[v // PANEL], v % PANEL), align=align) for v in V]
            for r in R:
                left = splat(builder, builder.load(ahead(ahead(a, r, a_row), loop.index, a_k)), kind)
                for v in V:
                    builder.store(fused(builder, left, right[v], builder.load(sums[r][v])), sums[r][v])
        for r in R:
            for v in V:
                out = register(ahead(c, r, c_row), v)
                builder.store(builder.fadd(builder.load(out, align=align), builder.load(sums[r][v])), out, align=align)
        return context.get_dummy_value()

    n = types.intp
    return types.void(c, n, a, n, n, b, n, n, n, rows, panels), generate


@intrinsic
def _ahead(typingctx, pointer, count):
    """pointer + count, in numbers."""

    def generate(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), generate


@njit
def _blocks(c, c_row, a, a_row, a_k, b, b_panel, b_k, K, rows, panels, width, backwards):
    """`_tile` over all rows and panels; one panel of b serves all rows before the next is read."""
    tall = rows // ROWS * ROWS
    left = rows - tall
    c_left, a_left = _ahead(c, tall * c_row), _ahead(a, tall * a_row)
    for p in range(panels):
        c_p, b_p = _ahead(c, p * width), _ahead(b, p * b_panel)
        for r in range(0, tall, ROWS):
            _tile(_ahead(c_p, r * c_row), c_row, _ahead(a, r * a_row), a_row, a_k, b_p, b_panel, b_k, K, ROWS, 1)
        if left == 2:
            _tile(_ahead(c_left, p * width), c_row, a_left, a_row, a_k, b_p, b_panel, b_k, K, 2, 1)
        elif left == 3:
            _tile(_ahead(c_left, p * width), c_row, a_left, a_row, a_k, b_p, b_panel, b_k, K, 3, 1)
    if left == 1:  # two panels at once: the sums of one row in one panel are too few to overlap
        pairs = (panels + 1) // 2
        for turn in range(pairs):
            p = 2 * (pairs - 1 - turn if backwards else turn)
            c_p, b_p = _ahead(c_left, p * width), _ahead(b, p * b_panel)
            if p + 1 < panels:
                _tile(c_p, c_row, a_left, a_row, a_k, b_p, b_panel, b_k, K, 1, 2)
            else:
                _tile(c_p, c_row, a_left, a_row, a_k, b_p, b_panel, b_k, K, 1, 1)


@inlined
def product(c, i, j, a, k, l, rows, b, backwards=False):
    """c[i : i + rows, j:] += a[k : k + rows, l:] @ b, with b in panels.

    A single row reads them `backwards` at every other step, so that what a step read last, the next reads first: 1.2
    times as fast where the weights of a batch of 1 do not fit the second-level cache.
    """
    panels, K, width = b.shape
    _blocks(
        at(c, i, j), c.shape[1], at(a, k, l), a.shape[1], 1,
        at(b, 0, 0), K * width, width, K, rows, panels, width, backwards,
    )  # fmt: skip


@compiled
def inner(c, i, rows, a, l, b):
    """c[i : i + rows] = a[i : i + rows, l:] @ b, with b in panels."""
    before = flush_denormals()
    c[i : i + rows] = 0
    product(c, i, 0, a, i, l, rows, b)
    restore_denormals(before)


@compiled
def outer(c, i, rows, a, b, j, K):
    """c[i : i + rows] += a[:K, i : i + rows].T @ b[:K, j : j + c's columns]."""
    width = PANEL * step(c)
    before = flush_denormals()
    _blocks(
        at(c, i, 0), c.shape[1], at(a, 0, i), 1, a.shape[1],
        at(b, 0, j), width, b.shape[1], K, rows, c.shape[1] // width, width, False,
    )  # fmt: skip
    restore_denormals(before)
