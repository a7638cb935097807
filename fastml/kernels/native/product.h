/* Matrix products by register tiles, over weights packed so that a tile reads them as one stream.
 *
 * Every product here is rows times packed columns. A tile holds MR rows by NB blocks of NV vectors in registers and runs
 * over k once; each output is one chain of multiply-adds in the order of k, whatever the tile's shape, so results do not
 * depend on how rows are cut into tiles or handed to workers. At 6 x 4 vectors the loop runs at the peak of the
 * multiply-add units; k is not unrolled (measured: no gain).
 *
 * Packed columns: vectors of L columns in groups; a group of NV vectors starting at vector v lies at v * K * L as
 * [K][NV][L]. Columns of gates: a group is one block of L hidden units with all its gates, [H/L][K][G][L], so that a
 * tile ends with all gates of its units. Plain columns (and the RNN's one gate): groups of 4, then 2, then 1.
 */

#undef GROUP
#undef GATE_GROUP
#undef ROWS_MAX
#undef FM_ROWS_CASE
#undef FM_ROWS
#undef FM_TILE
#undef FM_EACH_TILE

#define GROUP(left) ((left) >= 4 ? 4 : (left) >= 2 ? 2 : 1)
#define GATE_GROUP(left) (FM_GATES > 1 ? FM_GATES : GROUP(left))
#define ROWS_MAX(nv) ((nv) == 4 ? ROWS4 : (nv) == 3 ? ROWS3 : 6)

/* CALL(MR, NV) with constants, for a run-time m and nv. */
#define FM_ROWS_CASE(MR, NV, CALL)                                                                                     \
    case MR:                                                                                                           \
        if (MR <= ROWS_MAX(NV)) CALL(MR, NV);                                                                          \
        break;
#define FM_ROWS(m, NV, CALL)                                                                                           \
    switch (m) {                                                                                                       \
        FM_ROWS_CASE(1, NV, CALL)                                                                                      \
        FM_ROWS_CASE(2, NV, CALL)                                                                                      \
        FM_ROWS_CASE(3, NV, CALL)                                                                                      \
        FM_ROWS_CASE(4, NV, CALL)                                                                                      \
        FM_ROWS_CASE(5, NV, CALL)                                                                                      \
        FM_ROWS_CASE(6, NV, CALL)                                                                                      \
        FM_ROWS_CASE(7, NV, CALL)                                                                                      \
        FM_ROWS_CASE(8, NV, CALL)                                                                                      \
    }
#define FM_TILE(m, nv, CALL)                                                                                           \
    switch (nv) {                                                                                                      \
    case 1: FM_ROWS(m, 1, CALL) break;                                                                                 \
    case 2: FM_ROWS(m, 2, CALL) break;                                                                                 \
    case 4: FM_ROWS(m, 4, CALL) break;                                                                                 \
    }

/* Cuts rows [from, to) into the fewest tiles of at most `most` rows, evenly (32 as 6 6 5 5 5 5); r begins, m is the
 * height. */
#define FM_EACH_TILE(from, to, most, r, m)                                                                             \
    for (intptr_t r = (from), m = 0, tiles = ((to) - (from) + (most) - 1) / (most);                                    \
         tiles > 0 && (m = ((to) - r + tiles - 1) / tiles, 1); r += m, tiles--)

/* acc[m][b][v] += sum over k of a[m * lda + k * inca] * w[b * wblock + k * ldw + v * L ...] */
INLINE void FN(accumulate)(V *acc, const int MR, const int NB, const int NV, const REAL *a, intptr_t lda, intptr_t inca,
                           const REAL *w, intptr_t wblock, intptr_t ldw, intptr_t K) {
    for (intptr_t k = 0; k < K; k++) {
        UNROLL for (int m = 0; m < MR; m++) {
            V x = vset1(a[m * lda]);
            UNROLL for (int b = 0; b < NB; b++) UNROLL for (int v = 0; v < NV; v++) {
                V *to = acc + (m * NB + b) * NV + v;
                *to = vfma(x, vload(w + b * wblock + v * L), *to);
            }
        }
        a += inca;
        w += ldw;
    }
}

INLINE V FN(zero)(void) { return vset1(0); }

/* ---- out[r][v] = bias[v] + a[r] . w, rows [from, to), `vectors` columns of gates */

INLINE void FN(project_tile)(const int MR, const int NV, const REAL *a, intptr_t lda, intptr_t K, const REAL *w,
                             const REAL *bias, REAL *out, intptr_t ldo) {
    V acc[MR * NV];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) acc[m * NV + v] = vload(bias + v * L);
    FN(accumulate)(acc, MR, 1, NV, a, lda, 1, w, 0, NV * L, K);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++)
        vstore(out + m * ldo + v * L, acc[m * NV + v]);
}

static void FN(project)(intptr_t rows, const REAL *a, intptr_t lda, intptr_t K, const REAL *w, const REAL *bias,
                        REAL *out, intptr_t ldo, intptr_t vectors) {
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GATE_GROUP(vectors - v);
        FM_EACH_TILE(0, rows, ROWS_MAX(nv), r, m) {
#define CALL(MR, NV) FN(project_tile)(MR, NV, a + r * lda, lda, K, w + v * K * L, bias + v * L, out + r * ldo + v * L, ldo)
#if FM_GATES > 1
            FM_ROWS(m, FM_GATES, CALL)
#else
            FM_TILE(m, nv, CALL)
#endif
#undef CALL
        }
    }
}

/* ---- the rows of a . w, plain columns, to scattered rows of N numbers: out + at[r] * N */

INLINE void FN(scatter_tile)(const int MR, const int NV, const REAL *a, intptr_t lda, intptr_t K, const REAL *w, REAL *out,
                             const intptr_t *at, intptr_t N, intptr_t column) {
    V acc[MR * NV];
    UNROLL for (int i = 0; i < MR * NV; i++) acc[i] = FN(zero)();
    FN(accumulate)(acc, MR, 1, NV, a, lda, 1, w, 0, NV * L, K);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t n = column + v * L;
        FN(store_tail)(out + at[m] * N + n, acc[m * NV + v], N - n);
    }
}

static void FN(scatter)(intptr_t from, intptr_t to, const REAL *a, intptr_t lda, intptr_t K, const REAL *w, REAL *out,
                        const intptr_t *at, intptr_t N) {
    intptr_t vectors = (N + L - 1) / L;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GROUP(vectors - v);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), r, m) {
#define CALL(MR, NV) FN(scatter_tile)(MR, NV, a + r * lda, lda, K, w + v * K * L, out, at + r, N, v * L)
            FM_TILE(m, nv, CALL)
#undef CALL
        }
    }
}

/* ---- gradient of weights: c[n][v] += sum over rows k of a[k][n] * da[k][v], columns n in [from, to).
 * The gradient of the gates is the vector operand, the input or state the broadcast one. Each call sums its own rows
 * first and then adds to c: sums of sums lose less than one long chain. */

INLINE void FN(outer_tile)(const int MR, const int NV, const REAL *a, intptr_t lda, const REAL *da, intptr_t ldd,
                           intptr_t rows, REAL *c, intptr_t ldc) {
    V acc[MR * NV];
    UNROLL for (int i = 0; i < MR * NV; i++) acc[i] = FN(zero)();
    FN(accumulate)(acc, MR, 1, NV, a, 1, lda, da, 0, ldd, rows);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        REAL *to = c + m * ldc + v * L;
        vstore(to, vload(to) + acc[m * NV + v]);
    }
}

/* `vectors` columns of da, each group of which owns c[N][NV][L] at c + v * N * L. */
INLINE void FN(outer_groups)(const int gates, intptr_t from, intptr_t to, intptr_t N, const REAL *a, intptr_t lda,
                             const REAL *da, intptr_t ldd, intptr_t rows, REAL *c, intptr_t vectors) {
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = gates > 1 ? gates : GROUP(vectors - v);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), n, m) {
#define CALL(MR, NV)                                                                                                   \
    FN(outer_tile)(MR, NV, a + n, lda, da + v * L, ldd, rows, c + v * N * L + n * NV * L, NV * L)
            if (gates == 3) {
                FM_ROWS(m, 3, CALL)
            } else if (gates == 2) {
                FM_ROWS(m, 2, CALL)
            } else if (gates == 4) {
                FM_ROWS(m, 4, CALL)
            } else {
                FM_TILE(m, nv, CALL)
            }
#undef CALL
        }
    }
}

/* ---- packing. Worker `worker` of `workers` packs its share; a barrier must follow. */

/* The row of w (of G * H) that is lane l of vector v of the gates' columns, or -1 for a lane beyond H. */
INLINE intptr_t FN(gate_row)(const int gates, intptr_t H, intptr_t v, intptr_t l) {
    intptr_t unit = v / gates * L + l;
    return unit < H ? v % gates * H + unit : -1;
}

/* Columns of gates from rows of w (gates * H, K): what `project` and the forward steps read. */
static void FN(pack_gates)(const int gates, const REAL *w, intptr_t H, intptr_t K, REAL *packed, intptr_t worker,
                           intptr_t workers) {
    intptr_t vectors = (H + L - 1) / L * gates;
    for (intptr_t v = 0, nv, group = 0; v < vectors; v += nv, group++) {
        nv = gates > 1 ? gates : GROUP(vectors - v);
        if (group % workers != worker) continue;
        for (intptr_t i = 0; i < nv; i++) {
            REAL *to = packed + v * K * L + i * L;
            for (intptr_t l = 0; l < L; l++) {
                intptr_t row = FN(gate_row)(gates, H, v + i, l);
                const REAL *from = w + row * K;
                if (row < 0)
                    for (intptr_t k = 0; k < K; k++) to[k * nv * L + l] = 0;
                else
                    for (intptr_t k = 0; k < K; k++) to[k * nv * L + l] = from[k];
            }
        }
    }
}

/* Plain columns from w (gates * H, N), k running over the gates' columns: what the products with da read. */
static void FN(pack_columns)(const int gates, const REAL *w, intptr_t H, intptr_t N, REAL *packed, intptr_t worker,
                             intptr_t workers) {
    intptr_t K = (H + L - 1) / L * gates * L, vectors = (N + L - 1) / L;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GROUP(vectors - v);
        intptr_t width = nv * L, filled = N - v * L < width ? N - v * L : width;
        for (intptr_t k = fm_share(K, worker, workers); k < fm_share(K, worker + 1, workers); k++) {
            REAL *to = packed + v * K * L + k * width;
            intptr_t row = FN(gate_row)(gates, H, k / L, k % L);
            intptr_t copied = row < 0 ? 0 : filled;
            if (copied) memcpy(to, w + row * N + v * L, copied * sizeof(REAL));
            memset(to + copied, 0, (width - copied) * sizeof(REAL));
        }
    }
}

/* Biases in the order of the gates' columns: a + b, or a alone. */
static void FN(pack_bias)(const int gates, const REAL *a, const REAL *b, intptr_t H, REAL *packed) {
    for (intptr_t i = 0; i < (H + L - 1) / L * gates * L; i++) {
        intptr_t row = FN(gate_row)(gates, H, i / L, i % L);
        packed[i] = row < 0 ? 0 : b ? a[row] + b[row] : a[row];
    }
}

/* The gradient of weights, from c (as `outer_groups` leaves it) to dw (gates * H, N), columns [from, to). Gates g0 and
 * on of dw's rows, so that two sums can fill one dw. */
static void FN(unpack_gates)(const int gates, const REAL *c, intptr_t H, intptr_t N, REAL *dw, intptr_t from, intptr_t to) {
    intptr_t vectors = (H + L - 1) / L * gates;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = gates > 1 ? gates : GROUP(vectors - v);
        for (intptr_t i = 0; i < nv; i++)
            for (intptr_t l = 0; l < L; l++) {
                intptr_t row = FN(gate_row)(gates, H, v + i, l);
                if (row < 0) break;
                for (intptr_t n = from; n < to; n++) dw[row * N + n] = c[v * N * L + (n * nv + i) * L + l];
            }
    }
}

/* Gradient of a bias: sum[v] += the rows of da, vectors [from, to). */
static void FN(add_rows)(const REAL *da, intptr_t ldd, intptr_t rows, REAL *sum, intptr_t from, intptr_t to) {
    for (intptr_t v = from; v < to; v++) {
        V acc = FN(zero)();
        for (intptr_t k = 0; k < rows; k++) acc += vload(da + k * ldd + v * L);
        vstore(sum + v * L, vload(sum + v * L) + acc);
    }
}
