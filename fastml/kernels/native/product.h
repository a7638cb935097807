/* Matrix products by register tiles (tile.h), over weights packed so that a tile reads them as one stream.
 *
 * Packed columns: vectors of L columns in groups; a group of NV vectors starting at vector v lies at v * K * L as
 * [K][NV][L]. Columns of gates: a group is one block of L hidden units with all its gates, [H/L][K][G][L], so that a
 * tile ends with all gates of its units. Plain columns (and the RNN's one gate): groups of 4, then 2, then 1.
 *
 * The AMX rung has tiles and packing of its own (product_amx.h), behind the same names. FM_PACKED(K) is the room, in REALs,
 * of a packed column of K numbers; FM_PARTS(rows, K) that of `rows` rows made ready for tiles by `split`.
 */

#include "tile.h"

#undef GATE_GROUP

#define GATE_GROUP(gates, left) ((gates) > 1 ? (gates) : GROUP(left))

/* Walks columns [from, to) in groups, j and nv; backwards the fours change places, what is left over has one place only.
 * Steps walk to and fro, so that what the last step left in cache is used first (1.2 to 1.7 times as fast where the weights
 * are larger than L2). `from` is a multiple of 4; so is `to`, unless it is the end of all columns. */
#undef FM_EACH_GROUP
#define FM_EACH_GROUP(from, to, backwards, j, nv)                                                                      \
    for (intptr_t all = (to) - (from), walked = 0, nv = 0, j = 0;                                                      \
         walked < all && (nv = GROUP(all - walked),                                                                    \
                          j = (from) + ((backwards) && nv == 4 ? all / 4 * 4 - walked - 4 : walked), 1);               \
         walked += nv)

/* The row of w (of G * H) that is lane l of vector v of the gates' columns, or -1 for a lane beyond H. */
INLINE intptr_t FN(gate_row)(const int gates, intptr_t H, intptr_t v, intptr_t l) {
    intptr_t unit = v / gates * L + l;
    return unit < H ? v % gates * H + unit : -1;
}

#if FM_RUNG == FM_AMX
#include "product_amx.h"
#else

#undef FM_PACKED
#undef FM_PARTS
#define FM_PACKED(K) (K)
#define FM_PARTS(rows, K) 0

/* The left factor as tiles take it, row r at a + r * ld: here, the rows as they are. */
typedef struct {
    const REAL *a;
    intptr_t ld;
} FN(left);
INLINE FN(left) FN(split)(REAL *parts, const REAL *a, intptr_t lda, intptr_t rows, intptr_t K) {
    (void)parts, (void)rows, (void)K;
    return (FN(left)){a, lda};
}

/* Gradient of weights: c[n][v] += sum over rows k of a[k][n] * da[k][v], columns n in [from, to). `vectors` columns of da,
 * each group of which owns c[N][NV][L] at c + v * N * L. The gradient of the gates is the vector operand, the input or
 * state the broadcast one. Each call sums its own rows first and then adds to c: sums of sums lose less than one long
 * chain. c is asked for before its tile: where it is larger than L2 (512 units), waiting for it took 30 % of the time. */
static void FN(outer)(fm_pass *p, intptr_t worker, const int gates, intptr_t from, intptr_t to, intptr_t N, const REAL *a,
                      intptr_t lda, const REAL *da, intptr_t ldd, intptr_t rows, REAL *c, intptr_t vectors, REAL *parts) {
    (void)parts;
    FN(sums) sums;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GATE_GROUP(gates, vectors - v);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), n, m) {
            REAL *sum = c + v * N * L + n * nv * L;
            for (intptr_t i = 0; i < m * nv; i++) __builtin_prefetch(sum + i * L, 1);
            FN(tiles)[nv][m](0, 0, a + n, 1, lda, da + v * L, 0, ldd, rows, (REAL *)sums.v, nv * L);
            for (intptr_t i = 0; i < m * nv; i++) vstore(sum + i * L, vload(sum + i * L) + sums.v[i]);
        }
        if (fm_poll(&p->call, worker, 2.0 * (to - from) * rows * nv * L)) return;
    }
}

/* ---- packing. Worker `worker` of `workers` packs its share; a barrier must follow. */

/* One group of the gates' columns, of nv vectors from v on: [K][NV][L] from rows of w (gates * H, K). */
static void FN(pack_group)(const int gates, const REAL *w, intptr_t H, intptr_t K, intptr_t v, intptr_t nv, REAL *packed) {
    for (intptr_t i = 0; i < nv; i++) {
        const intptr_t first = FN(gate_row)(gates, H, v + i, 0), left = H - (v + i) / gates * L, rows = left < L ? left : L;
        const REAL *from = w + first * K;
        REAL *to = packed + i * L;
        intptr_t k = 0;
        for (; k + L <= K; k += L) {
            V block[L];
            UNROLL for (int l = 0; l < L; l++) block[l] = l < rows ? vload(from + l * K + k) : vset1(0);
            FN(transpose)(block);
            UNROLL for (int l = 0; l < L; l++) vstore(to + (k + l) * nv * L, block[l]);
        }
        for (; k < K; k++)
            for (intptr_t l = 0; l < L; l++) to[k * nv * L + l] = l < rows ? from[l * K + k] : 0;
    }
}

/* Plain columns from w (gates * H, N), k running over the gates' columns: what the products with da read. */
static void FN(pack_columns)(fm_pass *p, const int gates, const REAL *w, intptr_t H, intptr_t N, REAL *packed,
                             intptr_t worker, intptr_t workers) {
    intptr_t K = (H + L - 1) / L * gates * L, vectors = (N + L - 1) / L;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GROUP(vectors - v);
        intptr_t width = nv * L, filled = N - v * L < width ? N - v * L : width;
        if (fm_poll(&p->call, worker, FM_MOVED * K * width)) return;
        for (intptr_t k = fm_share(K, worker, workers); k < fm_share(K, worker + 1, workers); k++) {
            REAL *to = packed + v * K * L + k * width;
            intptr_t row = FN(gate_row)(gates, H, k / L, k % L);
            intptr_t copied = row < 0 ? 0 : filled;
            if (copied) memcpy(to, w + row * N + v * L, copied * sizeof(REAL));
            memset(to + copied, 0, (width - copied) * sizeof(REAL));
        }
    }
}

#endif

/* Columns of gates from rows of w (gates * H, K): what `project` and the forward steps read. */
static void FN(pack_gates)(fm_pass *p, const int gates, const REAL *w, intptr_t H, intptr_t K, REAL *packed,
                           intptr_t worker, intptr_t workers) {
    intptr_t vectors = (H + L - 1) / L * gates;
    for (intptr_t v = 0, nv, group = 0; v < vectors; v += nv, group++) {
        nv = GATE_GROUP(gates, vectors - v);
        if (group % workers != worker) continue;
        if (fm_poll(&p->call, worker, FM_MOVED * K * nv * L)) return;
        FN(pack_group)(gates, w, H, K, v, nv, packed + v * FM_PACKED(K) * L);
    }
}

/* Biases in the order of the gates' columns: a + b, or a alone. */
static void FN(pack_bias)(const int gates, const REAL *a, const REAL *b, intptr_t H, REAL *packed) {
    for (intptr_t i = 0; i < (H + L - 1) / L * gates * L; i++) {
        intptr_t row = FN(gate_row)(gates, H, i / L, i % L);
        packed[i] = row < 0 ? 0 : b ? a[row] + b[row] : a[row];
    }
}

/* The gradient of weights, from c (as `outer` leaves it) to dw (gates * H, N), columns [from, to). */
static void FN(unpack_gates)(fm_pass *p, const int gates, const REAL *c, intptr_t H, intptr_t N, REAL *dw, intptr_t from,
                             intptr_t to, intptr_t worker) {
    intptr_t vectors = (H + L - 1) / L * gates;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GATE_GROUP(gates, vectors - v);
        if (fm_poll(&p->call, worker, FM_MOVED * (to - from) * nv * L)) return;
        for (intptr_t i = 0; i < nv; i++) {
            const intptr_t left = H - (v + i) / gates * L, rows = left < L ? left : L;
            REAL *out = dw + FN(gate_row)(gates, H, v + i, 0) * N;
            const REAL *in = c + v * N * L + i * L;
            intptr_t n = from;
            for (; n + L <= to; n += L) {
                V block[L];
                UNROLL for (int l = 0; l < L; l++) block[l] = vload(in + (n + l) * nv * L);
                FN(transpose)(block);
                UNROLL for (int l = 0; l < L; l++)
                    if (l < rows) vstore(out + l * N + n, block[l]);
            }
            for (; n < to; n++)
                for (intptr_t l = 0; l < rows; l++) out[l * N + n] = in[n * nv * L + l];
        }
    }
}

/* Gradient of a bias: sum[v] += the rows of da, vectors [from, to). */
static void FN(add_rows)(const REAL *da, intptr_t ldd, intptr_t rows, REAL *sum, intptr_t from, intptr_t to) {
    for (intptr_t v = from; v < to; v++) {
        V acc = vset1(0);
        for (intptr_t k = 0; k < rows; k++) acc += vload(da + k * ldd + v * L);
        vstore(sum + v * L, vload(sum + v * L) + acc);
    }
}

/* ---- rows of a chunk */

/* Rows [from, to) of a . w, plain columns, to scattered rows of N numbers: out + at[r] * N. */
static void FN(scatter)(fm_pass *p, intptr_t worker, intptr_t from, intptr_t to, const REAL *a, intptr_t lda, intptr_t K,
                        const REAL *w, REAL *out, const intptr_t *at, intptr_t N, REAL *parts) {
    const FN(left) left = FN(split)(parts, a + from * lda, lda, to - from, K);
    FN(sums) sums;
    const intptr_t vectors = (N + L - 1) / L;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GROUP(vectors - v);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), r, m) {
            FN(tiles)[nv][m](0, 0, left.a + (r - from) * left.ld, left.ld, 1, w + v * FM_PACKED(K) * L, 0, nv * L, K,
                             (REAL *)sums.v, nv * L);
            const V *sum = sums.v;
            for (intptr_t i = 0; i < m; i++)
                for (intptr_t n = v * L; n < (v + nv) * L; n += L) FN(store_tail)(out + at[r + i] * N + n, *sum++, N - n);
        }
        if (fm_poll(&p->call, worker, 2.0 * (to - from) * K * nv * L)) return;
    }
}

/* The gradient of weights of a one-hot input: c[id of row k] += da[k], rows in order, vectors [from, to). */
static void FN(outer_ids)(fm_pass *p, intptr_t worker, const intptr_t *time_rows, intptr_t rows, const REAL *da, intptr_t ldd,
                          REAL *c, intptr_t from, intptr_t to) {
    for (intptr_t v = from, nv; v < to; v += nv) {
        nv = GATE_GROUP(FM_GATES, to - v);
        for (intptr_t k = 0; k < rows; k++) {
            REAL *sum = c + v * p->I * L + p->ids[time_rows[k]] * nv * L;
            for (intptr_t i = 0; i < nv; i++) vstore(sum + i * L, vload(sum + i * L) + vload(da + k * ldd + (v + i) * L));
        }
        if (fm_poll(&p->call, worker, FM_MOVED * rows * nv * L)) return;
    }
}
