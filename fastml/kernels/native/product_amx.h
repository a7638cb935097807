/* Products by AMX tiles: float32 as three bf16 parts, six products, sums in float32.
 *
 *   a = a1 + a2 + a3,  a1 = bf16(a), a2 = bf16(a - a1), a3 = bf16(a - a1 - a2)           exact: 3 x 8 bits hold 24
 *   a w = a1 w1 + (a1 w2 + a2 w1) + (a1 w3 + a2 w2 + a3 w1)           what is left out is at most 2^-24 |a w|
 *
 * What takes the place of `product.h`'s tiles is of the same names and arguments, but both factors are split before, once
 * for all tiles that read them, by `split` and by the packing; `lda`, `inca`, `next` and `ldw` of a tile's arguments then
 * say nothing new. FM_PACKED(K) REALs hold a row or column of K numbers, filled up with zeros to whole tiles:
 *
 *   rows       [rows/16][K/32][3 parts][16 rows][32]                 bf16, 1 KiB a tile
 *   columns    groups of NV vectors, at v * FM_PACKED(K) * L: [K/32][3 parts][NV][16 pairs of k][16 columns][2]
 *
 * A tile is 16 rows by NV <= 4 vectors: 4 tile registers of sums, 3 of a's parts and 1 of w's; per 32 k that is
 * 3 + 3 NV loads and 6 NV products. Speed is not measured on hardware: the order is that of fewest loads, nothing is tuned.
 *
 * Accuracy: 6 roundings of a sum per 32 k where a chain of multiply-adds has 32. Largest error against float64, relative
 * to the largest value, AVX-512 / AMX (emulated; pinned by tests/test_amx.py over smaller sizes):
 *
 *   T, B, I = H               y                    dx, dh0              dw_ih, dw_hh
 *   100, 32, 128   rnn        1.2e-6 / 5.4e-7      4.4e-7 / 2.5e-7      3.6e-7 / 2.3e-7
 *                  gru        5.7e-7 / 3.5e-7      1.2e-6 / 6.1e-7      4.1e-7 / 2.5e-7
 *                  lstm       6.8e-7 / 3.0e-7      9.8e-7 / 3.8e-7      3.5e-7 / 2.2e-7
 *    50, 64, 256   rnn        1.8e-6 / 7.8e-7      9.0e-7 / 2.7e-7      5.7e-7 / 3.1e-7
 *                  gru        9.8e-7 / 4.4e-7      1.2e-6 / 5.7e-7      7.8e-7 / 3.2e-7
 *                  lstm       7.6e-7 / 3.4e-7      1.4e-6 / 5.5e-7      3.8e-7 / 2.4e-7
 *
 * Each output is a function of its row and its column alone, in one order of k: bits do not depend on the tile, its other
 * rows or the number of workers. A row with a sum that is not finite is computed again by multiply-adds, as the AVX-512
 * rung does (at 7 times that rung's time): NaN, infinities and overflow mean the same. Finite numbers beyond 3.39e38 round
 * to an infinite a1 and count as infinite; those below 2^-110 = 8e-34 lose digits, for their lower parts are denormal,
 * which AMX takes as zero.
 */

#include "amx.h"

#undef FM_PACKED
#undef FM_PARTS
#undef FM_DEFINE_TILE
#undef FM_TILE_SUMS
#undef ROWS_MAX

#define FM_PACKED(K) (((K) + 31) / 32 * 48)
#define FM_PARTS(rows, K) (((rows) + 15) / 16 * 16 * FM_PACKED(K))
#define ROWS_MAX(nv) 16

/* A pass over fewer sequences is the AVX-512 rung's: a tile computes 16 rows, whether there or not. */
#define FM_AMX_ROWS 16
/* bf16 numbers of a tile, and of a block of 32 k of 16 rows. */
#define FM_TILE 512
#define FM_BLOCK (3 * FM_TILE)

/* This thread's tiles: all of 16 rows of 64 bytes. */
static void FN(configure)(void) {
    static const fm_tile_config config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    fm_tile_fence();
    fm_tile_configure(&config);
}

/* ---- splitting */

INLINE V FN(widen)(__m256i bf16) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16); }

/* What is not finite, or rounds to infinity, is its first part alone. */
INLINE void FN(three)(V x, __m256i part[3]) {
    part[0] = (__m256i)_mm512_cvtneps_pbh(x);
    x -= FN(widen)(part[0]);
    x = _mm512_maskz_mov_ps(_mm512_knot(_mm512_fpclass_ps_mask(x, 0x99)), x);
    part[1] = (__m256i)_mm512_cvtneps_pbh(x);
    part[2] = (__m256i)_mm512_cvtneps_pbh(x - FN(widen)(part[1]));
}

/* The tiles of m <= 16 rows; the rows beyond are zeros. */
static void FN(split_rows)(uint16_t *to, const REAL *a, intptr_t lda, intptr_t m, intptr_t K) {
    for (intptr_t k = 0; k < K; k += 16) {
        uint16_t *tile = to + k / 32 * FM_BLOCK + k % 32;
        for (intptr_t r = 0; r < 16; r++) {
            __m256i part[3];
            FN(three)(r < m ? FN(load_tail)(a + r * lda + k, K - k) : vset1(0), part);
            for (int i = 0; i < 3; i++) _mm256_store_si256((__m256i *)(tile + i * FM_TILE + r * 32), part[i]);
        }
    }
    if (K % 32 == 0 || K % 32 > 16) return;
    for (intptr_t i = 0; i < FM_BLOCK; i += 32) /* the other half of the last tiles */
        _mm256_store_si256((__m256i *)(to + K / 32 * FM_BLOCK + i + 16), _mm256_setzero_si256());
}

/* One row of a tile of columns: two neighbours in k, n columns of each; NULL: zeros. Parts lie `next` apart. */
INLINE void FN(split_pair)(uint16_t *to, intptr_t next, const REAL *even, const REAL *odd, intptr_t n) {
    __m256i low[3], high[3];
    FN(three)(even ? FN(load_tail)(even, n) : vset1(0), low);
    FN(three)(odd ? FN(load_tail)(odd, n) : vset1(0), high);
    for (int i = 0; i < 3; i++)
        _mm512_store_si512(to + i * next, (__m512i)FN(widen)(high[i]) | _mm512_cvtepu16_epi32(low[i]));
}

/* 16 x 16 pairs change rows and columns: a tile of rows becomes one of columns, and back. */
static void FN(turn)(uint16_t *to, const uint16_t *from) {
    const __m512i rows = _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
    for (intptr_t i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, _mm512_i32gather_epi32(rows, from + i * 2, 4));
}

/* The left factor as tiles take it: `rows` rows, split into `parts`. NULL stays NULL. */
typedef struct {
    const REAL *a;
    intptr_t ld;
} FN(left);

static FN(left) FN(split)(REAL *parts, const REAL *a, intptr_t lda, intptr_t rows, intptr_t K) {
    for (intptr_t r = 0; a && r < rows; r += 16)
        FN(split_rows)((uint16_t *)(parts + r * FM_PACKED(K)), a + r * lda, lda, rows - r < 16 ? rows - r : 16, K);
    return (FN(left)){a ? parts : 0, FM_PACKED(K)};
}

/* ---- tiles */

/* The numbers of pairs again, from their parts, the smallest first: exact. */
INLINE V FN(even)(const __m512i part[3]) {
    return (V)_mm512_slli_epi32(part[2], 16) + (V)_mm512_slli_epi32(part[1], 16) + (V)_mm512_slli_epi32(part[0], 16);
}
INLINE V FN(odd)(const __m512i part[3]) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    return (V)_mm512_and_si512(part[2], high) + (V)_mm512_and_si512(part[1], high) + (V)_mm512_and_si512(part[0], high);
}

/* One row of a tile by multiply-adds, whose parts begin at a; pair by pair, what K is filled up with being zeros. */
static NOINLINE void FN(row_again)(intptr_t nv, const REAL *init, const uint16_t *a, const uint16_t *w, intptr_t K,
                                   REAL *out) {
    for (intptr_t v = 0; v < nv; v++) {
        V sum = init ? vload(init + v * L) : vset1(0);
        for (intptr_t k = 0; k < K; k += 2) {
            const uint16_t *a_pair = a + k / 32 * FM_BLOCK + k % 32;
            const uint16_t *w_pair = w + (k / 32 * 3 * nv + v) * FM_TILE + k % 32 * 16;
            __m512i x[3], y[3];
            for (int i = 0; i < 3; i++) {
                int32_t pair;
                memcpy(&pair, a_pair + i * FM_TILE, sizeof pair);
                x[i] = _mm512_set1_epi32(pair);
                y[i] = _mm512_load_si512(w_pair + i * nv * FM_TILE);
            }
            sum = vfma(FN(even)(x), FN(even)(y), sum);
            sum = vfma(FN(odd)(x), FN(odd)(y), sum);
        }
        vstore(out + v * L, sum);
    }
}

#define FM_SUM_ZERO(v, j) fm_tile_zero(v);
#define FM_SUM_LOAD(v, j) fm_tile_load(v, start + v * L, lds * (intptr_t)sizeof(REAL));
#define FM_SUM_STORE(v, j) fm_tile_store(v, end + v * L, lde * (intptr_t)sizeof(REAL));
/* Vector v of part j of w, times the parts of a that meet it: the small products first. */
#define FM_SUM_DOT(v, j)                                                                                               \
    {                                                                                                                  \
        fm_tile_load(7, w_tile + ((j) * NV + v) * FM_TILE, 64);                                                        \
        if ((j) == 0) fm_tile_dot(v, 6, 7);                                                                            \
        if ((j) <= 1) fm_tile_dot(v, 5, 7);                                                                            \
        fm_tile_dot(v, 4, 7);                                                                                          \
    }
#define FM_EACH_SUM(DO, j)                                                                                             \
    do {                                                                                                               \
        DO(0, j)                                                                                                       \
        if (NV > 1) DO(1, j)                                                                                           \
        if (NV > 2) DO(2, j)                                                                                           \
        if (NV > 3) DO(3, j)                                                                                           \
    } while (0)

/* m <= 16 rows; what is not there is computed in a buffer. */
INLINE void FN(tile_body)(const intptr_t NV, intptr_t m, const REAL *init, intptr_t ldi, const REAL *a, const REAL *w,
                          intptr_t K, REAL *out, intptr_t ldo) {
    V buffer[16 * NV];
    const uint16_t *a_tile = (const uint16_t *)a, *w_tile = (const uint16_t *)w;
    const REAL *start = init;
    REAL *end = m < 16 ? (REAL *)buffer : out;
    intptr_t lds = ldi, lde = m < 16 ? NV * L : ldo;
    if (init && m < 16) {
        memset(buffer, 0, sizeof buffer);
        for (intptr_t r = 0; r < m; r++) memcpy(buffer + r * NV, init + r * ldi, NV * L * sizeof(REAL));
        start = (REAL *)buffer, lds = NV * L;
    }
    fm_tile_fence();
    if (init) FM_EACH_SUM(FM_SUM_LOAD, 0);
    else FM_EACH_SUM(FM_SUM_ZERO, 0);
    for (intptr_t k = 0; k < K; k += 32, a_tile += FM_BLOCK, w_tile += NV * FM_BLOCK) {
        fm_tile_load(4, a_tile, 64);
        fm_tile_load(5, a_tile + FM_TILE, 64);
        fm_tile_load(6, a_tile + 2 * FM_TILE, 64);
        FM_EACH_SUM(FM_SUM_DOT, 2);
        FM_EACH_SUM(FM_SUM_DOT, 1);
        FM_EACH_SUM(FM_SUM_DOT, 0);
    }
    FM_EACH_SUM(FM_SUM_STORE, 0);
    for (intptr_t r = 0; r < m; r++) {
        unsigned wild = 0;
        for (intptr_t v = 0; v < NV; v++) {
            V sum = vload(end + r * lde + v * L);
            wild |= _mm512_fpclass_ps_mask(sum, 0x99);
            if (m < 16) vstore(out + r * ldo + v * L, sum);
        }
        if (wild)
            FN(row_again)(NV, init ? init + r * ldi : 0, (const uint16_t *)a + r * 32, (const uint16_t *)w, K, out + r * ldo);
    }
}

typedef void FN(tile)(FM_TILE_ARGUMENTS);

#define FM_DEFINE_TILE(M, NV)                                                                                          \
    static void FN(tile_##M##_##NV)(FM_TILE_ARGUMENTS) { FN(tile_##NV)(M, init, ldi, a, w, K, out, ldo); }
#define FM_DEFINE_TILES(NV)                                                                                            \
    static NOINLINE void FN(tile_##NV)(intptr_t m, const REAL *init, intptr_t ldi, const REAL *a, const REAL *w,       \
                                       intptr_t K, REAL *out, intptr_t ldo) {                                          \
        FN(tile_body)(NV, m, init, ldi, a, w, K, out, ldo);                                                            \
    }                                                                                                                  \
    FM_DEFINE_TILE(1, NV) FM_DEFINE_TILE(2, NV) FM_DEFINE_TILE(3, NV) FM_DEFINE_TILE(4, NV) FM_DEFINE_TILE(5, NV)      \
    FM_DEFINE_TILE(6, NV) FM_DEFINE_TILE(7, NV) FM_DEFINE_TILE(8, NV) FM_DEFINE_TILE(9, NV) FM_DEFINE_TILE(10, NV)     \
    FM_DEFINE_TILE(11, NV) FM_DEFINE_TILE(12, NV) FM_DEFINE_TILE(13, NV) FM_DEFINE_TILE(14, NV)                        \
    FM_DEFINE_TILE(15, NV) FM_DEFINE_TILE(16, NV)
FM_DEFINE_TILES(1) FM_DEFINE_TILES(2) FM_DEFINE_TILES(3) FM_DEFINE_TILES(4)

#define T(M, NV) FN(tile_##M##_##NV)
#define FM_ROW_OF_TILES(NV)                                                                                            \
    {0, T(1, NV), T(2, NV), T(3, NV), T(4, NV), T(5, NV), T(6, NV), T(7, NV), T(8, NV), T(9, NV), T(10, NV),           \
     T(11, NV), T(12, NV), T(13, NV), T(14, NV), T(15, NV), T(16, NV)}
/* By vectors of a group and rows, both from 1. */
static FN(tile) *const FN(tiles)[5][17] = {
    {0}, FM_ROW_OF_TILES(1), FM_ROW_OF_TILES(2), FM_ROW_OF_TILES(3), FM_ROW_OF_TILES(4)};
#undef T

/* One row alone times two groups. */
#define FM_DEFINE_PAIR(NV)                                                                                             \
    static void FN(pair_##NV)(FM_TILE_ARGUMENTS) {                                                                     \
        FN(tile_##NV)(1, init, ldi, a, w, K, out, ldo);                                                                \
        FN(tile_##NV)(1, init ? init + NV * L : 0, ldi, a, w + next, K, out + NV * L, ldo);                            \
    }
FM_DEFINE_PAIR(2) FM_DEFINE_PAIR(3) FM_DEFINE_PAIR(4)
static FN(tile) *const FN(pairs)[5] = {0, 0, FN(pair_2), FN(pair_3), FN(pair_4)};

/* Room for the sums of any tile. */
#define FM_TILE_SUMS 64
typedef struct {
    V v[FM_TILE_SUMS];
} FN(sums);

INLINE intptr_t FN(height)(intptr_t left, intptr_t most) { return left < most ? left : most; }

/* ---- what product.h has for the other rungs, with the same meaning */

static void FN(outer)(fm_pass *p, intptr_t worker, const int gates, intptr_t from, intptr_t to, intptr_t N, const REAL *a,
                      intptr_t lda, const REAL *da, intptr_t ldd, intptr_t rows, REAL *c, intptr_t vectors, REAL *parts) {
    const intptr_t blocks = (rows + 31) / 32;
    uint16_t *right = (uint16_t *)parts;
    const REAL *left = parts + 4 * L * FM_PACKED(rows);
    for (intptr_t n = from; n < to; n += 16)
        for (intptr_t block = 0; block < blocks; block++) {
            uint16_t tiles[FM_BLOCK] __attribute__((aligned(64)));
            for (intptr_t k = block * 32; k < block * 32 + 32; k += 2)
                FN(split_pair)(tiles + k % 32 * 16, FM_TILE, k < rows ? a + k * lda + n : 0,
                               k + 1 < rows ? a + (k + 1) * lda + n : 0, to - n);
            for (int i = 0; i < 3; i++)
                FN(turn)((uint16_t *)(left + (n - from) * FM_PACKED(rows)) + block * FM_BLOCK + i * FM_TILE,
                         tiles + i * FM_TILE);
        }
    FN(sums) sums;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GATE_GROUP(gates, vectors - v);
        for (intptr_t k = 0; k < blocks * 32; k += 2)
            for (intptr_t i = 0; i < nv; i++) {
                const REAL *even = da + k * ldd + (v + i) * L;
                FN(split_pair)(right + (k / 32 * 3 * nv + i) * FM_TILE + k % 32 * 16, nv * FM_TILE, k < rows ? even : 0,
                               k + 1 < rows ? even + ldd : 0, L);
            }
        FM_EACH_TILE(from, to, 16, n, m) {
            FN(tiles)[nv][m](0, 0, left + (n - from) * FM_PACKED(rows), 0, 0, parts, 0, 0, rows, (REAL *)sums.v, nv * L);
            REAL *sum = c + v * N * L + n * nv * L;
            for (intptr_t i = 0; i < m * nv; i++) vstore(sum + i * L, vload(sum + i * L) + sums.v[i]);
        }
        if (fm_poll(&p->call, worker, 2.0 * (to - from) * rows * nv * L)) return;
    }
}

static void FN(pack_group)(const int gates, const REAL *w, intptr_t H, intptr_t K, intptr_t v, intptr_t nv, REAL *packed) {
    uint16_t *to = (uint16_t *)packed;
    for (intptr_t i = 0; i < nv; i++)
        for (intptr_t k = 0; k < K; k += 32) {
            uint16_t tiles[FM_BLOCK] __attribute__((aligned(64)));
            intptr_t left = H - (v + i) / gates * L;
            FN(split_rows)(tiles, w + FN(gate_row)(gates, H, v + i, 0) * K + k, K, left < L ? left : L,
                           K - k < 32 ? K - k : 32);
            for (int j = 0; j < 3; j++)
                FN(turn)(to + ((k / 32 * 3 + j) * nv + i) * FM_TILE, tiles + j * FM_TILE);
        }
}

static void FN(pack_columns)(fm_pass *p, const int gates, const REAL *w, intptr_t H, intptr_t N, REAL *packed,
                             intptr_t worker, intptr_t workers) {
    intptr_t K = (H + L - 1) / L * gates * L, vectors = (N + L - 1) / L, blocks = (K + 31) / 32;
    for (intptr_t v = 0, nv; v < vectors; v += nv) {
        nv = GROUP(vectors - v);
        uint16_t *to = (uint16_t *)(packed + v * FM_PACKED(K) * L);
        if (fm_poll(&p->call, worker, FM_MOVED * K * nv * L)) return;
        for (intptr_t k = fm_share(blocks, worker, workers) * 32; k < fm_share(blocks, worker + 1, workers) * 32; k += 2)
            for (intptr_t i = 0; i < nv; i++) {
                const REAL *pair[2];
                for (intptr_t j = 0; j < 2; j++) {
                    intptr_t row = k + j < K ? FN(gate_row)(gates, H, (k + j) / L, (k + j) % L) : -1;
                    pair[j] = row < 0 ? 0 : w + row * N + (v + i) * L;
                }
                FN(split_pair)(to + (k / 32 * 3 * nv + i) * FM_TILE + k % 32 * 16, nv * FM_TILE, pair[0], pair[1],
                               N - (v + i) * L);
            }
    }
}
