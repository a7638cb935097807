/* Multinomial mixtures, lanes along the components; the steps' numbers are reference/multinomial.py's. A row is its counts
 * that are not 0, whether they come from an array or in compressed rows.
 *
 * Statistics are sums in float64, row after row: workers share out the rows of a tile for densities and posteriors, meet,
 * and share out the components for the sums, so that each sum is one worker's and has one order. A partial sum of each
 * tile, as Gaussians have it, would cost more than the rows of a tile: a vocabulary has more words than they.
 */

#include "vec.h"

#include "act.h"

#include "posterior.h"

#undef AT_ONCE
#define AT_ONCE 4 /* vectors of components that accumulate in registers */

typedef struct FN(words) {
    fm_mixture *p;
    intptr_t V, K, vectors;
    /* packed, all workers' */
    REAL *logs;      /* (V, vectors * L), 0 beyond K */
    REAL *constants; /* (vectors * L) */
    double *sums;    /* (V, K): counts, and behind them n (K) */
    REAL *weighted;  /* (rows, K): the weighted responsibilities of a tile */
    double *likelihoods; /* of a tile's blocks */
    intptr_t *taken; /* blocks of a tile that workers have taken, by turns of two tiles */
    size_t packed;
    /* a worker's own */
    REAL *rows; /* (ROWS, vectors * L) */
    REAL *l;    /* (vectors * L, PITCH) */
    REAL *weight, *root;
    double *row; /* (K) */
} FN(words);

static size_t FN(layout)(fm_mixture *p, intptr_t worker, intptr_t workers, FN(words) * f) {
    const intptr_t V_ = p->D, K = p->K;
    fm_arena packed = {p->packed, 0}, arena = {p->scratch, 0};
    *f = (FN(words)){.p = p, .V = V_, .K = K, .vectors = (K + L - 1) / L};
    const intptr_t width = f->vectors * L, statistics = p->n != 0;
    f->logs = fm_take(&packed, V_ * width * sizeof(REAL));
    f->constants = fm_take(&packed, width * sizeof(REAL));
    f->sums = statistics ? fm_take(&packed, (V_ + 1) * K * sizeof(double)) : 0;
    f->weighted = statistics ? fm_take(&packed, p->rows * K * sizeof(REAL)) : 0;
    f->likelihoods = fm_take(&packed, (p->rows + ROWS - 1) / ROWS * sizeof(double));
    f->taken = fm_take(&packed, 2 * sizeof(intptr_t));
    f->packed = packed.used;
    for (intptr_t w = 0; w < workers; w++) {
        FN(words) mine = *f;
        mine.rows = fm_take(&arena, ROWS * width * sizeof(REAL));
        mine.l = fm_take(&arena, PITCH * width * sizeof(REAL));
        mine.weight = fm_take(&arena, ROWS * sizeof(REAL));
        mine.root = fm_take(&arena, ROWS * sizeof(REAL));
        mine.row = fm_take(&arena, K * sizeof(double));
        if (w == worker) *f = mine;
    }
    return arena.used;
}

/* Called by one worker, before the others: fills p->packed; with that NULL returns its bytes. */
static size_t FN(prepare)(fm_mixture *p, intptr_t worker, intptr_t workers) {
    FN(words) f;
    FN(layout)(p, worker, workers, &f);
    if (!p->packed) return f.packed;
    const intptr_t K = f.K, width = f.vectors * L;
    const REAL *logs = p->factors, *constants = p->constants;
    memset(f.taken, 0, 2 * sizeof(intptr_t));
    for (intptr_t k = 0; k < width; k++) f.constants[k] = k < K ? constants[k] : 0;
    for (intptr_t v = 0; v < f.V; v++)
        for (intptr_t k = 0; k < width; k++) f.logs[v * width + k] = k < K ? logs[k * f.V + v] : 0;
    if (p->n)
        for (intptr_t v = 0; v <= f.V; v++)
            for (intptr_t k = 0; k < K; k++) f.sums[v * K + k] = v < f.V ? p->counts[k * f.V + v] : p->n[k];
    return f.packed;
}

/* The counts of a row: how many there are, and the first of them; *at is where they are named, or NULL for 0, 1, 2 … */
INLINE intptr_t FN(counts_of)(const FN(words) * f, intptr_t n, const REAL **x, const intptr_t **at) {
    const fm_mixture *p = f->p;
    *x = p->X ? (const REAL *)p->X + n * f->V : (const REAL *)p->data + p->indptr[n];
    *at = p->X ? 0 : p->indices + p->indptr[n];
    return p->X ? f->V : p->indptr[n + 1] - p->indptr[n];
}

/* 1: NV vectors of components of one row. */
INLINE void FN(density_body)(const int NV, const REAL *x, const intptr_t *at, intptr_t count, const REAL *logs,
                             intptr_t width, const REAL *constants, REAL *to) {
    V acc[AT_ONCE];
    UNROLL for (int v = 0; v < NV; v++) acc[v] = vload(constants + v * L);
    for (intptr_t i = 0; i < count; i++) {
        if (x[i] == 0) continue;
        const REAL *log = logs + (at ? at[i] : i) * width;
        V c = vset1(x[i]);
        UNROLL for (int v = 0; v < NV; v++) acc[v] = vfma(c, vload(log + v * L), acc[v]);
    }
    UNROLL for (int v = 0; v < NV; v++) vstore(to + v * L, acc[v]);
}

#define FM_DEFINE_DENSITY(NV)                                                                                          \
    NOINLINE static void FN(density##NV)(const REAL *x, const intptr_t *at, intptr_t count, const REAL *logs,           \
                                         intptr_t width, const REAL *constants, REAL *to) {                            \
        FN(density_body)(NV, x, at, count, logs, width, constants, to);                                                \
    }
FM_DEFINE_DENSITY(1)
FM_DEFINE_DENSITY(2)
FM_DEFINE_DENSITY(3)
FM_DEFINE_DENSITY(4)
#undef FM_DEFINE_DENSITY

/* 1 and 2 of rows [start, start + rows), at most ROWS of them; non-zero: give up. */
static int FN(block)(const FN(words) * f, intptr_t worker, intptr_t start, intptr_t rows, REAL *weighted,
                     double *likelihood) {
    fm_mixture *p = f->p;
    const intptr_t K = f->K, width = f->vectors * L;
    for (intptr_t n = 0; n < rows; n++) {
        const REAL *x;
        const intptr_t *at, count = FN(counts_of)(f, start + n, &x, &at);
        for (intptr_t v = 0, nv; v < f->vectors; v += nv) {
            nv = f->vectors - v < AT_ONCE ? f->vectors - v : AT_ONCE;
            const REAL *logs = f->logs + v * L, *constants = f->constants + v * L;
            REAL *to = f->rows + n * width + v * L;
            switch (nv) {
            case 1: FN(density1)(x, at, count, logs, width, constants, to); break;
            case 2: FN(density2)(x, at, count, logs, width, constants, to); break;
            case 3: FN(density3)(x, at, count, logs, width, constants, to); break;
            default: FN(density4)(x, at, count, logs, width, constants, to);
            }
        }
        if (fm_poll(&p->call, worker, (double)count * (double)(width + 20))) return 1;
    }
    FN(rows_in)(f->rows, width, rows, f->l);
    if (p->resp || p->log_likelihood || p->labels) {
        FN(posterior)(f->l, K, rows, p->resp != 0, p->log_likelihood ? (REAL *)p->log_likelihood + start : 0,
                      p->labels ? p->labels + start : 0);
        if (p->resp) FN(rows_out)(f->l, K, rows, (REAL *)p->resp + start * K);
    }
    if (!p->n) return 0;
    V total = vset1(0);
    FN(row_weights)(p->sample_weight ? (const REAL *)p->sample_weight + start : 0, rows, f->weight);
    FN(roots)(f->l, K, f->weight, f->l, f->root, &total);
    for (intptr_t k = 0; k < K; k++)
        for (intptr_t t = 0; t < ROWS; t += L) {
            V z = vload(f->l + k * PITCH + t) * vload(f->root + t);
            vstore(f->l + k * PITCH + t, z * z);
        }
    FN(rows_out)(f->l, K, rows, weighted);
    *likelihood = FN(lanes)(total);
    return 0;
}

/* 3 of components [from, to) over rows [start, end). */
static void FN(add_counts)(const FN(words) * f, intptr_t worker, intptr_t start, intptr_t end, intptr_t from, intptr_t to) {
    const intptr_t K = f->K, own = to - from;
    double *n = f->sums + f->V * K + from, *row = f->row;
    for (intptr_t i = start; i < end; i++) {
        const REAL *x, *r = f->weighted + (i - start) * K + from;
        const intptr_t *at, count = FN(counts_of)(f, i, &x, &at);
        for (intptr_t k = 0; k < own; k++) {
            row[k] = (double)r[k];
            n[k] += row[k];
        }
        for (intptr_t j = 0; j < count; j++) {
            const double c = (double)x[j];
            if (c == 0) continue;
            double *sum = f->sums + (at ? at[j] : j) * K + from;
            for (intptr_t k = 0; k < own; k++) sum[k] += c * row[k];
        }
        if (fm_poll(&f->p->call, worker, (double)count * (double)(2 * own + 20))) return;
    }
}

static size_t FN(walk)(fm_mixture *p, intptr_t worker, intptr_t workers) {
    FN(words) f;
    size_t bytes = FN(layout)(p, worker, workers, &f);
    if (!p->scratch) return bytes;
    uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(&p->call);
    if (!p->n) {
        double none;
        for (intptr_t start; (start = ROWS * __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->N;)
            if (FN(block)(&f, worker, start, p->N - start < ROWS ? p->N - start : ROWS, 0, &none)) break;
        fm_restore(mode);
        return bytes;
    }
    const intptr_t K = f.K, quads = (K + 3) / 4;
    const intptr_t from = 4 * fm_share(quads, worker, workers), last = 4 * fm_share(quads, worker + 1, workers);
    const intptr_t to = last < K ? last : K;
    double total = *p->total;
    for (intptr_t tile = 0, turn = 0; tile < p->N; tile += p->rows, turn = 1 - turn) {
        const intptr_t end = p->N < tile + p->rows ? p->N : tile + p->rows, blocks = (end - tile + ROWS - 1) / ROWS;
        for (intptr_t b; (b = __atomic_fetch_add(&f.taken[turn], 1, __ATOMIC_RELAXED)) < blocks;) {
            const intptr_t start = tile + b * ROWS;
            if (FN(block)(&f, worker, start, end - start < ROWS ? end - start : ROWS, f.weighted + b * ROWS * K,
                          &f.likelihoods[b]))
                break;
        }
        fm_meet(&p->call, workers);
        if (fm_stopped(&p->call)) goto ended;
        if (worker == 0) {
            double sum = 0;
            for (intptr_t b = 0; b < blocks; b++) sum += f.likelihoods[b];
            total += sum;
            __atomic_store_n(&f.taken[1 - turn], 0, __ATOMIC_RELAXED);
        }
        if (from < to) FN(add_counts)(&f, worker, tile, end, from, to);
        fm_meet(&p->call, workers);
        if (fm_stopped(&p->call)) goto ended;
    }
    for (intptr_t k = from; k < to; k++) {
        for (intptr_t v = 0; v < f.V; v++) p->counts[k * f.V + v] = f.sums[v * K + k];
        p->n[k] = f.sums[f.V * K + k];
    }
    if (worker == 0) *p->total = total;
ended:
    fm_restore(mode);
    return bytes;
}
