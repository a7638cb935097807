/* Softmax with cross-entropy; the steps' numbers are reference/softmax.py's.
 *
 * Of a linear layer, a block of ROWS rows at a time, all classes of them: class v of the block's rows is l + v * pitch,
 * with its lanes along the rows. So W is read as it lies (the broadcast factor of 1), sums over classes need no shuffles,
 * and rows that share a vector share no number: what a row gives does not depend on its company. l becomes dl in place,
 * and is the broadcast factor of both products of 5.
 *
 * Many rows are cut into PARTS, by their number and the shape of W alone: workers take them one by one, and dW and db are
 * the sums over parts, in their order. Of fewer rows, or where so many dW would take too much memory, all workers share out
 * the rows of a block for 1 to 4 and dx, meet, share out the classes for dW and db, which are sums over blocks in their
 * order, and meet again. So bits do not depend on the number of workers. (Tried: blocks alone. On two cores that 14 other
 * processes wanted, (16000,256,256) ran at 0.54 of a matrix product's speed, with parts at 0.90: a worker without a core
 * held the other twice a block.)
 *
 * Classes go through 1, and through 4 and 5, CLASSES at a time, so that what is read of W, of packed and of l stays in
 * the second-level cache for all rows of the block. Scratch, whatever N is: W once more; 17 vectors for each class, of
 * parts for each worker; and the parts, which with 16 workers' vectors are 64 MB at most.
 *
 * Measured (Zen 4, one thread, AVX-512, float32, (16000,256,256)): 103 GFLOP/s, where OpenBLAS's product of 2048 reaches
 * 102 and the peak is 118; the tiles take 88 % of the time.
 */

#include "vec.h"

#include "act.h"

#include "posterior.h"

#include "tile.h"

#undef CLASSES
#undef PARTS

#define CLASSES 256
#define PARTS 16 /* of many rows; a power of two is shared out evenly among 2, 4, 8 workers */

/* ------------------------------------------------------------------------------------------------------ of logits */

/* The sum, or the largest, of a vector's lanes, in every lane. */
INLINE V FN(sum_lanes)(V v) {
    UNROLL for (int d = L / 2; d > 0; d /= 2) v += FN(rotate)(v, d);
    return v;
}
INLINE V FN(most_lanes)(V v) {
    UNROLL for (int d = L / 2; d > 0; d /= 2) v = vmax(v, FN(rotate)(v, d));
    return v;
}

/* The last n numbers of a row; -inf beyond, which adds nothing. */
INLINE V FN(logits_tail)(const REAL *p, intptr_t n) {
#define LANE(l) l
    const INT there = (INT){LANES(LANE)} < vbits(n);
#undef LANE
    return (V)(((INT)vloadn(p, n) & there) | ((INT)vset1((REAL)-__builtin_inf()) & ~there));
}

/* 2 to 4 of one row, whose exponentials go to e, but for the logarithm: *total is what it is of, *loss what is
 * subtracted from it. */
INLINE void FN(row)(const REAL *l, intptr_t classes, intptr_t target, REAL scale, REAL *e, int wanted, REAL *total,
                    REAL *loss) {
    const intptr_t whole = classes / L * L, left = classes - whole;
    const V tail = left ? FN(logits_tail)(l + whole, left) : vset1((REAL)-__builtin_inf());
    V m[4] = {tail, tail, tail, tail};
    intptr_t v = 0;
    for (; v + 4 * L <= whole; v += 4 * L)
        UNROLL for (int i = 0; i < 4; i++) m[i] = vmax(m[i], vload(l + v + i * L));
    for (; v < whole; v += L) m[0] = vmax(m[0], vload(l + v));
    const V most = FN(most_lanes)(vmax(vmax(m[0], m[1]), vmax(m[2], m[3])));
    const REAL chosen = l[target] - most[0];
    V sum = vset1(0);
    for (v = 0; v < whole;) { /* short chains first: of 50,000 float32 added one by one the last digits were lost */
        const intptr_t end = whole - v > CLASSES * L ? v + CLASSES * L : whole;
        V part[2] = {vset1(0), vset1(0)};
        for (; v + 2 * L <= end; v += 2 * L) UNROLL for (int i = 0; i < 2; i++) {
            V p = FN(exp)(vload(l + v + i * L) - most);
            part[i] += p;
            if (wanted) vstore(e + v + i * L, p);
        }
        for (; v < end; v += L) {
            V p = FN(exp)(vload(l + v) - most);
            part[0] += p;
            if (wanted) vstore(e + v, p);
        }
        sum += part[0] + part[1];
    }
    const V last = left ? FN(exp)(tail - most) : vset1(0);
    sum = FN(sum_lanes)(sum + last);
    *total = sum[0];
    *loss = chosen;
    if (!wanted) return;
    const V f = vset1(scale) / sum;
    for (v = 0; v < whole; v += L) vstore(e + v, vload(e + v) * f);
    if (left) FN(store_tail)(e + whole, last * f, left);
    e[target] -= scale;
}

static size_t FN(cross_entropy)(fm_softmax *p, intptr_t worker, intptr_t workers) {
    if (!p->scratch) return 1;
    const uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(&p->call);
    const intptr_t classes = p->classes, vectors = (1 << 15) / (classes * L), piece = vectors > 1 ? vectors * L : L;
    const REAL *logits = p->logits;
    REAL *dlogits = p->dlogits, *loss = p->loss;
    for (intptr_t start; !fm_stopped(&p->call) && (start = __atomic_fetch_add(&p->next, piece, __ATOMIC_RELAXED)) < p->N;) {
        const intptr_t to = p->N - start < piece ? p->N : start + piece;
        for (intptr_t n = start; n < to; n += L) {
            REAL total[L], chosen[L];
            const intptr_t rows = to - n < L ? to - n : L;
            for (intptr_t i = 0; i < L; i++) {
                const intptr_t target = i < rows ? p->target[n + i] : -1, at = (n + i) * classes;
                total[i] = 1, chosen[i] = 0;
                if (target >= 0)
                    FN(row)(logits + at, classes, target, (REAL)p->scale, dlogits ? dlogits + at : 0, dlogits != 0, total + i,
                            chosen + i);
                else if (i < rows && dlogits)
                    memset(dlogits + at, 0, classes * sizeof(REAL));
                if (fm_poll(&p->call, worker, FM_MOVED * classes)) break;
            }
            FN(store_tail)(loss + n, FN(log)(vload(total)) - vload(chosen), rows); /* 3 */
        }
    }
    fm_restore(mode);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------ of a linear layer */

typedef struct FN(readout) {
    fm_softmax *p;
    intptr_t worker, workers, classes, H, ldh, pitch;
    intptr_t member, members; /* of the team that shares out a block: this worker alone, or all */
    intptr_t parts, part; /* parts of the rows, and rows of one */
    intptr_t packing; /* classes of W that are packed for dx: all of them, or for a single block of rows those at hand */
    REAL *packed;     /* groups of columns, [packing][NV][L]; for a single block of rows each worker has its own */
    REAL *sums;       /* with more than one part: (parts, V * (H + 1)), their dW and db */
    /* the team's */
    REAL *l;      /* (V, pitch) */
    REAL *x;      /* groups of columns of x for dW, [ROWS][NV][L] */
    REAL *turned; /* groups of rows of x for 1, [H][NV][L], each at the place of its first row; then dx (ROWS, ldh) */
    REAL *most, *sum, *factor; /* (ROWS) */
} FN(readout);

static size_t FN(layout)(fm_softmax *p, intptr_t worker, intptr_t workers, FN(readout) * f) {
    fm_arena arena = {p->scratch, 0};
    const intptr_t classes = p->classes, H = p->H, width = (H + L - 1) / L * L;
    *f = (FN(readout)){.p = p, .worker = worker, .workers = workers, .classes = classes, .H = H, .ldh = width + L};
    const intptr_t blocks = (p->N + ROWS - 1) / ROWS;
    f->parts = blocks > 2 * PARTS && PARTS * classes * (H + PITCH) * (intptr_t)sizeof(REAL) <= 64 << 20 ? PARTS : 1;
    f->part = (blocks + f->parts - 1) / f->parts * ROWS;
    f->parts = p->N > 0 ? (p->N + f->part - 1) / f->part : 1;
    f->member = f->parts > 1 ? 0 : worker;
    f->members = f->parts > 1 ? 1 : workers;
    f->packing = p->N > ROWS || classes < CLASSES ? classes : CLASSES;
    f->pitch = p->N >= ROWS ? PITCH : (p->N + L - 1) / L * L + L;
    for (intptr_t w = 0; w < (p->N > ROWS ? 1 : workers) && p->dx; w++) {
        REAL *packed = fm_take(&arena, f->packing * width * sizeof(REAL));
        if (w == 0 || w == worker) f->packed = packed;
    }
    f->sums = f->parts > 1 && p->dx ? fm_take(&arena, f->parts * classes * (H + 1) * sizeof(REAL)) : 0;
    FN(readout) mine = *f;
    for (intptr_t w = 0; w < (f->parts > 1 ? workers : 1); w++) {
        mine.l = fm_take(&arena, classes * f->pitch * sizeof(REAL));
        mine.x = p->dx ? fm_take(&arena, ROWS * width * sizeof(REAL)) : 0;
        mine.turned = fm_take(&arena, ROWS * f->ldh * sizeof(REAL));
        mine.most = fm_take(&arena, ROWS * sizeof(REAL));
        mine.sum = fm_take(&arena, ROWS * sizeof(REAL));
        mine.factor = fm_take(&arena, ROWS * sizeof(REAL));
        if (w == 0 || w == worker) *f = mine;
    }
    return arena.used;
}

/* A row of H numbers in groups of columns, `stride` rows apart; zeros fill the last vector. */
INLINE void FN(row_in)(const REAL *from, intptr_t H, REAL *to, intptr_t r, intptr_t stride) {
    const intptr_t vectors = (H + L - 1) / L;
    for (intptr_t h = 0, nv; h < vectors; h += nv) {
        nv = GROUP(vectors - h);
        for (intptr_t i = 0; i < nv; i++)
            vstore(to + (h * stride + r * nv + i) * L, FN(load_tail)(from + (h + i) * L, H - (h + i) * L));
    }
}

/* Packs classes [from, to) of W for dx, the first of them at row `at`. */
static void FN(pack)(const FN(readout) * f, intptr_t from, intptr_t to, intptr_t at) {
    for (intptr_t v = from; v < to; v++) {
        FN(row_in)((const REAL *)f->p->weight + v * f->H, f->H, f->packed, at + v - from, f->packing);
        if (fm_poll(&f->p->call, f->worker, FM_MOVED * f->H)) return;
    }
}

/* Rows of x, vectors [from, to) of the block of `rows` rows that begins at row number `block`: as groups of rows, and of
 * columns. Rows beyond the last repeat it. */
static void FN(gather)(const FN(readout) * f, intptr_t block, intptr_t rows, intptr_t from, intptr_t to) {
    const intptr_t H = f->H;
    const REAL *x = f->p->x;
    for (intptr_t j = from, nv; j < to; j += nv) {
        nv = GROUP(to - j);
        for (intptr_t i = 0; i < nv; i++) {
            const REAL *row[L];
            for (intptr_t l = 0; l < L; l++) {
                const intptr_t r = (j + i) * L + l;
                row[l] = x + f->p->rows[block + (r < rows ? r : rows - 1)] * H;
                if (f->x) FN(row_in)(row[l], H, f->x, r, ROWS);
            }
            REAL *out = f->turned + j * L * f->ldh + i * L;
            intptr_t h = 0;
            for (; h + L <= H; h += L) {
                V part[L];
                UNROLL for (int l = 0; l < L; l++) part[l] = vload(row[l] + h);
                FN(transpose)(part);
                UNROLL for (int l = 0; l < L; l++) vstore(out + (h + l) * nv * L, part[l]);
            }
            for (; h < H; h++)
                for (intptr_t l = 0; l < L; l++) out[h * nv * L + l] = row[l][h];
        }
        if (fm_poll(&f->p->call, f->worker, FM_MOVED * nv * L * H)) return;
    }
}

/* ---- what happens to NV vectors of rows, classes [v, end): l + v * pitch is theirs */

/* Adds the bias, and finds the largest. NaN may hide here: it comes back with the sum of exponentials. */
INLINE void FN(bias_body)(const int NV, REAL *l, intptr_t pitch, const REAL *bias, intptr_t v, intptr_t end, REAL *most) {
    V m[NV];
    UNROLL for (int i = 0; i < NV; i++) m[i] = vload(most + i * L);
    for (; v < end; v++) {
        const V b = vset1(bias[v]);
        UNROLL for (int i = 0; i < NV; i++) {
            const V x = vload(l + v * pitch + i * L) + b;
            m[i] = vmax(m[i], x);
            vstore(l + v * pitch + i * L, x);
        }
    }
    UNROLL for (int i = 0; i < NV; i++) vstore(most + i * L, m[i]);
}

INLINE void FN(exp_body)(const int NV, REAL *l, intptr_t pitch, intptr_t v, intptr_t end, const REAL *most, REAL *sum) {
    V m[NV], s[NV];
    UNROLL for (int i = 0; i < NV; i++) m[i] = vload(most + i * L), s[i] = vset1(0);
    for (; v < end; v++) UNROLL for (int i = 0; i < NV; i++) {
        const V e = FN(exp)(vload(l + v * pitch + i * L) - m[i]);
        s[i] += e;
        vstore(l + v * pitch + i * L, e);
    }
    UNROLL for (int i = 0; i < NV; i++) vstore(sum + i * L, vload(sum + i * L) + s[i]); /* short chains lose less */
}

INLINE void FN(scale_body)(const int NV, REAL *l, intptr_t pitch, intptr_t v, intptr_t end, const REAL *factor) {
    V f[NV];
    UNROLL for (int i = 0; i < NV; i++) f[i] = vload(factor + i * L);
    for (; v < end; v++)
        UNROLL for (int i = 0; i < NV; i++) vstore(l + v * pitch + i * L, vload(l + v * pitch + i * L) * f[i]);
}

#undef FM_BY_WIDTH
#define FM_BY_WIDTH(nv, body, ...)                                                                                     \
    switch (nv) {                                                                                                      \
    case 4: FN(body)(4, __VA_ARGS__); break;                                                                           \
    case 2: FN(body)(2, __VA_ARGS__); break;                                                                           \
    default: FN(body)(1, __VA_ARGS__);                                                                                 \
    }

NOINLINE static void FN(add_bias)(intptr_t nv, REAL *l, intptr_t pitch, const REAL *bias, intptr_t v, intptr_t end,
                                  REAL *most) {
    FM_BY_WIDTH(nv, bias_body, l, pitch, bias, v, end, most)
}
NOINLINE static void FN(exponentials)(intptr_t nv, REAL *l, intptr_t pitch, intptr_t v, intptr_t end, const REAL *most,
                                      REAL *sum) {
    FM_BY_WIDTH(nv, exp_body, l, pitch, v, end, most, sum)
}
NOINLINE static void FN(scaled)(intptr_t nv, REAL *l, intptr_t pitch, intptr_t v, intptr_t end, const REAL *factor) {
    FM_BY_WIDTH(nv, scale_body, l, pitch, v, end, factor)
}

/* 1 to 3 of vectors [from, to). */
static void FN(losses)(const FN(readout) * f, intptr_t block, intptr_t rows, intptr_t from, intptr_t to) {
    fm_softmax *p = f->p;
    const intptr_t classes = f->classes, H = f->H, pitch = f->pitch;
    const REAL *w = p->weight;
    for (intptr_t i = from * L; i < to * L; i++) f->most[i] = (REAL)-__builtin_inf(), f->sum[i] = 0;
    for (intptr_t c = 0, end; c < classes; c = end) {
        end = c + FN(height)(classes - c, CLASSES);
        for (intptr_t j = from, nv; j < to; j += nv) {
            nv = GROUP(to - j);
            REAL *l = f->l + j * L;
            FM_EACH_TILE(c, end, ROWS_MAX(nv), v, m)
                FN(tiles)[nv][m](0, 0, w + v * H, H, 1, f->turned + j * L * f->ldh, 0, nv * L, H, l + v * pitch, pitch);
            FN(add_bias)(nv, l, pitch, p->bias, c, end, f->most + j * L);
            if (fm_poll(&p->call, f->worker, 2.0 * (end - c) * H * nv * L)) return;
        }
    }
    REAL *chosen = f->factor;
    for (intptr_t r = from * L; r < to * L; r++) {
        const intptr_t target = r < rows ? p->target[p->rows[block + r]] : 0;
        chosen[r] = f->l[target * pitch + r] - f->most[r];
    }
    for (intptr_t c = 0, end; c < classes; c = end) {
        end = c + FN(height)(classes - c, CLASSES);
        for (intptr_t j = from, nv; j < to; j += nv) {
            nv = GROUP(to - j);
            FN(exponentials)(nv, f->l + j * L, pitch, c, end, f->most + j * L, f->sum + j * L);
            if (fm_poll(&p->call, f->worker, FM_MOVED * (end - c) * nv * L)) return;
        }
    }
    for (intptr_t j = from; j < to; j++) {
        const V sum = vload(f->sum + j * L);
        REAL loss[L];
        vstore(loss, FN(log)(sum) - vload(chosen + j * L)); /* 3 */
        for (intptr_t l = 0; l < L && j * L + l < rows; l++) ((REAL *)p->loss)[p->rows[block + j * L + l]] = loss[l];
        vstore(f->factor + j * L, vset1((REAL)p->scale) / sum);
    }
}

/* 4, and dx of 5, of vectors [from, to). */
static void FN(row_gradients)(const FN(readout) * f, intptr_t block, intptr_t rows, intptr_t from, intptr_t to) {
    fm_softmax *p = f->p;
    const intptr_t classes = f->classes, H = f->H, pitch = f->pitch, vectors = (H + L - 1) / L;
    const intptr_t first = from * L, last = to * L < rows ? to * L : rows;
    REAL *dx = f->turned;
    for (intptr_t c = 0, end; c < classes; c = end) {
        end = c + FN(height)(classes - c, CLASSES);
        for (intptr_t j = from, nv; j < to; j += nv) {
            nv = GROUP(to - j);
            FN(scaled)(nv, f->l + j * L, pitch, c, end, f->factor + j * L);
        }
        for (intptr_t r = first; r < last; r++) {
            const intptr_t target = p->target[p->rows[block + r]];
            if (c <= target && target < end) f->l[target * pitch + r] -= (REAL)p->scale;
        }
        const intptr_t at = p->N > ROWS ? c : 0;
        if (p->N <= ROWS) FN(pack)(f, c, end, at);
        for (intptr_t h = 0, nv; h < vectors; h += nv) {
            nv = GROUP(vectors - h);
            FM_EACH_TILE(first, last, ROWS_MAX(nv), r, m) {
                REAL *out = dx + r * f->ldh + h * L;
                FN(tiles)[nv][m](c ? out : 0, f->ldh, f->l + c * pitch + r, 1, pitch,
                                 f->packed + (h * f->packing + at * nv) * L, 0, nv * L, end - c, out, f->ldh);
            }
            if (fm_poll(&p->call, f->worker, 2.0 * (end - c) * (last - first) * nv * L)) return;
        }
    }
    for (intptr_t r = first; r < last; r++)
        memcpy((REAL *)p->dx + p->rows[block + r] * H, dx + r * f->ldh, H * sizeof(REAL));
}

/* to += v, or to = v if this is the first; the last n numbers of a row. */
INLINE void FN(add_to)(REAL *to, V v, intptr_t n, int first) {
    if (!first) v += FN(load_tail)(to, n);
    FN(store_tail)(to, v, n);
}

/* dW and db of 5, this member's classes; the first block writes them. */
static void FN(class_gradients)(const FN(readout) * f, intptr_t rows, int first, REAL *dw, REAL *db) {
    fm_softmax *p = f->p;
    const intptr_t H = f->H, pitch = f->pitch, vectors = (H + L - 1) / L;
    const intptr_t last = fm_share(f->classes, f->member + 1, f->members);
    FN(sums) sums;
    for (intptr_t c = fm_share(f->classes, f->member, f->members), end; c < last; c = end) {
        end = c + FN(height)(last - c, CLASSES);
        for (intptr_t h = 0, nv; h < vectors; h += nv) {
            nv = GROUP(vectors - h);
            FM_EACH_TILE(c, end, ROWS_MAX(nv), v, m) {
                FN(tiles)[nv][m](0, 0, f->l + v * pitch, pitch, 1, f->x + h * ROWS * L, 0, nv * L, rows, (REAL *)sums.v,
                                 nv * L);
                const V *sum = sums.v;
                for (intptr_t i = v; i < v + m; i++)
                    for (intptr_t n = h * L; n < (h + nv) * L; n += L)
                        FN(add_to)(dw + i * H + n, *sum++, H - n, first);
            }
            if (fm_poll(&p->call, f->worker, 2.0 * (end - c) * rows * nv * L)) return;
        }
        for (intptr_t v = c; v < end; v += L) {
            const intptr_t left = end - v;
            V part[L];
            for (intptr_t i = 0; i < L; i++) {
                part[i] = vset1(0);
                for (intptr_t n = 0; n < rows && i < left; n += L)
                    part[i] += FN(load_tail)(f->l + (v + i) * pitch + n, rows - n);
            }
            FN(transpose)(part);
            for (int i = 1; i < L; i++) part[0] += part[i];
            FN(add_to)(db + v, part[0], left, first);
        }
    }
}

/* Part `part` of the rows, a block after the other; its sums go to dw and db. */
static void FN(rows_of)(const FN(readout) * f, intptr_t part, REAL *dw, REAL *db) {
    fm_softmax *p = f->p;
    const intptr_t start = part * f->part, stop = p->N - start < f->part ? p->N : start + f->part;
    for (intptr_t block = start; block < stop && !fm_stopped(&p->call); block += ROWS) {
        const intptr_t rows = stop - block < ROWS ? stop - block : ROWS, vectors = (rows + L - 1) / L;
        const intptr_t from = fm_share(vectors, f->member, f->members), to = fm_share(vectors, f->member + 1, f->members);
        if (rows < ROWS && !p->dx) fm_meet(&p->call, f->members); /* the last block's shares are others' before it */
        FN(gather)(f, block, rows, from, to);
        FN(losses)(f, block, rows, from, to);
        if (!p->dx) continue;
        FN(row_gradients)(f, block, rows, from, to);
        fm_meet(&p->call, f->members);
        FN(class_gradients)(f, rows, block == start, dw, db);
        fm_meet(&p->call, f->members);
    }
}

/* out = the sum over parts, in their order, of n numbers each; this worker's share. */
static void FN(add_parts)(const FN(readout) * f, const REAL *from, intptr_t n, REAL *out) {
    const intptr_t vectors = (n + L - 1) / L, each = f->classes * (f->H + 1);
    for (intptr_t v = fm_share(vectors, f->worker, f->workers); v < fm_share(vectors, f->worker + 1, f->workers); v++) {
        V sum = FN(load_tail)(from + v * L, n - v * L);
        for (intptr_t i = 1; i < f->parts; i++) sum += FN(load_tail)(from + i * each + v * L, n - v * L);
        FN(store_tail)(out + v * L, sum, n - v * L);
    }
}

static size_t FN(linear)(fm_softmax *p, intptr_t worker, intptr_t workers) {
    FN(readout) f;
    const size_t bytes = FN(layout)(p, worker, workers, &f);
    if (!p->scratch) return bytes;
    const uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(&p->call);
    if (p->dx && p->N > ROWS) {
        const intptr_t first = fm_share(p->classes, worker, workers);
        FN(pack)(&f, first, fm_share(p->classes, worker + 1, workers), first);
        fm_meet(&p->call, workers);
    }
    const intptr_t numbers = p->classes * f.H, each = numbers + p->classes;
    if (f.parts == 1)
        FN(rows_of)(&f, 0, p->dweight, p->dbias);
    else
        for (intptr_t i; (i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < f.parts;) {
            REAL *dw = f.sums ? f.sums + i * each : 0;
            FN(rows_of)(&f, i, dw, dw ? dw + numbers : 0);
        }
    if (f.sums) {
        fm_meet(&p->call, workers);
        FN(add_parts)(&f, f.sums, numbers, p->dweight);
        FN(add_parts)(&f, f.sums + numbers, p->classes, p->dbias);
    }
    fm_restore(mode);
    return bytes;
}
