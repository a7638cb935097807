/* The tile instructions of AMX that the products use. With FM_AMX_EMULATED (the tests, on CPUs without AMX) they are
 * functions over arrays that do what the Intel SDM says they do, and abort where the hardware would fault (#UD).
 * Included inside the AMX rung, so that it is compiled for that target. */
#ifndef FM_AMX_H
#define FM_AMX_H

/* What ldtilecfg reads: palette 1 has 8 tiles of at most 16 rows of 64 bytes. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} fm_tile_config;

#ifndef FM_AMX_EMULATED

/* gcc's intrinsics do not say that ldtilecfg and tileload read memory: stores to it must not move behind them, or be
 * dropped because nothing seems to read them. To stand before them. */
#define fm_tile_fence() __asm__ volatile("" ::: "memory")
#define fm_tile_configure(config) _tile_loadconfig(config)
#define fm_tile_release() _tile_release()
#define fm_tile_zero(tile) _tile_zero(tile)
#define fm_tile_load(tile, from, stride) _tile_loadd(tile, from, stride)
#define fm_tile_store(tile, to, stride) _tile_stored(tile, to, stride)
#define fm_tile_dot(sum, a, b) _tile_dpbf16ps(sum, a, b)

#else

#include <stdlib.h>

static _Thread_local struct {
    fm_tile_config config; /* palette 0: not configured */
    uint32_t tile[8][16][16];
} fm_amx;

#define fm_tile_fence() ((void)0)

static inline void fm_tile_must(int holds) {
    if (!holds) abort();
}

static inline void fm_tile_configure(const fm_tile_config *config) {
    int zero = config->start_row;
    for (int i = 0; i < 14; i++) zero |= config->reserved[i];
    for (int i = 0; i < 16; i++) {
        zero |= i < 8 ? 0 : config->colsb[i] | config->rows[i];
        fm_tile_must(config->colsb[i] <= 64 && config->rows[i] <= 16);
    }
    fm_tile_must(config->palette == 1 && !zero);
    memset(&fm_amx, 0, sizeof fm_amx);
    fm_amx.config = *config;
}

static inline void fm_tile_release(void) { memset(&fm_amx, 0, sizeof fm_amx); }

static inline void fm_tile_zero(int tile) {
    fm_tile_must(fm_amx.config.palette == 1);
    memset(fm_amx.tile[tile], 0, sizeof fm_amx.tile[tile]);
}

static inline void fm_tile_load(int tile, const void *from, intptr_t stride) {
    fm_tile_zero(tile);
    for (intptr_t r = 0; r < fm_amx.config.rows[tile]; r++)
        memcpy(fm_amx.tile[tile][r], (const char *)from + r * stride, fm_amx.config.colsb[tile]);
}

static inline void fm_tile_store(int tile, void *to, intptr_t stride) {
    fm_tile_must(fm_amx.config.palette == 1);
    for (intptr_t r = 0; r < fm_amx.config.rows[tile]; r++)
        memcpy((char *)to + r * stride, fm_amx.tile[tile][r], fm_amx.config.colsb[tile]);
}

/* TDPBF16PS: even and odd k are two chains of fused multiply-adds from zero, whose sum is added to the tile. Denormals
 * are zeros in and out, and it rounds to nearest, whatever MXCSR says. */
static inline void fm_tile_dot(int sum, int a, int b) {
    const fm_tile_config *c = &fm_amx.config;
    fm_tile_must(c->palette == 1 && sum != a && sum != b && a != b);
    fm_tile_must(c->rows[sum] == c->rows[a] && c->colsb[sum] == c->colsb[b] && c->colsb[a] == 4 * c->rows[b]);
    const unsigned mode = _mm_getcsr();
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    _mm_setcsr(0x9fc0);
    for (int m = 0; m < c->rows[sum]; m++) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (int k = 0; k < c->colsb[a] / 4; k++) {
            __m512i x = _mm512_set1_epi32((int)fm_amx.tile[a][m][k]), w = _mm512_loadu_si512(fm_amx.tile[b][k]);
            even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                   _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), even);
            odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, high)),
                                  _mm512_castsi512_ps(_mm512_and_si512(w, high)), odd);
        }
        float *to = (float *)(void *)fm_amx.tile[sum][m];
        const __mmask16 columns = (__mmask16)((1u << c->colsb[sum] / 4) - 1);
        _mm512_mask_storeu_ps(to, columns, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_add_ps(even, odd)));
    }
    _mm_setcsr(mode);
}

#endif
#endif
