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
#undef TOGETHER

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
    intptr_t D, K, dims, vectors; /* dims: numbers of z; vectors: of a row's features */
    /* packed, all workers' */
    REAL *means;     /* (K, vectors * L), 0 beyond D; of "tied" behind them those of whitened rows */
    REAL *factors;   /* full, tied: triangles as `triangle` reads them; diag: (K, D) pairs of mean and 1/σ */
    REAL *constants; /* (K) */
    REAL *scales;    /* (K) spherical: 1/σ, whose square may be out of range; else 1 */
    REAL *centre;    /* tied: (D), what is taken from rows before they are whitened */
    size_t packed;
    /* a worker's own */
    REAL *xt;     /* (D + 1, PITCH), the last of them ones */
    REAL *yt;     /* tied: (D, PITCH), whitened rows */
    REAL *panel;  /* (max(D, dims), PITCH): distances use GROUPS vectors of each, statistics all */
    REAL *l;       /* (K, PITCH), in statistics then the roots h */
    REAL *squares; /* spherical: (K, PITCH), |x - mean|² */
    double *counts; /* tied: (K), n of a tile */
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
    case FM_DIAG: return K * (2 * D + 2) * L;
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
    *f = (FN(mix)){.p = p, .D = D, .K = K, .dims = D + 1, .vectors = (D + L - 1) / L};
    if (!FN(by_features)(f)) f->vectors = D / L + 1; /* one number more, the mean of the feature that is 1 */
    const int tied = p->type == FM_TIED;
    f->means = fm_take(&packed, (1 + tied) * K * f->vectors * L * sizeof(REAL));
    const intptr_t factors = p->type == FM_FULL ? K * FN(triangle_size)(D) : tied ? FN(triangle_size)(D) : 2 * K * D;
    f->factors = fm_take(&packed, factors * sizeof(REAL));
    f->constants = fm_take(&packed, K * sizeof(REAL));
    f->scales = fm_take(&packed, K * sizeof(REAL));
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
        mine.xt = fm_take(&arena, (D + 1) * PITCH * sizeof(REAL));
        mine.yt = tied ? fm_take(&arena, D * PITCH * sizeof(REAL)) : mine.xt;
        mine.panel = fm_take(&arena, (D + 8) * PITCH * sizeof(REAL) + PACKED_BYTES);
        mine.l = fm_take(&arena, K * PITCH * sizeof(REAL));
        mine.squares = statistics && p->type == FM_SPHERICAL ? fm_take(&arena, K * PITCH * sizeof(REAL)) : 0;
        mine.counts = statistics && tied ? fm_take(&arena, K * sizeof(double)) : 0;
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
    for (intptr_t k = 0; k < K; k++) f.scales[k] = p->type == FM_SPHERICAL ? factors[k] : 1;
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
            f.factors[2 * i] = means[i];
            f.factors[2 * i + 1] = factors[i];
        }
        break;
    default: break;
    }
    return f.packed;
}

/* -------------------------------------------------------------------------------------------------------- distances */

/* Outputs [j0, j0 + J) of (x - mean) U for the GROUPS vectors of rows that xt begins with: their squares are added to q,
 * or, where out is given, they are left there, PITCH apart. panel: x - mean, GROUPS vectors for each feature, of which those
 * before j0 are there and J more are added, so that their stores hide behind multiply-adds. */
INLINE const REAL *FN(triangle_body)(const int J, const REAL *xt, const REAL *mean, REAL *panel, const REAL *u, intptr_t j0,
                                     V *q, REAL *out) {
    V acc[OUTPUTS * GROUPS];
    UNROLL for (int i = 0; i < J * GROUPS; i++) acc[i] = vset1(0);
    for (intptr_t i = 0; i < j0; i++, panel += GROUPS * L, u += J) {
        V x[GROUPS];
        UNROLL for (int g = 0; g < GROUPS; g++) x[g] = vload(panel + g * L);
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            acc[j * GROUPS + g] = vfma(vset1(u[j]), x[g], acc[j * GROUPS + g]);
    }
    UNROLL for (int i = 0; i < J; i++) {
        V x[GROUPS], m = vset1(mean[j0 + i]);
        UNROLL for (int g = 0; g < GROUPS; g++) {
            x[g] = vload(xt + (j0 + i) * PITCH + g * L) - m;
            vstore(panel + g * L, x[g]);
        }
        UNROLL for (int j = i; j < J; j++, u++) UNROLL for (int g = 0; g < GROUPS; g++)
            acc[j * GROUPS + g] = vfma(vset1(*u), x[g], acc[j * GROUPS + g]);
        panel += GROUPS * L;
    }
    if (out) {
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            vstore(out + j * PITCH + g * L, acc[j * GROUPS + g]);
    } else {
        UNROLL for (int j = 0; j < J; j++) UNROLL for (int g = 0; g < GROUPS; g++)
            q[g] = vfma(acc[j * GROUPS + g], acc[j * GROUPS + g], q[g]);
    }
    return u;
}

typedef const REAL *FN(triangle)(const REAL *xt, const REAL *mean, REAL *panel, const REAL *u, intptr_t j0, V *q,
                                 REAL *out);

#define FM_DEFINE_TRIANGLE(J)                                                                                          \
    NOINLINE static const REAL *FN(triangle##J)(const REAL *xt, const REAL *mean, REAL *panel, const REAL *u,           \
                                                intptr_t j0, V *q, REAL *out) {                                        \
        return FN(triangle_body)(J, xt, mean, panel, u, j0, q, out);                                                   \
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
    for (intptr_t b = 0, j0 = 0, J; b < parts; b++, j0 += J) {
        J = fm_part(D, parts, b);
        u = FN(triangles)[J](xt, mean, f->panel, u, j0, q, out ? out + j0 * PITCH : 0);
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
            UNROLL for (int g = 0; g < GROUPS; g++) x[g] = vload(xt + i * PITCH + t + g * L) - m;
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

/* 1 and 2 for independent features, of all components: ((x - m) s)² by pairs (m, s), or (x - m)² times the square of a scale of
 * the component's own. (x s - m s is one operation less, but far from the origin it has lost what x and m share.) GROUPS vectors of rows stay in the first-level cache while the components pass by, two at a time. */
INLINE void FN(independent)(const int scaled, const FN(mix) * f, const REAL *xt, const REAL *means) {
    const intptr_t D = f->D, K = f->K, each = scaled ? 2 * D : f->vectors * L;
    for (intptr_t t = 0; t < ROWS; t += GROUPS * L)
        for (intptr_t k0 = 0; k0 < K; k0 += 2) {
            const intptr_t k1 = k0 + (k0 + 1 < K);
            const REAL *a = means + k0 * each, *b = means + k1 * each, *x = xt + t;
            V p[GROUPS], q[GROUPS];
            UNROLL for (int g = 0; g < GROUPS; g++) p[g] = q[g] = vset1(0);
            for (intptr_t d = 0; d < D; d++, x += PITCH, a += 1 + scaled, b += 1 + scaled)
                UNROLL for (int g = 0; g < GROUPS; g++) {
                    V xg = vload(x + g * L), y, z;
                    y = xg - vset1(a[0]);
                    z = xg - vset1(b[0]);
                    if (scaled) {
                        y *= vset1(a[1]);
                        z *= vset1(b[1]);
                    }
                    p[g] = vfma(y, y, p[g]);
                    q[g] = vfma(z, z, q[g]);
                }
            V c0 = vset1(f->constants[k0]), c1 = vset1(f->constants[k1]);
            V s0 = vset1(f->scales[k0]), s1 = vset1(f->scales[k1]);
            if (!scaled && f->squares) {
                UNROLL for (int g = 0; g < GROUPS; g++) {
                    vstore(f->squares + k0 * PITCH + t + g * L, p[g]);
                    vstore(f->squares + k1 * PITCH + t + g * L, q[g]);
                }
            }
            UNROLL for (int g = 0; g < GROUPS; g++) {
                vstore(f->l + k0 * PITCH + t + g * L, vfma(vset1((REAL)-0.5), p[g] * s0 * s0, c0));
                vstore(f->l + k1 * PITCH + t + g * L, vfma(vset1((REAL)-0.5), q[g] * s1 * s1, c1));
            }
        }
}

NOINLINE static void FN(scaled_distances)(const FN(mix) * f) { FN(independent)(1, f, f->xt, f->factors); }

NOINLINE static void FN(plain_distances)(const FN(mix) * f, const REAL *xt, const REAL *means) {
    FN(independent)(0, f, xt, means);
}

/* 1 and 2: l (K, PITCH) of the block in xt. */
static void FN(densities)(const FN(mix) * f) {
    const intptr_t D = f->D, K = f->K, width = f->vectors * L;
    switch (f->p->type) {
    case FM_TIED:
        for (intptr_t t = 0; t < ROWS; t += GROUPS * L) FN(whiten)(f, f->xt + t, f->centre, f->factors, 0, f->yt + t);
        FN(plain_distances)(f, f->yt, f->means + K * width);
        return;
    case FM_DIAG: FN(scaled_distances)(f); return;
    case FM_SPHERICAL: FN(plain_distances)(f, f->xt, f->means); return;
    default: break;
    }
    for (intptr_t k = 0; k < K; k++) {
        const REAL *mean = f->means + k * width, *u = f->factors + k * FN(triangle_size)(D);
        REAL *l = f->l + k * PITCH, constant = f->constants[k];
        if (D <= OUTPUTS) {
            FN(fews)[D](f->xt, mean, u, constant, l);
            continue;
        }
        for (intptr_t t = 0; t < ROWS; t += GROUPS * L) {
            V q[GROUPS];
            UNROLL for (int g = 0; g < GROUPS; g++) q[g] = vset1(0);
            FN(whiten)(f, f->xt + t, mean, u, q, 0);
            UNROLL for (int g = 0; g < GROUPS; g++)
                vstore(l + t + g * L, vfma(vset1((REAL)-0.5), q[g], vset1(constant)));
        }
    }
}

/* ------------------------------------------------------------------------------- statistics with lanes along the rows */

/* acc[i][j] += sum over the block's vectors of a_i b_j, P numbers by Q. */
INLINE void FN(piece_body)(const int P, const int Q, const REAL *a, const REAL *b, REAL *acc) {
    V sum[PIECE * PIECE];
    UNROLL for (int i = 0; i < P * Q; i++) sum[i] = vset1(0);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V x[PIECE];
        UNROLL for (int i = 0; i < P; i++) x[i] = vload(a + i * PITCH + t);
        UNROLL for (int j = 0; j < Q; j++) {
            V y = vload(b + j * PITCH + t);
            UNROLL for (int i = 0; i < P; i++) sum[i * Q + j] = vfma(x[i], y, sum[i * Q + j]);
        }
    }
    UNROLL for (int i = 0; i < P; i++) UNROLL for (int j = 0; j < Q; j++, acc += L)
        vstore(acc, vload(acc) + sum[i * Q + j]);
}

/* z = root (x - mean) of P numbers, and acc[i][j >= i] += sum over the block's vectors of z_i z_j: the stores hide behind
 * multiply-adds. */
INLINE void FN(same_body)(const int P, const REAL *xt, const REAL *mean, const REAL *root, REAL *z, REAL *acc) {
    V sum[PIECE * PIECE];
    UNROLL for (int i = 0; i < P * P; i++) sum[i] = vset1(0);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V y[PIECE], r = vload(root + t);
        UNROLL for (int j = 0; j < P; j++) {
            y[j] = r * (vload(xt + j * PITCH + t) - vset1(mean[j]));
            vstore(z + j * PITCH + t, y[j]);
            UNROLL for (int i = 0; i < P; i++)
                if (i <= j) sum[i * P + j] = vfma(y[i], y[j], sum[i * P + j]);
        }
    }
    UNROLL for (int i = 0; i < P; i++) UNROLL for (int j = i; j < P; j++, acc += L)
        vstore(acc, vload(acc) + sum[i * P + j]);
}

typedef void FN(piece)(const REAL *a, const REAL *b, REAL *acc);
typedef void FN(same)(const REAL *xt, const REAL *mean, const REAL *root, REAL *z, REAL *acc);

#define FM_DEFINE_PIECE(P, Q)                                                                                          \
    NOINLINE static void FN(piece##P##Q)(const REAL *a, const REAL *b, REAL *acc) { FN(piece_body)(P, Q, a, b, acc); }
#define FM_DEFINE_SAME(P)                                                                                              \
    NOINLINE static void FN(same##P)(const REAL *xt, const REAL *mean, const REAL *root, REAL *z, REAL *acc) {          \
        FN(same_body)(P, xt, mean, root, z, acc);                                                                      \
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
static FN(same) *const FN(sames)[PIECE + 1] = {0, 0, FN(same2), FN(same3), FN(same4), FN(same5)};
static FN(piece) *const FN(pieces)[PIECE + 1][PIECE + 1] = {
    [2] = {[2] = FN(piece22)},
    [3] = {[2] = FN(piece32), [3] = FN(piece33)},
    [4] = {[3] = FN(piece43), [4] = FN(piece44)},
    [5] = {[4] = FN(piece54), [5] = FN(piece55)},
};
#else
static FN(same) *const FN(sames)[PIECE + 1] = {0, 0, FN(same2), FN(same3)};
static FN(piece) *const FN(pieces)[PIECE + 1][PIECE + 1] = {
    [2] = {[2] = FN(piece22)},
    [3] = {[2] = FN(piece32), [3] = FN(piece33)},
};
#endif
#undef FM_DEFINE_PIECE
#undef FM_DEFINE_SAME

/* Walks pairs of parts (a <= b) of n numbers, each b with itself first: their first numbers i0, j0 and lengths P, Q. */
#define FM_EACH_PIECE(n, i0, P, j0, Q)                                                                                 \
    for (intptr_t parts = fm_parts(n, PIECE), b_ = 0, j0 = 0, Q = 0; b_ < parts && (Q = fm_part(n, parts, b_), 1);      \
         j0 += Q, b_++)                                                                                                \
        for (intptr_t a_ = b_, i0 = j0, P = Q; a_ >= 0; a_--, P = fm_part(n, parts, a_), i0 -= P)

/* 4 of one component of few features, its dims = D + 1 numbers in registers: all pairs' sums. */
INLINE void FN(small_body)(const int n, const REAL *xt, const REAL *mean, const REAL *h, const REAL *root, REAL *acc) {
    V sum[(FM_SMALL + 1) * (FM_SMALL + 1)];
    UNROLL for (int i = 0; i < n * n; i++) sum[i] = vset1(0);
    for (intptr_t t = 0; t < ROWS; t += L) {
        V z[FM_SMALL + 1], r = vload(h + t) * vload(root + t);
        UNROLL for (int i = 0; i < n; i++) {
            if (i == n - 1) z[i] = r;
            else z[i] = r * (vload(xt + i * PITCH + t) - vset1(mean[i]));
        }
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
    const REAL *mean = f->means + k * f->vectors * L, *h = f->l + k * PITCH;
    if (D <= FM_SMALL) {
        FN(smalls)[n](f->xt, mean, h, f->root, acc);
        return;
    }
    REAL *z = f->panel, *root = z + n * PITCH;
    for (intptr_t t = 0; t < ROWS; t += L) vstore(root + t, vload(h + t) * vload(f->root + t));
    FM_EACH_PIECE(n, i0, P, j0, Q) {
        if (i0 == j0) FN(sames)[P](f->xt + i0 * PITCH, mean + i0, root, z + i0 * PITCH, acc);
        else FN(pieces)[P][Q](z + i0 * PITCH, z + j0 * PITCH, acc);
        acc += (i0 == j0 ? P * (P + 1) / 2 : P * Q) * L;
    }
}

/* 4 for independent features, components [k, k + TOGETHER(squares)) at once, so that a row's numbers are read once for all
 * of them and sums need not wait for themselves: of each component n, of "spherical" |x - mean|², then of each feature
 * first and, for squares, second. */
#define TOGETHER(squares) (GROUPS == 4 && !(squares) ? 8 : 4)

INLINE void FN(independent_sums)(const int squares, const FN(mix) * f, intptr_t k) {
    const intptr_t D = f->D, each = f->sums_size / f->K, width = f->vectors * L;
    const int C = TOGETHER(squares), count = f->K - k < C ? (int)(f->K - k) : C;
    REAL *r = f->panel, *acc = f->sums + k * each;
    for (int i = 0; i < count; i++) {
        const REAL *h = f->l + (k + i) * PITCH, *square = f->squares + (k + i) * PITCH;
        V n = vset1(0), distance = vset1(0);
        for (intptr_t t = 0; t < ROWS; t += L) {
            V z = vload(h + t) * vload(f->root + t), rt = z * z;
            n += rt;
            vstore(r + i * PITCH + t, rt);
            if (!squares && f->squares) {
                /* a row that is none of the component's may be infinitely far from it */
                V part = rt * vload(square + t);
                distance += (V)((INT)part & (INT)(rt != vset1(0)));
            }
        }
        REAL *to = acc + i * each;
        vstore(to, vload(to) + n);
        vstore(to + L, vload(to + L) + distance);
    }
    for (int i = count; i < C; i++) memset(r + i * PITCH, 0, ROWS * sizeof(REAL));
    for (intptr_t d = 0; d < D; d++) {
        V m[8], s1[8], s2[4];
        const REAL *x = f->xt + d * PITCH;
        UNROLL for (int i = 0; i < C; i++) {
            m[i] = vset1(f->means[(k + (i < count ? i : 0)) * width + d]);
            s1[i] = vset1(0);
            if (squares) s2[i] = vset1(0);
        }
        for (intptr_t t = 0; t < ROWS; t += L) {
            V xt = vload(x + t);
            UNROLL for (int i = 0; i < C; i++) {
                V rt = vload(r + i * PITCH + t), w = xt - m[i];
                if (squares) {
                    V rw = rt * w;
                    s1[i] += rw;
                    s2[i] = vfma(rw, w, s2[i]);
                } else {
                    s1[i] = vfma(rt, w, s1[i]);
                }
            }
        }
        UNROLL for (int i = 0; i < C; i++) {
            if (i >= count) break;
            REAL *to = acc + i * each + (2 + (1 + squares) * d) * L;
            vstore(to, vload(to) + s1[i]);
            if (squares) vstore(to + L, vload(to + L) + s2[i]);
        }
    }
}

/* n of a block of "tied", in float64 and of rows whose responsibilities sum to their weight in float64: its covariance is a
 * difference, and what a row's sum is off by is multiplied by the square of the distance between components. h is (K, PITCH). */
NOINLINE static void FN(exact_counts)(const FN(mix) * f) {
    double all[ROWS];
    for (intptr_t t = 0; t < ROWS; t++) all[t] = 0;
    for (intptr_t k = 0; k < f->K; k++)
        for (intptr_t t = 0; t < ROWS; t++) {
            const double z = (double)(f->l[k * PITCH + t] * f->root[t]);
            all[t] += z * z;
        }
    for (intptr_t t = 0; t < ROWS; t++) all[t] = all[t] == 0 ? 0 : (double)f->weight[t] / all[t];
    for (intptr_t k = 0; k < f->K; k++) {
        double sums[16] = {0};
        for (intptr_t t = 0; t < ROWS; t += 16)
            for (int i = 0; i < 16; i++) {
                const double z = (double)(f->l[k * PITCH + t + i] * f->root[t + i]);
                sums[i] += z * z * all[t + i];
            }
        for (int i = 0; i < 16; i++) f->counts[k] += sums[i];
    }
}

NOINLINE static void FN(diagonal_sums)(const FN(mix) * f, intptr_t k) { FN(independent_sums)(1, f, k); }

NOINLINE static void FN(first_sums)(const FN(mix) * f, intptr_t k) { FN(independent_sums)(0, f, k); }

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

/* Row d, of L / 2 + 1, of to += sum over rows of z times z rotated by d lanes: every pair of L numbers once, those L / 2 apart
 * twice, in little more than half the multiply-adds of an L x L product. */
NOINLINE static void FN(rotated)(const REAL *z, intptr_t rows, intptr_t width, REAL *to) {
    V acc[L / 2 + 1];
    UNROLL for (int d = 0; d <= L / 2; d++) acc[d] = vset1(0);
    for (intptr_t n = 0; n < rows; n++, z += width) {
        V x = vload(z);
        UNROLL for (int d = 0; d <= L / 2; d++) acc[d] = vfma(x, FN(rotate)(x, d), acc[d]);
    }
    UNROLL for (int d = 0; d <= L / 2; d++) vstore(to + d * width, vload(to + d * width) + acc[d]);
}

/* z[i] = root_i (x_i - mean), one vector of each of `count` rows; returns Σ root z. Four sums: one would wait for itself. */
INLINE V FN(scale_rows)(const int whole, intptr_t left, const REAL *const *from, intptr_t offset, const REAL *roots, V mean,
                        intptr_t count, intptr_t width, REAL *z) {
    V sum[4];
    UNROLL for (int u = 0; u < 4; u++) sum[u] = vset1(0);
    for (intptr_t i = 0; i < count; i += 4)
        UNROLL for (int u = 0; u < 4; u++) {
            if (i + u >= count) break;
            V r = vset1(roots[i + u]), x;
            if (whole) x = vload(from[i + u] + offset);
            else x = vloadn(from[i + u] + offset, left);
            x = r * (x - mean);
            sum[u] = vfma(r, x, sum[u]);
            vstore(z + (i + u) * width, x);
        }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* 4 of one component: second (width, width), of which the blocks above the diagonal, and those on it as `rotated` leaves
 * them, then first (width) and n (L), of the rows whose root is not 0. */
static void FN(full_by_features)(const FN(mix) * f, const REAL *X, intptr_t rows, intptr_t k, REAL *second) {
    const intptr_t D = f->D, width = f->vectors * L, fit = PACKED_BYTES / (width * (intptr_t)sizeof(REAL));
    const intptr_t most = fit < 32 ? 32 : fit > ROWS ? ROWS : fit;
    const REAL *mean = f->means + k * width, *h = f->l + k * PITCH;
    const REAL *from[ROWS];
    REAL roots[ROWS], *z = f->panel, *first = second + width * width, *n = first + width;
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
            const intptr_t left = D - v * L;
            V m = vload(mean + v * L), sum;
            if (left >= L) sum = FN(scale_rows)(1, L, from + start, v * L, roots + start, m, count, width, z + v * L);
            else sum = FN(scale_rows)(0, left, from + start, v * L, roots + start, m, count, width, z + v * L);
            vstore(first + v * L, vload(first + v * L) + sum);
        }
        for (intptr_t v = 0; v < f->vectors; v++) FN(rotated)(z + v * L, count, width, second + v * L * (width + 1));
        for (intptr_t i = 0; i + L < width; i += HEIGHT)
            for (intptr_t v = i / L + 1, nv; v < f->vectors; v += nv) {
                nv = fm_part(f->vectors - v, fm_parts(f->vectors - v, 3), 0);
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
                for (intptr_t j = i; j < D; j++) {
                    const intptr_t block = i / L * L, turn = j - i;
                    intptr_t at = i * width + j;
                    if (j < block + L) at = turn <= L / 2 ? (block + turn) * width + i : (block + L - turn) * width + j;
                    *second++ = (double)from[at];
                }
            for (intptr_t d = 0; d < D; d++) first[k * D + d] = (double)from[width * width + d];
            n[k] = FN(lanes)(vload(from + width * width + width));
        }
    } else {
        const intptr_t count = f->sums_size / L / K;
        double *sums = (double *)f->panel; /* (D + 1) * ROWS reals hold (D + 1)(D + 2) / 2 doubles while D <= FM_FEW, 2 D + 2 always */
        for (intptr_t k = 0; k < K; k++, from += count * L) {
            FN(lane_sums)(from, count, sums);
            if (f->p->type == FM_FULL) {
                const double *sum = sums;
                double *at = second + k * FN(triangle_size)(D);
                FM_EACH_PIECE(f->dims, i0, P, j0, Q) {
                    if (D <= FM_SMALL) P = Q = f->dims, a_ = 0, b_ = parts; /* one piece, larger than others: the walk ends */
                    for (intptr_t i = i0; i < i0 + P; i++)
                        for (intptr_t j = i0 == j0 ? i : j0; j < j0 + Q; j++, sum++) {
                            if (j < D) at[i * D - i * (i - 1) / 2 + j - i] = *sum;
                            else if (i < D) first[k * D + i] = *sum;
                            else n[k] = *sum;
                        }
                }
            } else {
                const int squares = f->p->type == FM_DIAG;
                n[k] = f->counts ? f->counts[k] : sums[0];
                for (intptr_t d = 0; d < D; d++) {
                    first[k * D + d] = sums[2 + (1 + squares) * d];
                    if (squares) second[k * D + d] = sums[3 + 2 * d];
                }
                if (f->p->type == FM_SPHERICAL) second[k] = sums[1];
            }
        }
    }
    memset(f->sums, 0, f->sums_size * sizeof(REAL));
    if (f->counts) memset(f->counts, 0, K * sizeof(double));
}

/* Rows [start, start + rows) of the data, at most ROWS of them. */
static void FN(block)(const FN(mix) * f, intptr_t start, intptr_t rows, V *likelihood) {
    fm_mixture *p = f->p;
    const intptr_t D = f->D, K = f->K;
    const REAL *X = (const REAL *)p->X + start * D, *w = p->sample_weight;
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
    FN(roots)(f->l, K, f->weight, f->l, f->root, likelihood);
    const intptr_t each = f->sums_size / K;
    if (f->counts) FN(exact_counts)(f);
    if (p->type == FM_FULL)
        for (intptr_t k = 0; k < K; k++) {
            if (FN(by_features)(f)) FN(full_by_features)(f, X, rows, k, f->sums + k * each);
            else FN(full_by_rows)(f, k, f->sums + k * each);
        }
    else
        for (intptr_t k = 0; k < K; k += TOGETHER(p->type == FM_DIAG)) {
            if (p->type == FM_DIAG) FN(diagonal_sums)(f, k);
            else FN(first_sums)(f, k);
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
    if (f.counts) memset(f.counts, 0, f.K * sizeof(double));
    for (intptr_t t = 0; t < ROWS; t++) f.xt[f.D * PITCH + t] = 1;
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
        if (!fm_wait_for_slot(p, worker, tile, f.nslots)) goto ended;
        FN(collect)(&f, total, f.slots + tile % f.nslots * f.slot_size);
        fm_merge(p, tile, f.slots, f.slot_size, f.done, f.nslots, FN(add_sums));
    }
ended:
    fm_restore(mode);
    return bytes;
}
