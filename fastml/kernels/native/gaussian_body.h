/* Gaussian mixtures: densities, responsibilities and statistics, a block of ROWS rows at a time; the steps' numbers are
 * reference/gaussian.py's.
 *
 * Distances have their lanes along the rows: the block is transposed once and read by every component, only the triangle
 * of a factor is multiplied, and no sum runs across lanes. Statistics are symmetric products of one array with itself,
 * z = sqrt(weight r) (x - mean), in one of two layouts:
 *   lanes along rows, for up to FM_FEW features: pieces of up to PIECE x PIECE numbers, each with L lanes, added up once a
 *     tile; the root itself is one more feature, so that n and first come along;
 *   lanes along features, for more: rows whose root is 0 are left out, which costs nothing in data without structure and
 *     halves the time of well separated components.
 */

#include "vec.h"

#include "act.h"

#include "posterior.h"

#undef GROUPS
#undef OUTPUTS
#undef PIECE
#undef FM_FEW
#undef PACKED_BYTES
#undef FM_EACH_PIECE
#undef FM_SMALL

/* GROUPS vectors of rows times OUTPUTS numbers of a row accumulate in registers; PIECE x PIECE do in statistics. */
#if ROWS4 == 6
#define GROUPS 4
#define PIECE 5
#define FM_SMALL 5
#else
#define GROUPS 2
#define PIECE 3
#define FM_SMALL 3
#endif
#define OUTPUTS 6
#define FM_FEW 32
#define PACKED_BYTES 24576 /* of rows made ready for a product of features: half of a first-level cache */

/* Part i of n things cut into parts of at most `most`, as equal as can be, larger ones first. */
#ifndef FM_PARTS_OF
#define FM_PARTS_OF
static inline intptr_t fm_parts(intptr_t n, intptr_t most) { return (n + most - 1) / most; }
static inline intptr_t fm_part(intptr_t n, intptr_t parts, intptr_t i) { return n / parts + (i < n % parts); }
#endif

typedef struct FN(mix) {
    fm_mixture *p;
    intptr_t N, D, K, dims, vectors; /* dims: numbers of z; vectors: of a row's features */
    /* packed, all workers' */
    REAL *means;     /* (K, vectors * L), 0 beyond D; of "tied" behind them those of whitened rows */
    REAL *factors;   /* full, tied: triangles as `triangle` reads them; diag: (K, D) pairs of 1/s and mean/s */
    REAL *constants; /* (K) */
    REAL *centre;    /* tied: (D), what is taken from rows before they are whitened */
    size_t packed;
    /* a worker's own */
    REAL *xt;     /* (D, ROWS) */
    REAL *yt;     /* tied: (D, ROWS), whitened rows */
    REAL *panel;  /* (max(D, dims), ROWS): distances use GROUPS vectors of each, statistics all */
    REAL *l, *h;  /* (K, ROWS) */
    REAL *weight, *root;
    REAL *sums;   /* a tile's sums by lanes, or of products of features */
    double *slots; /* all workers' */
    intptr_t *done, slot_size, nslots, sums_size;
} FN(mix);

INLINE intptr_t FN(by_features)(const FN(mix) * f) { return f->p->type == FM_FULL && f->D > FM_FEW; }

static intptr_t FN(triangle_size)(intptr_t D) { return D * (D + 1) / 2; }

/* Numbers of a tile's sums, as the workers keep them. */
static intptr_t FN(sums_of)(const FN(mix) * f) {
    const intptr_t D = f->D, K = f->K, width = f->vectors * L;
    if (FN(by_features)(f)) return K * (width * width + width + L); /* products reach beyond D, to full vectors */
    switch (f->p->type) {
    case FM_FULL: return K * FN(triangle_size)(D + 1) * L;
    case FM_DIAG: return K * (2 * D + 1) * L;
    default: return K * (D + 2) * L;
    }
}

/* The same once added up: n (K), first (K, D), second by upper triangles, the log-likelihood. */
static intptr_t FN(second_size)(const FN(mix) * f) {
    switch (f->p->type) {
    case FM_FULL: return f->K * FN(triangle_size)(f->D);
    case FM_DIAG: return f->K * f->D;
    case FM_SPHERICAL: return f->K;
    default: return 0;
    }
}

static size_t FN(layout)(fm_mixture *p, intptr_t worker, intptr_t workers, FN(mix) * f) {
    const intptr_t D = p->D, K = p->K;
    fm_arena packed = {p->packed, 0}, arena = {p->scratch, 0};
    *f = (FN(mix)){.p = p, .N = p->N, .D = D, .K = K, .dims = D + 1, .vectors = (D + L - 1) / L};
    const int tied = p->type == FM_TIED;
    f->means = fm_take(&packed, (1 + tied) * K * f->vectors * L * sizeof(REAL));
    const intptr_t factors = p->type == FM_FULL ? K * FN(triangle_size)(D) : tied ? FN(triangle_size)(D) : 2 * K * D;
    f->factors = fm_take(&packed, factors * sizeof(REAL));
    f->constants = fm_take(&packed, K * sizeof(REAL));
    f->centre = fm_take(&packed, D * sizeof(REAL));
    f->nslots = 2 * workers;
    f->done = fm_take(&packed, f->nslots * sizeof(intptr_t));
    f->packed = packed.used;

    f->sums_size = FN(sums_of)(f);
    f->slot_size = K + K * D + FN(second_size)(f) + 1;
    const int statistics = p->n != 0;
    f->slots = statistics ? fm_take(&arena, f->nslots * f->slot_size * sizeof(double)) : 0;
    for (intptr_t w = 0; w < workers; w++) {
        FN(mix) mine = *f;
        mine.xt = fm_take(&arena, D * ROWS * sizeof(REAL));
        mine.yt = tied ? fm_take(&arena, D * ROWS * sizeof(REAL)) : mine.xt;
        mine.panel = fm_take(&arena, (D + 1) * ROWS * sizeof(REAL) + PACKED_BYTES);
        mine.l = fm_take(&arena, K * ROWS * sizeof(REAL));
        mine.h = p->type == FM_SPHERICAL ? fm_take(&arena, K * ROWS * sizeof(REAL)) : mine.l;
        mine.weight = fm_take(&arena, ROWS * sizeof(REAL));
        mine.root = fm_take(&arena, ROWS * sizeof(REAL));
        mine.sums = statistics ? fm_take(&arena, f->sums_size * sizeof(REAL)) : 0;
        if (w == worker) *f = mine;
    }
    return arena.used;
}

/* ---------------------------------------------------------------------------------------------------------- packing */

/* The factor U (D, D) as tiles read it: for each part of up to OUTPUTS columns, first the rows above them, then their
 * triangle by rows. */
static REAL *FN(pack_triangle)(const REAL *u, intptr_t D, REAL *to) {
    const intptr_t parts = fm_parts(D, OUTPUTS);
    for (intptr_t b = 0, j0 = 0; b < parts; b++) {
        const intptr_t J = fm_part(D, parts, b);
        for (intptr_t i = 0; i < j0; i++)
            for (intptr_t j = 0; j < J; j++) *to++ = u[i * D + j0 + j];
        for (intptr_t i = 0; i < J; i++)
            for (intptr_t j = i; j < J; j++) *to++ = u[(j0 + i) * D + j0 + j];
        j0 += J;
    }
    return to;
}

/* Called by one worker, before the others: fills p->packed; with that NULL returns its bytes. */
static size_t FN(prepare)(fm_mixture *p, intptr_t worker, intptr_t workers) {
    FN(mix) f;
    FN(layout)(p, worker, workers, &f);
    if (!p->packed) return f.packed;
    const intptr_t D = f.D, K = f.K, width = f.vectors * L;
    const REAL *means = p->means, *factors = p->factors;
    memset(f.done, 0, f.nslots * sizeof(intptr_t));
    memset(f.means, 0, K * width * sizeof(REAL));
    for (intptr_t k = 0; k < K; k++) memcpy(f.means + k * width, means + k * D, D * sizeof(REAL));
    memcpy(f.constants, p->constants, K * sizeof(REAL));
    switch (p->type) {
    case FM_FULL:
        for (intptr_t k = 0; k < K; k++)
            FN(pack_triangle)(factors + k * D * D, D, f.factors + k * FN(triangle_size)(D));
        break;
    case FM_TIED:
        FN(pack_triangle)(factors, D, f.factors);
        for (intptr_t d = 0; d < D; d++) {
            double sum = 0;
            for (intptr_t k = 0; k < K; k++) sum += (double)means[k * D + d];
            f.centre[d] = (REAL)(sum / (double)K);
        }
        for (intptr_t k = 0; k < K; k++)
            for (intptr_t j = 0; j < D; j++) {
                REAL sum = 0;
                for (intptr_t i = 0; i <= j; i++) sum += (means[k * D + i] - f.centre[i]) * factors[i * D + j];
                f.means[(K + k) * width + j] = sum;
            }
        break;
    case FM_DIAG:
        for (intptr_t i = 0; i < K * D; i++) {
            f.factors[2 * i] = factors[i];
            f.factors[2 * i + 1] = factors[i] * means[i];
        }
        break;
    default: break;
    }
    return f.packed;
}

/* -------------------------------------------------------------------------------------------------------- distances */

/* Outputs [j0, j0 + J) of (x - mean) U for GROUPS vectors of rows: their squares are added to q, or, where out is given,
 * they are left there, ROWS apart. panel: (x - mean), GROUPS vectors for each feature. */
INLINE const REAL *FN(triangle_body)(const int J, const REAL *panel, const REAL *u, intptr_t j0, V *q, REAL *out) {
    V acc[OUTPUTS * GROUPS];
    UNROLL for (int i = 0; i < J * GROUPS; i++) acc[i] = vset1(0);
    for (intptr_t i = 0; i < j0; i++, panel += GROUPS * L, u += J) {
        V x[GROUPS];
        UNROLL for (int g = 0; g < GROUPS; g++) x[g] = vload(panel + g * L);
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            acc[j * GROUPS + g] = vfma(vset1(u[j]), x[g], acc[j * GROUPS + g]);
    }
    UNROLL for (int i = 0; i < J; i++) {
        V x[GROUPS];
        UNROLL for (int g = 0; g < GROUPS; g++) x[g] = vload(panel + g * L);
        UNROLL for (int j = i; j < J; j++, u++) UNROLL for (int g = 0; g < GROUPS; g++)
            acc[j * GROUPS + g] = vfma(vset1(*u), x[g], acc[j * GROUPS + g]);
        panel += GROUPS * L;
    }
    if (out) {
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            vstore(out + j * ROWS + g * L, acc[j * GROUPS + g]);
    } else {
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            q[g] = vfma(acc[j * GROUPS + g], acc[j * GROUPS + g], q[g]);
    }
    return u;
}

typedef const REAL *FN(triangle)(const REAL *panel, const REAL *u, intptr_t j0, V *q, REAL *out);

#define FM_DEFINE_TRIANGLE(J)                                                                                          \
    NOINLINE static const REAL *FN(triangle##J)(const REAL *panel, const REAL *u, intptr_t j0, V *q, REAL *out) {       \
        return FN(triangle_body)(J, panel, u, j0, q, out);                                                             \
    }
FM_DEFINE_TRIANGLE(1)
FM_DEFINE_TRIANGLE(2)
FM_DEFINE_TRIANGLE(3)
FM_DEFINE_TRIANGLE(4)
FM_DEFINE_TRIANGLE(5)
FM_DEFINE_TRIANGLE(6)
#undef FM_DEFINE_TRIANGLE

static FN(triangle) *const FN(triangles)[OUTPUTS + 1] = {0, FN(triangle1), FN(triangle2), FN(triangle3),
                                                         FN(triangle4), FN(triangle5), FN(triangle6)};

/* All outputs, for the GROUPS vectors of rows that xt and out begin with. */
static void FN(whiten)(const FN(mix) * f, const REAL *xt, const REAL *mean, const REAL *u, V *q, REAL *out) {
    const intptr_t D = f->D, parts = fm_parts(D, OUTPUTS);
    for (intptr_t d = 0; d < D; d++) {
        V m = vset1(mean[d]);
        UNROLL for (int g = 0; g < GROUPS; g++) vstore(f->panel + (d * GROUPS + g) * L, vload(xt + d * ROWS + g * L) - m);
    }
    for (intptr_t b = 0, j0 = 0, J; b < parts; b++, j0 += J) {
        J = fm_part(D, parts, b);
        u = FN(triangles)[J](f->panel, u, j0, q, out ? out + j0 * ROWS : 0);
    }
}

/* 1 and 2 of one component, all of few features: nothing leaves the registers. */
INLINE void FN(few_body)(const int D, const REAL *xt, const REAL *mean, const REAL *u, REAL constant, REAL *l) {
    for (intptr_t t = 0; t < ROWS; t += GROUPS * L) {
        V acc[OUTPUTS * GROUPS], q[GROUPS];
        const REAL *at = u;
        UNROLL for (int i = 0; i < D * GROUPS; i++) acc[i] = vset1(0);
        UNROLL for (int g = 0; g < GROUPS; g++) q[g] = vset1(0);
        UNROLL for (int i = 0; i < D; i++) {
            V x[GROUPS], m = vset1(mean[i]);
            UNROLL for (int g = 0; g < GROUPS; g++) x[g] = vload(xt + i * ROWS + t + g * L) - m;
            UNROLL for (int j = i; j < D; j++, at++) UNROLL for (int g = 0; g < GROUPS; g++)
                acc[j * GROUPS + g] = vfma(vset1(*at), x[g], acc[j * GROUPS + g]);
        }
        UNROLL for (int j = 0; j < D; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            q[g] = vfma(acc[j * GROUPS + g], acc[j * GROUPS + g], q[g]);
        UNROLL for (int g = 0; g < GROUPS; g++) vstore(l + t + g * L, vfma(vset1((REAL)-0.5), q[g], vset1(constant)));
    }
}

typedef void FN(few)(const REAL *xt, const REAL *mean, const REAL *u, REAL constant, REAL *l);

#define FM_DEFINE_FEW(D)                                                                                               \
    NOINLINE static void FN(few##D)(const REAL *xt, const REAL *mean, const REAL *u, REAL constant, REAL *l) {          \
        FN(few_body)(D, xt, mean, u, constant, l);                                                                     \
    }
FM_DEFINE_FEW(1)
FM_DEFINE_FEW(2)
FM_DEFINE_FEW(3)
FM_DEFINE_FEW(4)
FM_DEFINE_FEW(5)
FM_DEFINE_FEW(6)
#undef FM_DEFINE_FEW

static FN(few) *const FN(fews)[OUTPUTS + 1] = {0,           FN(few1), FN(few2), FN(few3),
                                               FN(few4),    FN(few5), FN(few6)};

/* 1 and 2 for independent features: (x s - m s)² by pairs (s, m s) or, where they are not given, (x - m)². */
INLINE void FN(independent)(const int scaled, intptr_t D, const REAL *xt, const REAL *at, REAL constant, REAL scale,
                            REAL *l) {
    for (intptr_t t = 0; t < ROWS; t += GROUPS * L) {
        V q[GROUPS];
        UNROLL for (int g = 0; g < GROUPS; g++) q[g] = vset1(0);
        for (intptr_t d = 0; d < D; d++) {
            V s = vset1(at[scaled ? 2 * d : d]), ms = vset1(at[scaled ? 2 * d + 1 : d]);
            UNROLL for (int g = 0; g < GROUPS; g++) {
                V x = vload(xt + d * ROWS + t + g * L), y;
                if (scaled) y = vfma(x, s, -ms);
                else y = x - s;
                q[g] = vfma(y, y, q[g]);
            }
        }
        UNROLL for (int g = 0; g < GROUPS; g++) vstore(l + t + g * L, vfma(vset1(scale), q[g], vset1(constant)));
    }
}

NOINLINE static void FN(scaled_distances)(intptr_t D, const REAL *xt, const REAL *at, REAL constant, REAL *l) {
    FN(independent)(1, D, xt, at, constant, (REAL)-0.5, l);
}

NOINLINE static void FN(plain_distances)(intptr_t D, const REAL *xt, const REAL *mean, REAL constant, REAL scale, REAL *l) {
    FN(independent)(0, D, xt, mean, constant, scale, l);
}

/* 1 and 2: l (K, ROWS) of the block in xt. */
static void FN(densities)(const FN(mix) * f) {
    const intptr_t D = f->D, K = f->K, width = f->vectors * L;
    const REAL *s = f->p->factors;
    if (f->p->type == FM_TIED)
        for (intptr_t t = 0; t < ROWS; t += GROUPS * L) FN(whiten)(f, f->xt + t, f->centre, f->factors, 0, f->yt + t);
    for (intptr_t k = 0; k < K; k++) {
        const REAL *mean = f->means + k * width;
        REAL *l = f->l + k * ROWS, constant = f->constants[k];
        switch (f->p->type) {
        case FM_FULL: {
            const REAL *u = f->factors + k * FN(triangle_size)(D);
            if (D <= OUTPUTS) {
                FN(fews)[D](f->xt, mean, u, constant, l);
                break;
            }
            for (intptr_t t = 0; t < ROWS; t += GROUPS * L) {
                V q[GROUPS];
                UNROLL for (int g = 0; g < GROUPS; g++) q[g] = vset1(0);
                FN(whiten)(f, f->xt + t, mean, u, q, 0);
                UNROLL for (int g = 0; g < GROUPS; g++)
                    vstore(l + t + g * L, vfma(vset1((REAL)-0.5), q[g], vset1(constant)));
            }
            break;
        }
        case FM_TIED: FN(plain_distances)(D, f->yt, mean + K * width, constant, (REAL)-0.5, l); break;
        case FM_DIAG: FN(scaled_distances)(D, f->xt, f->factors + 2 * k * D, constant, l); break;
        default: FN(plain_distances)(D, f->xt, mean, constant, (REAL)-0.5 * s[k] * s[k], l);
        }
    }
}

/* ------------------------------------------------------------------------------- statistics with lanes along the rows */

/* acc[i][j] += sum over the block's vectors of a_i b_j; where a and b are the same, only j >= i. */
INLINE void FN(piece_body)(const int P, const int Q, const int same, const REAL *a, const REAL *b, REAL *acc) {
    V sum[PIECE * PIECE];
    UNROLL for (int i = 0; i < P * Q; i++) sum[i] = vset1(0);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V x[PIECE];
        UNROLL for (int i = 0; i < P; i++) x[i] = vload(a + i * ROWS + t);
        UNROLL for (int j = 0; j < Q; j++) {
            V y = x[0];
            if (same) y = x[j];
            else y = vload(b + j * ROWS + t);
            UNROLL for (int i = 0; i < (same ? j + 1 : P); i++) sum[i * Q + j] = vfma(x[i], y, sum[i * Q + j]);
        }
    }
    UNROLL for (int i = 0; i < P; i++) UNROLL for (int j = same ? i : 0; j < Q; j++, acc += L)
        vstore(acc, vload(acc) + sum[i * Q + j]);
}

typedef void FN(piece)(const REAL *a, const REAL *b, REAL *acc);

#define FM_DEFINE_PIECE(P, Q)                                                                                          \
    NOINLINE static void FN(piece##P##Q)(const REAL *a, const REAL *b, REAL *acc) { FN(piece_body)(P, Q, 0, a, b, acc); }
#define FM_DEFINE_SAME(P)                                                                                              \
    NOINLINE static void FN(same##P)(const REAL *a, const REAL *b, REAL *acc) {                                        \
        (void)b;                                                                                                       \
        FN(piece_body)(P, P, 1, a, a, acc);                                                                            \
    }
FM_DEFINE_SAME(2)
FM_DEFINE_SAME(3)
FM_DEFINE_PIECE(2, 2)
FM_DEFINE_PIECE(3, 2)
FM_DEFINE_PIECE(3, 3)
#if PIECE == 5
FM_DEFINE_SAME(4)
FM_DEFINE_SAME(5)
FM_DEFINE_PIECE(4, 3)
FM_DEFINE_PIECE(4, 4)
FM_DEFINE_PIECE(5, 4)
FM_DEFINE_PIECE(5, 5)
static FN(piece) *const FN(sames)[PIECE + 1] = {0, 0, FN(same2), FN(same3), FN(same4), FN(same5)};
static FN(piece) *const FN(pieces)[PIECE + 1][PIECE + 1] = {
    [2] = {[2] = FN(piece22)},
    [3] = {[2] = FN(piece32), [3] = FN(piece33)},
    [4] = {[3] = FN(piece43), [4] = FN(piece44)},
    [5] = {[4] = FN(piece54), [5] = FN(piece55)},
};
#else
static FN(piece) *const FN(sames)[PIECE + 1] = {0, 0, FN(same2), FN(same3)};
static FN(piece) *const FN(pieces)[PIECE + 1][PIECE + 1] = {
    [2] = {[2] = FN(piece22)},
    [3] = {[2] = FN(piece32), [3] = FN(piece33)},
};
#endif
#undef FM_DEFINE_PIECE
#undef FM_DEFINE_SAME

/* Walks pairs of parts (a, b >= a) of n numbers: their first numbers i0, j0 and lengths P, Q. */
#define FM_EACH_PIECE(n, i0, P, j0, Q)                                                                                 \
    for (intptr_t parts = fm_parts(n, PIECE), a_ = 0, i0 = 0, P = 0; a_ < parts && (P = fm_part(n, parts, a_), 1);      \
         i0 += P, a_++)                                                                                                \
        for (intptr_t b_ = a_, j0 = i0, Q = 0; b_ < parts && (Q = fm_part(n, parts, b_), 1); j0 += Q, b_++)

/* 4 of one component of few features, its dims = D + 1 numbers in registers: all pairs' sums. */
INLINE void FN(small_body)(const int n, const REAL *xt, const REAL *mean, const REAL *h, const REAL *root, REAL *acc) {
    V sum[(FM_SMALL + 1) * (FM_SMALL + 1)];
    UNROLL for (int i = 0; i < n * n; i++) sum[i] = vset1(0);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V z[FM_SMALL + 1], r = vload(h + t) * vload(root + t);
        UNROLL for (int i = 0; i < n - 1; i++) z[i] = r * (vload(xt + i * ROWS + t) - vset1(mean[i]));
        z[n - 1] = r;
        UNROLL for (int i = 0; i < n; i++) UNROLL for (int j = i; j < n; j++)
            sum[i * n + j] = vfma(z[i], z[j], sum[i * n + j]);
    }
    UNROLL for (int i = 0; i < n; i++) UNROLL for (int j = i; j < n; j++, acc += L)
        vstore(acc, vload(acc) + sum[i * n + j]);
}

typedef void FN(small)(const REAL *xt, const REAL *mean, const REAL *h, const REAL *root, REAL *acc);

#define FM_DEFINE_SMALL(n)                                                                                             \
    NOINLINE static void FN(small##n)(const REAL *xt, const REAL *mean, const REAL *h, const REAL *root, REAL *acc) {   \
        FN(small_body)(n, xt, mean, h, root, acc);                                                                     \
    }
FM_DEFINE_SMALL(2)
FM_DEFINE_SMALL(3)
FM_DEFINE_SMALL(4)
#if FM_SMALL == 5
FM_DEFINE_SMALL(5)
FM_DEFINE_SMALL(6)
static FN(small) *const FN(smalls)[FM_SMALL + 2] = {0, 0, FN(small2), FN(small3), FN(small4), FN(small5), FN(small6)};
#else
static FN(small) *const FN(smalls)[FM_SMALL + 2] = {0, 0, FN(small2), FN(small3), FN(small4)};
#endif
#undef FM_DEFINE_SMALL

static void FN(full_by_rows)(const FN(mix) * f, intptr_t k, REAL *acc) {
    const intptr_t D = f->D, n = f->dims;
    const REAL *mean = f->means + k * f->vectors * L, *h = f->h + k * ROWS;
    if (D <= FM_SMALL) {
        FN(smalls)[n](f->xt, mean, h, f->root, acc);
        return;
    }
    REAL *z = f->panel;
    for (intptr_t t = 0; t < ROWS; t += L) vstore(z + D * ROWS + t, vload(h + t) * vload(f->root + t));
    for (intptr_t d = 0; d < D; d++) {
        V m = vset1(mean[d]);
        for (intptr_t t = 0; t < ROWS; t += L)
            vstore(z + d * ROWS + t, vload(z + D * ROWS + t) * (vload(f->xt + d * ROWS + t) - m));
    }
    FM_EACH_PIECE(n, i0, P, j0, Q) {
        (i0 == j0 ? FN(sames)[P] : FN(pieces)[P][Q])(z + i0 * ROWS, z + j0 * ROWS, acc);
        acc += (i0 == j0 ? P * (P + 1) / 2 : P * Q) * L;
    }
}

/* 4 for independent features: n, then first and (squares) second of each feature; or n, first, and of "spherical" the
 * distance, which 2 holds: |x - mean|² = (constant - l) * unscaled. */
INLINE void FN(independent_sums)(const int squares, const FN(mix) * f, intptr_t k, REAL *acc, REAL unscaled) {
    const intptr_t D = f->D;
    const REAL *mean = f->means + k * f->vectors * L, *h = f->h + k * ROWS, *l = f->l + k * ROWS;
    REAL *r = f->panel;
    V n = vload(acc), distance = vload(acc + L), c = vset1(f->constants[k]);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V z = vload(h + t) * vload(f->root + t), rt = z * z;
        n += rt;
        if (!squares && unscaled != 0) distance = vfma(rt, (c - vload(l + t)) * vset1(unscaled), distance);
        vstore(r + t, rt);
    }
    vstore(acc, n);
    acc += L;
    if (!squares) {
        vstore(acc, distance);
        acc += L;
    }
    for (intptr_t d0 = 0; d0 < D; d0 += 4) {
        const int left = D - d0 < 4 ? (int)(D - d0) : 4;
        V m[4], s1[4], s2[4];
        const REAL *x[4];
        UNROLL for (int i = 0; i < 4; i++) {
            const intptr_t d = d0 + (i < left ? i : 0);
            m[i] = vset1(mean[d]);
            x[i] = f->xt + d * ROWS;
            s1[i] = s2[i] = vset1(0);
        }
        for (intptr_t t = 0; t < ROWS; t += L) {
            V rt = vload(r + t);
            UNROLL for (int i = 0; i < 4; i++) {
                V w = vload(x[i] + t) - m[i];
                if (squares) {
                    V rw = rt * w;
                    s1[i] += rw;
                    s2[i] = vfma(rw, w, s2[i]);
                } else {
                    s1[i] = vfma(rt, w, s1[i]);
                }
            }
        }
        for (int i = 0; i < left; i++) {
            REAL *to = acc + (1 + squares) * (d0 + i) * L;
            vstore(to, vload(to) + s1[i]);
            if (squares) vstore(to + L, vload(to + L) + s2[i]);
        }
    }
}

NOINLINE static void FN(diagonal_sums)(const FN(mix) * f, intptr_t k, REAL *acc) {
    FN(independent_sums)(1, f, k, acc, 0);
}

NOINLINE static void FN(first_sums)(const FN(mix) * f, intptr_t k, REAL *acc, REAL unscaled) {
    FN(independent_sums)(0, f, k, acc, unscaled);
}

/* --------------------------------------------------------------------------- statistics with lanes along the features */

#undef HEIGHT
#if ROWS4 == 6 && L >= 8
#define HEIGHT 8
#elif L >= 4
#define HEIGHT 4
#else
#define HEIGHT 2
#endif

/* to[i][v] += sum over rows of z_i times vector v of z, R numbers by NV vectors, both from the same rows of `width`. */
INLINE void FN(product_body)(const int R, const int NV, const REAL *zi, const REAL *zv, intptr_t rows, intptr_t width,
                             REAL *to) {
    V acc[HEIGHT * 3];
    UNROLL for (int i = 0; i < R * NV; i++) acc[i] = vset1(0);
    for (intptr_t n = 0; n < rows; n++, zi += width, zv += width) {
        V y[3];
        UNROLL for (int v = 0; v < NV; v++) y[v] = vload(zv + v * L);
        UNROLL for (int i = 0; i < R; i++) {
            V x = vset1(zi[i]);
            UNROLL for (int v = 0; v < NV; v++) acc[i * NV + v] = vfma(x, y[v], acc[i * NV + v]);
        }
    }
    UNROLL for (int i = 0; i < R; i++) UNROLL for (int v = 0; v < NV; v++)
        vstore(to + i * width + v * L, vload(to + i * width + v * L) + acc[i * NV + v]);
}

typedef void FN(product)(const REAL *zi, const REAL *zv, intptr_t rows, intptr_t width, REAL *to);

#define FM_DEFINE_PRODUCT(NV)                                                                                          \
    NOINLINE static void FN(product##NV)(const REAL *zi, const REAL *zv, intptr_t rows, intptr_t width, REAL *to) {     \
        FN(product_body)(HEIGHT, NV, zi, zv, rows, width, to);                                                         \
    }
FM_DEFINE_PRODUCT(1)
FM_DEFINE_PRODUCT(2)
FM_DEFINE_PRODUCT(3)
#undef FM_DEFINE_PRODUCT

static FN(product) *const FN(products)[4] = {0, FN(product1), FN(product2), FN(product3)};

/* 4 of one component: the upper triangle of second (D, width), first (width) and n (L) of the rows whose root is not 0. */
static void FN(full_by_features)(const FN(mix) * f, const REAL *X, intptr_t rows, intptr_t k, REAL *second, REAL *first,
                                 REAL *n) {
    const intptr_t D = f->D, width = f->vectors * L, fit = PACKED_BYTES / (width * (intptr_t)sizeof(REAL));
    const intptr_t most = fit < 32 ? 32 : fit > ROWS ? ROWS : fit;
    const REAL *mean = f->means + k * width, *h = f->h + k * ROWS;
    const REAL *from[ROWS];
    REAL roots[ROWS], *z = f->panel;
    V total = vload(n);
    intptr_t active = 0;
    for (intptr_t t = 0; t < ROWS; t += L) {
        V r = vload(h + t) * vload(f->root + t);
        total = vfma(r, r, total);
        REAL each[L];
        vstore(each, r);
        for (intptr_t i = 0; i < L && t + i < rows; i++) {
            from[active] = X + (t + i) * D;
            roots[active] = each[i];
            active += each[i] != 0;
        }
    }
    vstore(n, total);
    for (intptr_t start = 0; start < active; start += most) {
        const intptr_t count = active - start < most ? active - start : most;
        for (intptr_t v = 0; v < f->vectors; v++) {
            V m = vload(mean + v * L), sum = vload(first + v * L);
            const intptr_t left = D - v * L;
            for (intptr_t i = 0; i < count; i++) {
                V r = vset1(roots[start + i]), x = r * (FN(load_tail)(from[start + i] + v * L, left) - m);
                sum = vfma(r, x, sum);
                vstore(z + i * width + v * L, x);
            }
            vstore(first + v * L, sum);
        }
        for (intptr_t i = 0; i < D; i += HEIGHT) /* rows beyond D meet the zeros that fill up the last vector */
            for (intptr_t v = i / L, nv; v < f->vectors; v += nv) {
                const intptr_t parts = fm_parts(f->vectors - v, 3);
                nv = fm_part(f->vectors - v, parts, 0);
                FN(products)[nv](z + i, z + v * L, count, width, second + i * width + v * L);
            }
    }
}

/* ------------------------------------------------------------------------------------------------------------- a tile */

static void FN(add_sums)(fm_mixture *p, const double *from) {
    const intptr_t D = p->D, K = p->K;
    for (intptr_t k = 0; k < K; k++) p->n[k] += *from++;
    for (intptr_t i = 0; i < K * D; i++) p->first[i] += *from++;
    switch (p->type) {
    case FM_FULL:
        for (intptr_t k = 0; k < K; k++)
            for (intptr_t i = 0; i < D; i++)
                for (intptr_t j = i; j < D; j++) p->second[(k * D + i) * D + j] += *from++;
        break;
    case FM_DIAG:
        for (intptr_t i = 0; i < K * D; i++) p->second[i] += *from++;
        break;
    case FM_SPHERICAL:
        for (intptr_t k = 0; k < K; k++) p->second[k] += *from++;
        break;
    default: break;
    }
    *p->total += *from;
}

/* What a tile's sums are together, in the order of `add_sums`; they are then 0 again. */
static void FN(collect)(const FN(mix) * f, double likelihood, double *slot) {
    const intptr_t D = f->D, K = f->K, width = f->vectors * L;
    double *n = slot, *first = slot + K, *second = first + K * D;
    const REAL *from = f->sums;
    second[FN(second_size)(f)] = likelihood;
    if (FN(by_features)(f)) {
        for (intptr_t k = 0; k < K; k++, from += width * width + width + L) {
            for (intptr_t i = 0; i < D; i++)
                for (intptr_t j = i; j < D; j++) *second++ = (double)from[i * width + j];
            for (intptr_t d = 0; d < D; d++) first[k * D + d] = (double)from[width * width + d];
            n[k] = FN(lanes)(vload(from + width * width + width));
        }
    } else {
        const intptr_t count = f->sums_size / L / K;
        double *sums = (double *)f->panel; /* (D + 1) * ROWS reals hold (D + 1)(D + 2) / 2 doubles while D <= FM_FEW, 2 D + 1 always */
        for (intptr_t k = 0; k < K; k++, from += count * L) {
            FN(lane_sums)(from, count, sums);
            if (f->p->type == FM_FULL) {
                const double *sum = sums;
                double *at = second + k * FN(triangle_size)(D);
                FM_EACH_PIECE(f->dims, i0, P, j0, Q) {
                    if (D <= FM_SMALL) P = Q = f->dims, a_ = b_ = parts;
                    for (intptr_t i = i0; i < i0 + P; i++)
                        for (intptr_t j = i0 == j0 ? i : j0; j < j0 + Q; j++, sum++) {
                            if (j < D) at[i * D - i * (i - 1) / 2 + j - i] = *sum;
                            else if (i < D) first[k * D + i] = *sum;
                            else n[k] = *sum;
                        }
                }
            } else {
                const int squares = f->p->type == FM_DIAG;
                n[k] = sums[0];
                for (intptr_t d = 0; d < D; d++) {
                    first[k * D + d] = sums[squares ? 1 + 2 * d : 2 + d];
                    if (squares) second[k * D + d] = sums[2 + 2 * d];
                }
                if (f->p->type == FM_SPHERICAL) second[k] = sums[1];
            }
        }
    }
    memset(f->sums, 0, f->sums_size * sizeof(REAL));
}

/* Rows [start, start + rows) of the data, at most ROWS of them. */
static void FN(block)(const FN(mix) * f, intptr_t start, intptr_t rows, V *likelihood) {
    fm_mixture *p = f->p;
    const intptr_t D = f->D, K = f->K;
    const REAL *X = (const REAL *)p->X + start * D, *w = p->sample_weight, *s = p->factors;
    FN(rows_in)(X, D, rows, f->xt);
    FN(densities)(f);
    if (p->log_density) FN(rows_out)(f->l, K, rows, (REAL *)p->log_density + start * K);
    if (p->resp || p->log_likelihood || p->labels) {
        FN(posterior)(f->l, K, rows, p->resp != 0, p->log_likelihood ? (REAL *)p->log_likelihood + start : 0,
                      p->labels ? p->labels + start : 0);
        if (p->resp) FN(rows_out)(f->l, K, rows, (REAL *)p->resp + start * K);
    }
    if (!p->n) return;
    FN(row_weights)(w ? w + start : 0, rows, f->weight);
    FN(roots)(f->l, K, f->weight, f->h, f->root, likelihood);
    const intptr_t each = f->sums_size / K, width = f->vectors * L;
    for (intptr_t k = 0; k < K; k++) {
        REAL *sums = f->sums + k * each;
        switch (p->type) {
        case FM_FULL:
            if (FN(by_features)(f))
                FN(full_by_features)(f, X, rows, k, sums, sums + width * width, sums + width * width + width);
            else FN(full_by_rows)(f, k, sums);
            break;
        case FM_TIED: FN(first_sums)(f, k, sums, 0); break;
        case FM_DIAG: FN(diagonal_sums)(f, k, sums); break;
        default: FN(first_sums)(f, k, sums, 2 / (s[k] * s[k]));
        }
    }
}

static size_t FN(walk)(fm_mixture *p, intptr_t worker, intptr_t workers) {
    FN(mix) f;
    size_t bytes = FN(layout)(p, worker, workers, &f);
    if (!p->scratch) return bytes;
    uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(&p->call);
    if (p->n) memset(f.sums, 0, f.sums_size * sizeof(REAL));
    const intptr_t tiles = (p->N + p->rows - 1) / p->rows;
    const double work = (double)f.K * (double)ROWS * (2.0 * (double)f.D * (p->type == FM_FULL ? (double)f.D : 4.0) + 60);
    for (intptr_t tile; (tile = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < tiles;) {
        const intptr_t end = p->N < (tile + 1) * p->rows ? p->N : (tile + 1) * p->rows;
        double total = 0;
        for (intptr_t start = tile * p->rows; start < end; start += ROWS) {
            V likelihood = vset1(0);
            FN(block)(&f, start, end - start < ROWS ? end - start : ROWS, &likelihood);
            total += FN(lanes)(likelihood);
            if (fm_poll(&p->call, worker, work)) goto ended;
        }
        if (!p->n) continue;
        if (!fm_wait_for_slot(p, tile, f.nslots)) goto ended;
        FN(collect)(&f, total, f.slots + tile % f.nslots * f.slot_size);
        fm_merge(p, tile, f.slots, f.slot_size, f.done, f.nslots, FN(add_sums));
    }
ended:
    fm_restore(mode);
    return bytes;
}
