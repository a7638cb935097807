"""Gaussian mixtures, a block of rows at a time; the steps are numbered as in the reference.

    1  q_k = |(x - μ_k) U_k|²
    2  l_k = constants_k - q_k / 2
    3  log_likelihood = ln Σ_k exp l_k,   r_k = exp(l_k - log_likelihood)
    4  n_k += w r_k,   first_k += w r_k (x - μ_k),   second_k += w r_k (x - μ_k)(x - μ_k)ᵀ, or what of it the type needs

Steps 1 to 3 have a row in each lane: x is transposed, a few vectors of rows at a time, and l is (K, rows). Step 4 has a
feature in each lane: h = sqrt(w r), which costs one root for all components, makes `second` the product of
h (x - μ) with itself, half of which is computed, over the rows alone whose h is not 0.

Sums over a tile are in the dtype of X; they are added to the totals in float64, in the order of the tiles. Those of n
for "tied" are in float64 from the start: its covariance is a difference, in which what a row's responsibilities sum to
is multiplied by the square of the distance between components.
"""

import threading

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..table import TILE
from .arithmetic import exp, log
from .compiling import compiled, inlined
from .product import PANEL, ROWS, scratch, skewed, units
from .sequence import CHUNK_WORK, blocks, share
from .simd import (
    Vector,
    at,
    at_least,
    constant,
    flush_denormals,
    fma,
    fused,
    lanes,
    load,
    restore_denormals,
    splat,
    square_root,
    step,
    store,
    zeros,
)

TYPES = {"full": 0, "tied": 1, "diag": 2, "spherical": 3}
FULL, TIED, DIAG, SPHERICAL = TYPES.values()

BLOCK = 256  # rows, or fewer, so that they take no more than
BLOCK_BYTES = 1 << 18  # of X
PACKED_BYTES = 1 << 16  # of the rows that one product of step 4 takes
GROUP_WORK = 1 << 24  # floating-point operations of the tiles that a worker sums before it adds them to the totals
GROUP_BYTES = 1 << 18  # of their sums
EXP_WORK = 40  # floating-point operations of step 3 for a row and component
TALL = 2 * ROWS  # rows of a product's registers, of up to 3 vectors


# ------------------------------------------------------------------------------------------------------ the product


def _chains(builder, a, a_row, a_k, b, b_k, K, rows, vector, count):
    """Registers with a[:rows, :K] @ b[:K, : count vectors], each number of them one chain over k (llvmlite level).

    a and b are addresses, what follows them strides, in numbers.
    """
    kind, intp = vector.register, K.type

    def ahead(pointer, index, stride):
        return builder.gep(pointer, [builder.mul(index if isinstance(index, ir.Value) else intp(index), stride)])

    sums = [[cgutils.alloca_once_value(builder, constant(kind, 0.0)) for _ in range(count)] for _ in range(rows)]
    with cgutils.for_range(builder, K) as loop:
        b_of, a_of = ahead(b, loop.index, b_k), ahead(a, loop.index, a_k)
        right = [builder.load(_register(builder, b_of, v, vector), align=vector.bits // 8) for v in range(count)]
        for r in range(rows):
            left = splat(builder, builder.load(ahead(a_of, r, a_row)), kind)
            for v in range(count):
                builder.store(fused(builder, left, right[v], builder.load(sums[r][v])), sums[r][v])
    return [[builder.load(one) for one in row] for row in sums]


def _register(builder, pointer, v, vector):
    """The address of vector v behind `pointer`."""
    return builder.bitcast(builder.gep(pointer, [ir.IntType(64)(v * vector.lanes)]), vector.register.as_pointer())


@intrinsic(prefer_literal=True)
def add_product(typingctx, c, c_row, a, a_row, a_k, b, b_k, K, rows, count):
    """c[:rows, : count vectors] += a[:rows, :K] @ b[:K, : count vectors]; `rows` and `count` are constants."""
    vector = Vector(c.dtype)

    def generate(context, builder, sig, args):
        c, c_row, *operands = args[:8]
        for r, row in enumerate(_chains(builder, *operands, rows.literal_value, vector, count.literal_value)):
            c_of = builder.gep(c, [builder.mul(c_row.type(r), c_row)])
            for v, one in enumerate(row):
                out = _register(builder, c_of, v, vector)
                builder.store(builder.fadd(builder.load(out, align=vector.bits // 8), one), out, align=vector.bits // 8)
        return context.get_dummy_value()

    n = types.intp
    return types.void(c, n, a, n, n, b, n, n, rows, count), generate


@intrinsic(prefer_literal=True)
def _add_squares(typingctx, q, a, a_row, a_k, b, b_k, K, rows, count):
    """q[: count vectors] += the sums over rows of the squares of a[:rows, :K] @ b[:K, : count vectors]."""
    vector = Vector(q.dtype)

    def generate(context, builder, sig, args):
        chains = _chains(builder, *args[1:7], rows.literal_value, vector, count.literal_value)
        for v in range(count.literal_value):
            out = _register(builder, args[0], v, vector)
            one = builder.load(out, align=vector.bits // 8)
            for row in chains:
                one = fused(builder, row[v], row[v], one)
            builder.store(one, out, align=vector.bits // 8)
        return context.get_dummy_value()

    n = types.intp
    return types.void(q, a, n, n, b, n, n, rows, count), generate


@inlined
def add_products(c, i, a, a_row, a_k, b, b_k, K, rows, j, width):
    """c[i : i + rows, j:width] += a @ b[:, j:width] for `rows` of TALL or 1; j and width are whole vectors."""
    lanes = step(c)
    while j < width:
        left = min((width - j) // lanes, 3)
        c_j, b_j = at(c, i, j), ahead(b, j)
        if rows == 1:
            if left == 3:
                add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, 1, 3)
            elif left == 2:
                add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, 1, 2)
            else:
                add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, 1, 1)
        elif left == 3:
            add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, TALL, 3)
        elif left == 2:
            add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, TALL, 2)
        else:
            add_product(c_j, c.shape[1], a, a_row, a_k, b_j, b_k, K, TALL, 1)
        j += left * lanes


@intrinsic
def ahead(typingctx, pointer, count):
    """pointer + count, in numbers."""
    return pointer(pointer, types.intp), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


# ------------------------------------------------------------------------------------------------------- the kernels


def gaussian_log_density(X, means, factors, constants, covariance_type, log_density):
    _posterior(X, means, factors, constants, covariance_type, True, log_density, None, None)


def gaussian_responsibilities(X, means, factors, constants, covariance_type, resp, log_likelihood, labels):
    _posterior(X, means, factors, constants, covariance_type, False, resp, log_likelihood, labels)


def _posterior(X, means, factors, constants, covariance_type, density, resp, log_likelihood, labels):
    (N, D), K = X.shape, len(means)
    model = _model(means, factors, constants, covariance_type)
    work = K * (2.0 * D * D + EXP_WORK)
    outputs = outputs_of(K, X.dtype, resp, log_likelihood, labels)

    def pieces(worker, workers):
        buffers = _buffers(_block(K, D, work, X.dtype), K, D, X.dtype)
        for first, count in blocks(N, worker, workers, work):
            _posteriors(X, first, first + count, *model, *buffers, density, *outputs)
            yield

    share(pieces, work * N, N)


def gaussian_statistics(
    X, sample_weight, means, factors, constants, covariance_type,
    n, first, second, log_likelihood,
):  # fmt: skip
    (N, D), K, dtype = X.shape, len(means), X.dtype
    kind, *model = _model(means, factors, constants, covariance_type)
    weights = np.zeros(0, dtype) if sample_weight is None else sample_weight
    work = K * (2.0 * D * D + EXP_WORK)
    B, pitch = _block(K, D, work, dtype), units(D, dtype)
    tall = D + 1 if D % TALL == 0 else -(-(D + 1) // TALL) * TALL
    height = {FULL: tall, TIED: 1}.get(kind, 2)
    width = units(max(tall, pitch), dtype)
    packed = max(8, min(B, PACKED_BYTES // (width * dtype.itemsize)))
    group = max(1, min(int(GROUP_WORK / (work * TILE)), GROUP_BYTES // (K * height * pitch * dtype.itemsize)))
    points = scratch(K, pitch, dtype=dtype)
    points[:, :D] = means
    second_of = np.zeros((1, 1)) if second is None else second.reshape(-1, second.shape[-1] if second.ndim > 1 else 1)
    outputs = n, first, second_of, log_likelihood
    totals = [out.copy() for out in outputs]

    def buffers():
        weight, hx = scratch(1, B, dtype=dtype), scratch(packed, width, dtype=dtype)
        return *_buffers(B, K, D, dtype), weight, hx, np.empty(B)

    def sums():
        rows = group * K
        vectors = scratch(rows, lanes(dtype), dtype=dtype), scratch(rows * height, pitch, dtype=dtype)
        return np.zeros(rows), *vectors, np.zeros(group)

    def piece(own, sums, base, start, end):
        _statistics(X, weights, base, start, end, kind, *model, points, *own, height, *sums)

    def add(sums, tiles):
        _add(tiles, kind, height, *sums, *totals)

    in_order(N, work, B, group, buffers, sums, piece, add)
    for out, total in zip(outputs, totals, strict=True):
        out[...] = total


def in_order(N, work, B, group, buffers, sums, piece, add):
    """Sum over the tiles of N rows, added in the order of the tiles whichever worker has them.

    work : floating-point operations of a row.
    B : rows of a block, a part of a tile.
    group : tiles that a worker has at a time.
    buffers(), sums() : a worker's scratch, and its sums over each tile of a group, 0.
    piece(buffers, sums, base, start, end) : sums over some rows, in the group that begins at `base`.
    add(sums, tiles) : adds the sums over `tiles` tiles to the totals, one after the other, and makes them 0.
    """
    bases = range(0, N, group * TILE)
    rows = max(1, int(CHUNK_WORK / (work * B))) * B
    done, ready, changed = 0, {}, threading.Condition()

    def pieces(worker, workers):
        nonlocal done
        own = buffers()
        sets = [sums() for _ in range(min(2, workers))]  # with one alone, workers would sleep and wake at every group
        for turn, number in enumerate(range(worker, len(bases), workers)):
            while not added(number - len(sets) * workers):
                yield
            base, stop = bases[number], min(bases[number] + group * TILE, N)
            for start in range(base, stop, rows):
                piece(own, sets[turn % len(sets)], base, start, min(start + rows, stop))
                yield
            with changed:
                ready[number] = sets[turn % len(sets)], -(-(stop - base) // TILE)
                while done in ready:
                    add(*ready.pop(done))
                    done += 1
                changed.notify_all()

    def added(number):
        with changed:
            return changed.wait_for(lambda: number < done, 0.05)  # not for ever: the job may stop

    share(pieces, work * N, len(bases))


def outputs_of(K, dtype, resp, log_likelihood, labels):
    """The outputs, of no rows where they are None."""
    return (
        np.zeros((0, K), dtype) if resp is None else resp,
        np.zeros(0, dtype) if log_likelihood is None else log_likelihood,
        np.zeros(0, np.intp) if labels is None else labels,
    )


def _model(means, factors, constants, covariance_type):
    """What `_densities` takes; U lies row after row, its columns padded to ROWS, with zeros below the diagonal.

    "tied" whitens x and the points, the means, about the middle of the means: its q_k is |x - points_k|² then.
    """
    (K, D), dtype, kind = means.shape, means.dtype, TYPES[covariance_type]
    centre, points, scales, U = np.zeros(D, dtype), means.copy(), np.ones((K, D), dtype), np.zeros((1, 1), dtype)
    if kind in (DIAG, SPHERICAL):
        scales[...] = factors if kind == DIAG else factors[:, None]
    else:
        matrices = factors.reshape(-1, D, D)
        U = scratch(len(matrices) * D, -(-D // ROWS) * ROWS, dtype=dtype)
        for k, one in enumerate(matrices):  # one by one, so that Ctrl-C is noticed in between
            U[k * D : (k + 1) * D, :D] = np.triu(one)
    if kind == TIED:
        centre[...] = means.mean(axis=0, dtype="float64")
        points[...] = (means.astype("float64") - centre) @ U[:, :D].astype("float64")
    return kind, centre, points, scales, U, constants.copy()


def _block(K, D, work, dtype):
    """Rows of a block: PANEL vectors times a power of two, a part of a tile."""
    B = PANEL * lanes(dtype)
    most = min(BLOCK, BLOCK_BYTES // (D * dtype.itemsize), CHUNK_WORK / work)
    while most >= 2 * B:
        B *= 2
    return B


def _buffers(B, K, D, dtype):
    """x with a feature in each lane; x, x less a point, and x whitened, with a row in each; l; a number per row."""
    W, tall = PANEL * lanes(dtype), -(-D // ROWS) * ROWS
    panels = scratch(D, W, dtype=dtype), scratch(D, W, dtype=dtype), scratch(tall, W, dtype=dtype)
    return (
        scratch(B, units(D, dtype), dtype=dtype), *panels, scratch(K, skewed(B, dtype), dtype=dtype),
        scratch(1, B, dtype=dtype),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- compiled


@inlined
def _densities(X, start, count, kind, centre, points, scales, U, constants, xs, xt, d, z, l):
    """l (K, count) of rows from `start` on; the lanes behind them repeat the last."""
    D, K, W, V = X.shape[1], len(constants), xt.shape[1], step(xt)
    for p in range(0, count, W):
        for w in range(W):
            row = start + min(p + w, count - 1)
            for i in range(D):
                x = X[row, i]
                xs[p + w, i] = x
                xt[i, w] = x + (x - x)  # NaN where x is infinite: -inf would be a density
        if kind == TIED:
            for i in range(D):
                for v in range(0, W, V):
                    store(d, i, v, load(xt, i, v) - centre[i])
            z[:] = 0
            for j in range(0, D, ROWS):
                add_product(at(z, j, 0), W, at(U, 0, j), 1, U.shape[1], at(d, 0, 0), W, min(j + ROWS, D), ROWS, PANEL)
        for k in range(K):
            if kind == FULL:
                for v in range(0, W, V):
                    store(l, k, p + v, zeros(l))
                for i in range(D):
                    for v in range(0, W, V):
                        store(d, i, v, load(xt, i, v) - points[k, i])
                for j in range(0, D, ROWS):
                    u = at(U, k * D, j)
                    _add_squares(at(l, k, p), u, 1, U.shape[1], at(d, 0, 0), W, min(j + ROWS, D), ROWS, PANEL)  # 1
            else:
                _add_scaled(l, k, p, z if kind == TIED else xt, points, scales)
            for v in range(p, p + W, V):
                store(l, k, v, fma(load(l, k, v), -0.5, zeros(l) + constants[k]))  # 2


@inlined
def _add_scaled(l, k, p, x, points, scales):
    """1 without a matrix."""
    V = step(l)
    q0 = q1 = q2 = q3 = zeros(l)
    for i in range(points.shape[1]):
        point, scale = points[k, i], scales[k, i]
        d0, d1 = (load(x, i, 0) - point) * scale, (load(x, i, V) - point) * scale
        d2, d3 = (load(x, i, 2 * V) - point) * scale, (load(x, i, 3 * V) - point) * scale
        q0, q1, q2, q3 = fma(d0, d0, q0), fma(d1, d1, q1), fma(d2, d2, q2), fma(d3, d3, q3)
    store(l, k, p, q0)
    store(l, k, p + V, q1)
    store(l, k, p + 2 * V, q2)
    store(l, k, p + 3 * V, q3)


@inlined
def _largest(l, r):
    most = load(l, 0, r)
    for k in range(1, l.shape[0]):
        most = at_least(load(l, k, r), most)
    return most


@inlined
def write(l, start, count, likelihood, density, resp, log_likelihood, labels):
    """What is wanted of `count` rows from `start` on; l becomes r (3), unless it is wanted itself."""
    K = l.shape[0]
    if len(labels):
        for r in range(count):
            best = 0
            for k in range(1, K):
                if l[k, r] > l[best, r]:
                    best = k
            labels[start + r] = best
    if not density and (len(resp) or len(log_likelihood)):
        low = -87.0 if l.itemsize == 4 else -708.0
        for r in range(0, count, step(l)):
            most, total = _largest(l, r), zeros(l)
            for k in range(K):
                e = exp(load(l, k, r) - most, low)
                store(l, k, r, e)
                total = total + e
            store(likelihood, 0, r, most + log(total))
            share = 1.0 / total
            for k in range(K):
                store(l, k, r, load(l, k, r) * share)
    if len(resp):
        for r in range(count):
            for k in range(K):
                resp[start + r, k] = l[k, r]
    if len(log_likelihood):
        for r in range(count):
            log_likelihood[start + r] = likelihood[0, r]


@inlined
def weigh(l, start, count, weights, weight, likelihood, n, tile, likelihoods):
    """l → h = sqrt(w r), 0 where r is below e**-60 or e**-100; adds to a tile's n, vectors, and log-likelihood."""
    K, B = l.shape[0], weight.shape[1]
    for r in range(B):
        weight[0, r] = 0 if r >= count else weights[start + r] if len(weights) else 1
    low = -30.0 if l.itemsize == 4 else -50.0
    for r in range(0, count, step(l)):
        most, total = _largest(l, r), zeros(l)
        for k in range(K):
            e = exp((load(l, k, r) - most) * 0.5, low)
            store(l, k, r, e)
            total = fma(e, e, total)
        store(likelihood, 0, r, most + log(total))  # 3
        root = square_root(load(weight, 0, r) / total)
        for k in range(K):
            h = load(l, k, r) * root
            store(l, k, r, h)
            store(n, tile * K + k, 0, fma(h, h, load(n, tile * K + k, 0)))  # 4
    for r in range(count):
        likelihoods[tile] += np.float64(weight[0, r]) * np.float64(likelihood[0, r])


@inlined
def _count(l, count, weight, scale, n, first):
    """Adds to n of "tied", float64, from `first` on, h² scaled so that a row's sum to its weight in float64."""
    for r in range(count):
        scale[r] = 0
    for k in range(l.shape[0]):
        for r in range(count):
            h = np.float64(l[k, r])
            scale[r] += h * h
    for r in range(count):
        if scale[r] != 0:
            scale[r] = np.float64(weight[0, r]) / scale[r]
    for k in range(l.shape[0]):
        total = 0.0
        for r in range(count):
            h = np.float64(l[k, r])
            total += h * h * scale[r]
        n[first + k] += total


@compiled
def _posteriors(
    X, start, end, kind, centre, points, scales, U, constants, xs, xt, d, z, l, likelihood,
    density, resp, log_likelihood, labels,
):  # fmt: skip
    control = flush_denormals()
    B = likelihood.shape[1]
    for block in range(start, end, B):
        count = min(B, end - block)
        _densities(X, block, count, kind, centre, points, scales, U, constants, xs, xt, d, z, l)
        write(l, block, count, likelihood, density, resp, log_likelihood, labels)
    restore_denormals(control)


@compiled
def _statistics(
    X, weights, base, start, end, kind, centre, points, scales, U, constants, means,
    xs, xt, d, z, l, likelihood, weight, hx, scale, height, counts, n, sums, likelihoods,
):  # fmt: skip
    control = flush_denormals()
    (K, pitch), D, V, B = means.shape, X.shape[1], step(hx), weight.shape[1]
    packed, width = hx.shape
    for block in range(start, end, B):
        count, tile = min(B, end - block), (block - base) // TILE
        _densities(X, block, count, kind, centre, points, scales, U, constants, xs, xt, d, z, l)
        weigh(l, block, count, weights, weight, likelihood, n, tile, likelihoods)
        if kind == TIED:
            _count(l, count, weight, scale, counts, tile * K)
        for k in range(K):
            c, r = (tile * K + k) * height, 0
            while r < count:
                rows = 0
                while r < count and rows < packed:
                    h = l[k, r]
                    for j in range(0, pitch, V):
                        store(hx, rows, j, (load(xs, r, j) - load(means, k, j)) * h)
                    hx[rows, D] = h
                    rows += h != 0  # the next row takes its place if not; NaN stays
                    r += 1
                if kind == FULL:
                    _add_triangle(sums, c, hx, rows, D)
                else:
                    add_products(sums, c, at(hx, 0, D), 1, width, at(hx, 0, 0), width, rows, 1, 0, pitch)
                if kind in (DIAG, SPHERICAL):
                    _add_column_squares(sums, c + 1, hx, rows)
    restore_denormals(control)


@inlined
def _add_triangle(c, i, hx, rows, D):
    """Rows of c += (h (x - μ), h)ᵀ h (x - μ), from the diagonal on, the last row whole."""
    width = hx.shape[1]
    for j in range(0, D + 1, TALL):
        tall, first = (1 if j == D else TALL), (0 if j + TALL > D else j // step(c) * step(c))
        add_products(c, i + j, at(hx, 0, j), 1, width, at(hx, 0, 0), width, rows, tall, first, c.shape[1])


@inlined
def _add_column_squares(c, i, hx, rows):
    for j in range(0, c.shape[1], step(c)):
        even, odd = load(c, i, j), zeros(c)
        for r in range(0, rows - 1, 2):
            x, y = load(hx, r, j), load(hx, r + 1, j)
            even, odd = fma(x, x, even), fma(y, y, odd)
        if rows % 2:
            x = load(hx, rows - 1, j)
            even = fma(x, x, even)
        store(c, i, j, even + odd)


@compiled
def _add(tiles, kind, height, counts, n, sums, likelihoods, n_total, first, second, log_likelihood):
    K, D = first.shape
    for tile in range(tiles):
        log_likelihood[0] += likelihoods[tile]
        for k in range(K):
            row = tile * K + k
            c = row * height
            if kind == TIED:
                n_total[k] += counts[row]
            else:
                for v in range(n.shape[1]):
                    n_total[k] += n[row, v]
            for j in range(D):
                first[k, j] += sums[c + D if kind == FULL else c, j]
            if kind == FULL:
                for i in range(D):
                    for j in range(i, D):
                        second[k * D + i, j] += sums[c + i, j]
            elif kind == DIAG:
                for j in range(D):
                    second[k, j] += sums[c + 1, j]
            elif kind == SPHERICAL:
                for j in range(D):
                    second[k, 0] += sums[c + 1, j]
    counts[:], n[:], sums[:], likelihoods[:] = 0, 0, 0, 0
