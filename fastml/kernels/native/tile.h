/* Register tiles: the part of a matrix product that computes. What packs and shares out is its users' (product.h).
 *
 * Every product here is rows times packed columns. A tile holds MR rows by NB groups of NV vectors in registers and runs
 * over k once; each output is one chain of multiply-adds in the order of k, whatever the tile's shape, so results do not
 * depend on how rows are cut into tiles or handed to workers.
 *
 * Tiles are functions of their own and leave their sums in memory. Inlined into the steps, gcc 12 spilled accumulators
 * inside the loop over k: the steps ran at 60 % of the speed of the bare tile. Alone, 6 x 4 vectors of AVX-512 run at
 * 250 GFLOP/s on a core whose peak is 256; the sums' way through memory is 2 loads and stores per K multiply-adds.
 *
 * The AMX rung has tiles of its own (product_amx.h), behind the same names.
 */

#undef GROUP
#undef FM_TILE_ARGUMENTS
#undef FM_DEFINE_TILE
#undef FM_EACH_TILE
#undef FM_MOVED

#define GROUP(left) ((left) >= 4 ? 4 : (left) >= 2 ? 2 : 1)

/* out[m][v] = init[m][v] (0 if NULL) + sum over k of a[m * lda + k * inca] * w[k * ldw + v * L ...], rows of init and out
 * ldi and ldo apart; group b of NB reads w + b * next and lies behind the group before in init and out. */
#define FM_TILE_ARGUMENTS                                                                                              \
    const REAL *init, intptr_t ldi, const REAL *a, intptr_t lda, intptr_t inca, const REAL *w, intptr_t next,          \
        intptr_t ldw, intptr_t K, REAL *out, intptr_t ldo

/* Walks rows [from, to) in tiles of at most `most`, r and m. */
#define FM_EACH_TILE(from, to, most, r, m)                                                                             \
    for (intptr_t r = (from), m = 0; r < (to) && (m = FN(height)((to) - r, most), 1); r += m)

/* What moving a number to or from fresh memory costs, in the operations that `fm_poll` counts. */
#define FM_MOVED 20.0

#if FM_RUNG != FM_AMX

#undef ROWS_MAX
#define ROWS_MAX(nv) ((nv) == 4 ? ROWS4 : (nv) == 3 ? ROWS3 : 6)

INLINE void FN(tile_body)(const int MR, const int NB, const int NV, FM_TILE_ARGUMENTS) {
    V acc[MR * NB * NV];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int i = 0; i < NB * NV; i++)
        acc[m * NB * NV + i] = init ? vload(init + m * ldi + i * L) : vset1(0);
    for (intptr_t k = 0; k < K; k++) {
        UNROLL for (int m = 0; m < MR; m++) {
            V x = vset1(a[m * lda]);
            UNROLL for (int b = 0; b < NB; b++) UNROLL for (int v = 0; v < NV; v++) {
                V *to = acc + (m * NB + b) * NV + v;
                *to = vfma(x, vload(w + b * next + v * L), *to);
            }
        }
        a += inca;
        w += ldw;
    }
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int i = 0; i < NB * NV; i++)
        vstore(out + m * ldo + i * L, acc[m * NB * NV + i]);
}

typedef void FN(tile)(FM_TILE_ARGUMENTS);

#define FM_DEFINE_TILE(MR, NB, NV)                                                                                     \
    static NOINLINE void FN(tile_##MR##_##NB##_##NV)(FM_TILE_ARGUMENTS) {                                              \
        FN(tile_body)(MR, NB, NV, init, ldi, a, lda, inca, w, next, ldw, K, out, ldo);                                 \
    }
FM_DEFINE_TILE(1, 1, 1) FM_DEFINE_TILE(2, 1, 1) FM_DEFINE_TILE(3, 1, 1)
FM_DEFINE_TILE(4, 1, 1) FM_DEFINE_TILE(5, 1, 1) FM_DEFINE_TILE(6, 1, 1)
FM_DEFINE_TILE(1, 1, 2) FM_DEFINE_TILE(2, 1, 2) FM_DEFINE_TILE(3, 1, 2)
FM_DEFINE_TILE(4, 1, 2) FM_DEFINE_TILE(5, 1, 2) FM_DEFINE_TILE(6, 1, 2)
FM_DEFINE_TILE(1, 1, 3) FM_DEFINE_TILE(2, 1, 3) FM_DEFINE_TILE(3, 1, 3) FM_DEFINE_TILE(4, 1, 3)
FM_DEFINE_TILE(1, 1, 4) FM_DEFINE_TILE(2, 1, 4) FM_DEFINE_TILE(3, 1, 4)
#if ROWS4 == 6
FM_DEFINE_TILE(5, 1, 3) FM_DEFINE_TILE(6, 1, 3) FM_DEFINE_TILE(7, 1, 3) FM_DEFINE_TILE(8, 1, 3)
FM_DEFINE_TILE(4, 1, 4) FM_DEFINE_TILE(5, 1, 4) FM_DEFINE_TILE(6, 1, 4)
#endif
FM_DEFINE_TILE(1, 2, 2) FM_DEFINE_TILE(1, 2, 3) FM_DEFINE_TILE(1, 2, 4)

#define T(MR, NB, NV) FN(tile_##MR##_##NB##_##NV)
/* By vectors of a group and rows, both from 1. */
static FN(tile) *const FN(tiles)[5][9] = {
    {0},
    {0, T(1, 1, 1), T(2, 1, 1), T(3, 1, 1), T(4, 1, 1), T(5, 1, 1), T(6, 1, 1)},
    {0, T(1, 1, 2), T(2, 1, 2), T(3, 1, 2), T(4, 1, 2), T(5, 1, 2), T(6, 1, 2)},
#if ROWS4 == 6
    {0, T(1, 1, 3), T(2, 1, 3), T(3, 1, 3), T(4, 1, 3), T(5, 1, 3), T(6, 1, 3), T(7, 1, 3), T(8, 1, 3)},
    {0, T(1, 1, 4), T(2, 1, 4), T(3, 1, 4), T(4, 1, 4), T(5, 1, 4), T(6, 1, 4)},
#else
    {0, T(1, 1, 3), T(2, 1, 3), T(3, 1, 3), T(4, 1, 3)},
    {0, T(1, 1, 4), T(2, 1, 4), T(3, 1, 4)},
#endif
};
/* One row alone times two groups: 8 chains of multiply-adds, which hide their latency. */
static FN(tile) *const FN(pairs)[5] = {0, 0, T(1, 2, 2), T(1, 2, 3), T(1, 2, 4)};
#undef T

/* Room for the sums of any tile. */
#define FM_TILE_SUMS 32
typedef struct {
    V v[FM_TILE_SUMS];
} FN(sums);

/* The height of the next tile of `left` rows, cut into the fewest tiles of at most `most`, evenly (32 as 6 6 5 5 5 5). */
INLINE intptr_t FN(height)(intptr_t left, intptr_t most) {
    if (left <= most) return left;
    if (left > 1 << 16) return most; /* so that 32 bits do */
    uint32_t rows = (uint32_t)left, tiles = (rows + (uint32_t)most - 1) / (uint32_t)most;
    return (rows + tiles - 1) / tiles;
}
#endif
