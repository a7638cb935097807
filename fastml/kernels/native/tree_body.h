/* Trees on coded rows. Weights are float64; REAL is the dtype of the values, which only decide where rows may be split from
 * each other.
 *
 * A tree grows depth first, a node at a time; workers share out the features of its search, then the rows that its split
 * parts, and meet in between. Nodes of little work wait until those are done, and are then a worker's each, with all below
 * them. Every sum is one worker's, or of blocks of rows whose sizes depend on the problem alone, and what is summed anew or
 * left of a parent depends on it alone, too: the bits are those of any number of workers.
 *
 * The search of a node: sums of each feature's bins; the best border between two bins; then the bins that may hold something
 * better by their bound (tree_split.h) are walked row by row. Of two children the one of fewer rows has its bins summed, the
 * other one's are what is left of the parent's, unless it weighs so little that rounding would show. A node of few rows is
 * walked as a whole, its rows sorted by rank; but a feature of few values by its bins, each of which is a value. A feature of
 * one value is left out.
 *
 * Measured at (100000, 20, 5), one stump, one thread: sums over bins 60 % of the time, four features at a time with a class's
 * rows in a row, so that each weight is loaded once and successive additions do not wait for each other.
 */

#include "vec.h"

#include "tree_split.h"

#include "tree_codes.h"

#include "tree_scores.h"

#undef VD
#undef LD
#undef BLOCK
#undef LIGHT
#undef DROSS
#undef SLACK
#undef TEAM
#if FM_RUNG == FM_AVX512
#define LD 8
#elif FM_RUNG == FM_AVX2
#define LD 4
#else
#define LD 2
#endif
#define VD FN(vd)
#define BLOCK 4096  /* rows of a block */
#define LIGHT 16    /* a child of less than this part of its parent's weight has its bins summed anew */
#define DROSS 1e-12 /* part of a parent's bin below which what is left for a child is taken for rounding */
#define SLACK 1e-11 /* by which bounds may be too low through rounding: each subtraction may multiply 1e-16 by LIGHT */
#define TEAM 131072 /* rows × features from which on a node is all workers': 0.1 ms of work, a dozen meetings */

typedef double VD __attribute__((vector_size(8 * LD)));
typedef double FN(quad) __attribute__((vector_size(32), aligned(32)));

typedef struct FN(grove) {
    fm_tree *p;
    fm_call *call;
    intptr_t N, D, C, P, worker, workers;
    intptr_t rank;    /* the worker's number in the call, also where it works alone */
    int squares;      /* there is a target */
    intptr_t *active; /* features that some rows may be split by; A of them */
    intptr_t A;
    /* all workers' */
    int32_t *lists[2];   /* rows by node, rising in each: of even levels and of odd ones */
    uint16_t *node;      /* where a row is; ELSEWHERE for rows that do not grow the tree */
    uint8_t *side;       /* by place in the list */
    fm_block *blocks;
    double *sums;        /* slots × (A, C, BINS), or (A, BINS, 4) with a target */
    double *cum;         /* (A, C, WIDE) of the node at hand */
    double *totals;      /* (A, C): with NaN; of a target both are about the node's mean */
    FN(quad) *target;    /* (N): w, w y, w y², 1, y about the weighted mean of all */
    intptr_t *segments;  /* (FM_DEPTH + 2, K + 1): of each waiting node, where its classes begin in its list */
    intptr_t *later;     /* (FM_LATER, K + 1): as segments, of the nodes that wait for a worker of their own */
    fm_split *splits;    /* each worker's */
    /* a worker's own */
    FN(borders) *borders;
    double *walker;      /* 7 × C */
    uint32_t *ranks;     /* 2 × N */
    double *few;         /* of one feature: sums, as above, the sums up to each border (C, WIDE), and totals (C) */
    struct {
        fm_block *blocks;
        double *sums, *cum, *totals;
        intptr_t *segments;
        fm_split split;
    } alone;
    size_t bytes;
} FN(grove);

#undef ELSEWHERE
#define ELSEWHERE 0xffff

INLINE intptr_t FN(valued)(const FN(grove) * g, intptr_t d) { /* rows that have a value */
    return g->p->starts[d * (FM_BINS + 1) + g->p->bins[d]];
}

INLINE int FN(apart)(const FN(grove) * g, intptr_t d, intptr_t a, intptr_t b) {
    const REAL *v = (const REAL *)g->p->values + d * g->N;
    return v[b] > v[a] + (REAL)FM_TIE;
}

/* Whether any two rows may be split by a feature. */
INLINE int FN(varies)(const FN(grove) * g, intptr_t d) {
    const intptr_t n = FN(valued)(g, d);
    return n && (n < g->N || FN(apart)(g, d, 0, n - 1));
}

/* Whether sums over bins pay for a node of so many rows: below, sorting them is quicker. */
INLINE int FN(many)(const FN(grove) * g, intptr_t rows) { return rows >= 512 + 64 * g->C; }

/* Whether a node of so many rows is one worker's. */
INLINE int FN(little)(const FN(grove) * g, intptr_t rows) { return rows * g->A < TEAM; }

static void FN(plant)(fm_tree *p, intptr_t worker, intptr_t workers, FN(grove) * g) {
    fm_arena shared = {p->scratch, 0};
    const intptr_t K = p->K;
    g->p = p;
    g->call = &p->call;
    g->N = p->N, g->D = p->D, g->P = p->P;
    g->rank = worker;
    g->squares = p->criterion == FM_SQUARED_ERROR;
    g->C = g->squares ? 3 : K;
    g->worker = worker, g->workers = workers;
    intptr_t depth = 0;
    while ((1 << depth) - 1 < g->P) depth++;
    g->A = 0;
    for (intptr_t d = 0; d < g->D; d++) g->A += FN(varies)(g, d);
    const size_t N = (size_t)g->N, A = (size_t)g->A, C = (size_t)g->C, each = (g->squares ? 4 : C) * FM_BINS * sizeof(double);
    const size_t sum = C * WIDE * sizeof(double), rows = A ? TEAM / A : 0; /* of a node that is one worker's: fewer */
    const size_t bins = FN(many)(g, (intptr_t)rows) ? A : 0;
    for (int i = 0; i < 2; i++) g->lists[i] = fm_take(&shared, 4 * N);
    g->node = fm_take(&shared, 2 * N);
    g->side = fm_take(&shared, N);
    g->blocks = fm_take(&shared, (N / BLOCK + (size_t)K + 2) * sizeof(fm_block));
    g->sums = fm_take(&shared, (size_t)depth * A * each);
    g->cum = fm_take(&shared, A * sum);
    g->totals = fm_take(&shared, A * C * sizeof(double));
    g->target = fm_take(&shared, g->squares ? N * sizeof(FN(quad)) : 0);
    g->segments = fm_take(&shared, (FM_DEPTH + 2) * ((size_t)K + 1) * sizeof(intptr_t));
    g->later = fm_take(&shared, workers > 1 ? FM_LATER * ((size_t)K + 1) * sizeof(intptr_t) : 0);
    g->splits = fm_take(&shared, (size_t)workers * sizeof(fm_split));
    for (intptr_t w = 0; w <= worker || (!p->scratch && w < workers); w++) {
        g->borders = fm_take(&shared, sizeof(FN(borders)));
        g->walker = fm_take(&shared, 7 * C * sizeof(double));
        g->ranks = fm_take(&shared, 8 * N);
        g->active = fm_take(&shared, A * sizeof(intptr_t));
        g->few = fm_take(&shared, each + sum + C * sizeof(double));
        if (workers == 1) continue;
        g->alone.blocks = fm_take(&shared, (rows / BLOCK + (size_t)K + 2) * sizeof(fm_block));
        g->alone.sums = fm_take(&shared, bins * each);
        g->alone.cum = fm_take(&shared, bins * sum);
        g->alone.totals = fm_take(&shared, bins * C * sizeof(double));
        g->alone.segments = fm_take(&shared, (FM_DEPTH + 2) * ((size_t)K + 1) * sizeof(intptr_t));
    }
    g->bytes = shared.used;
    if (!p->scratch) return;
    intptr_t a = 0;
    for (intptr_t d = 0; d < g->D; d++)
        if (FN(varies)(g, d)) g->active[a++] = d;
}

/* ------------------------------------------------------------------------------------------------ sums over bins */

/* Adds the weights of rows [from, to) of the list (or the rows themselves) to NF features' bins, which are STEP apart. */
INLINE void FN(add_weights_body)(const int NF, const FN(grove) * g, const int32_t *list, intptr_t from, intptr_t to,
                                 const intptr_t *d, double *sums, intptr_t step) {
    const double *w = g->p->weight;
    const uint8_t *codes[4];
    UNROLL for (int f = 0; f < NF; f++) codes[f] = g->p->codes + d[f] * g->N;
    for (intptr_t j = from; j < to; j++) {
        intptr_t row = list ? list[j] : j;
        double x = w[row];
        UNROLL for (int f = 0; f < NF; f++) sums[f * step + codes[f][row]] += x;
    }
}

#define FM_DEFINE_ADD(NF)                                                                                              \
    NOINLINE static void FN(add_weights##NF)(const FN(grove) * g, const int32_t *list, intptr_t from, intptr_t to,       \
                                             const intptr_t *d, double *sums, intptr_t step) {                         \
        if (list) FN(add_weights_body)(NF, g, list, from, to, d, sums, step);                                          \
        else FN(add_weights_body)(NF, g, 0, from, to, d, sums, step);                                                  \
    }
FM_DEFINE_ADD(1)
FM_DEFINE_ADD(2)
FM_DEFINE_ADD(4)
#undef FM_DEFINE_ADD

/* w, w y, w y² of a row are added to a feature's bin at once. */
NOINLINE static void FN(add_targets)(const FN(grove) * g, const int32_t *list, intptr_t from, intptr_t to, intptr_t d,
                                     double *sums) {
    const uint8_t *codes = g->p->codes + d * g->N;
    FN(quad) *bins = (FN(quad) *)sums;
    for (intptr_t j = from; j < to; j++) {
        intptr_t row = list ? list[j] : j;
        bins[codes[row]] += g->target[row];
    }
}

INLINE double *FN(slot)(const FN(grove) * g, int slot, intptr_t a) {
    return g->sums + (slot * g->A + a) * (g->squares ? 4 : g->C) * FM_BINS;
}

INLINE void FN(clear_bins)(const FN(grove) * g, intptr_t d, double *sums) {
    const intptr_t n = g->p->bins[d];
    const size_t used = (size_t)(n < FM_BINS ? n + 1 : n) * sizeof(double); /* NaN's is behind the last */
    if (g->squares) memset(sums, 0, 4 * used);
    else
        for (intptr_t k = 0; k < g->C; k++) memset(sums + k * FM_BINS, 0, used);
}

/* Sums of the bins of active features [a, a + nf) over a node's rows. */
static int FN(sum_bins)(const FN(grove) * g, const fm_node *node, const int32_t *list, const intptr_t *segments, intptr_t a,
                        intptr_t nf) {
    const intptr_t each = (g->squares ? 4 : g->C) * FM_BINS, K = g->p->K, piece = 1 << 16, *d = g->active + a;
    double *sums = FN(slot)(g, node->slot, a);
    for (intptr_t f = 0; f < nf; f++) FN(clear_bins)(g, d[f], sums + f * each);
    for (intptr_t k = 0; k < K; k++)
        for (intptr_t from = segments[k]; from < segments[k + 1]; from += piece) {
            intptr_t to = segments[k + 1] < from + piece ? segments[k + 1] : from + piece;
            if (g->squares)
                for (intptr_t f = 0; f < nf; f++) FN(add_targets)(g, list, from, to, d[f], sums + f * each);
            else {
                double *h = sums + k * FM_BINS;
                if (nf == 4) FN(add_weights4)(g, list, from, to, d, h, each);
                else if (nf == 2) FN(add_weights2)(g, list, from, to, d, h, each);
                else FN(add_weights1)(g, list, from, to, d, h, each);
            }
            if (fm_poll(g->call, g->rank, 4.0 * (double)((to - from) * nf))) return 1;
        }
    return 0;
}

/* What is left of the parent's bins for the other child; classes that it has none of have no weight. */
static void FN(subtract_bins)(const FN(grove) * g, int parent, int child, const intptr_t *others, intptr_t a) {
    double *of = FN(slot)(g, parent, a);
    const double *from = FN(slot)(g, child, a);
    const intptr_t d = g->active[a], used = g->p->bins[d] < FM_BINS ? g->p->bins[d] + 1 : FM_BINS;
    if (g->squares) {
        for (intptr_t b = 0; b < used; b++) { /* the fourth counts rows */
            double *x = of + 4 * b;
            for (int c = 0; c < 4; c++) x[c] -= from[4 * b + c];
            if (x[3] == 0) x[0] = x[1] = x[2] = 0;
        }
        return;
    }
    for (intptr_t k = 0; k < g->C; k++) {
        double *x = of + k * FM_BINS;
        const double *y = from + k * FM_BINS;
        const double dross = others[k] == others[k + 1] ? 2 : DROSS;
        for (intptr_t b = 0; b < used; b++) x[b] = x[b] - y[b] > dross * x[b] ? x[b] - y[b] : 0;
    }
}

/* From bins to the sums up to each border, scaled, and those of all rows. */
static void FN(accumulate)(const FN(grove) * g, const double *sums, intptr_t d, double *cum, double *total) {
    const double scale = g->p->scale;
    const intptr_t n = g->p->bins[d];
    const int missing = FN(valued)(g, d) < g->N;
    for (intptr_t k = 0; k < g->C; k++) {
        const double *x = g->squares ? sums + k : sums + k * FM_BINS;
        const intptr_t step = g->squares ? 4 : 1;
        double sum = 0;
        for (intptr_t b = 0; b < n; b++) {
            cum[k * WIDE + b] = sum;
            sum += x[b * step] * scale;
        }
        cum[k * WIDE + n] = sum;
        total[k] = sum + (missing ? x[n * step] * scale : 0);
    }
    if (!g->squares) return;
    const double m = g->p->shift;
    for (intptr_t b = 0; b <= n; b++) {
        const double w = cum[b], wy = cum[WIDE + b];
        cum[WIDE + b] -= m * w;
        cum[2 * WIDE + b] -= m * (2 * wy - m * w);
    }
    total[2] -= m * (2 * total[1] - m * total[0]);
    total[1] -= m * total[0];
}

/* A row's channels with a target about the node's mean, scaled. */
INLINE void FN(moments)(const FN(grove) * g, intptr_t row, double *x) {
    const double m = g->p->shift, w = g->target[row][0] * g->p->scale, wy = g->target[row][1] * g->p->scale;
    x[0] = w;
    x[1] = wy - m * w;
    x[2] = g->target[row][2] * g->p->scale - m * (2 * wy - m * w);
}

/* --------------------------------------------------------------------------------------------------- the search */

INLINE intptr_t FN(class_of)(const FN(grove) * g, intptr_t row) {
    const intptr_t *starts = g->p->classes;
    intptr_t low = 0, high = g->p->K;
    if (high <= 8) {
        for (intptr_t k = 1; k < high; k++) low += row >= starts[k];
        return low;
    }
    while (high - low > 1) {
        intptr_t middle = (low + high) / 2;
        if (row >= starts[middle]) low = middle;
        else high = middle;
    }
    return low;
}

INLINE FN(walker) FN(walker_at)(const int criterion, const FN(grove) * g, const double *start, const double *T) {
    double *own = g->walker;
    const intptr_t C = g->C;
    FN(walker) w = {C, 0, own, own + C, own + 2 * C, own + 3 * C, 0, 0, 0, 0, 0};
    FN(start)(criterion, &w, start, T);
    return w;
}

/* Passes rows at positions [from, to), or those in `ranks`, from right to left, and keeps the best split between two of them
 * that are apart. `here` is the node whose rows count, or -1 for all. */
INLINE void FN(walk_body)(const int criterion, const FN(grove) * g, intptr_t d, const uint32_t *ranks, intptr_t from,
                          intptr_t to, intptr_t here, const double *start, const double *T, int left, fm_split *best) {
    const int32_t *order = g->p->order + d * g->N;
    const double *weight = g->p->weight, scale = g->p->scale;
    FN(walker) w = FN(walker_at)(criterion, g, start, T);
    intptr_t before = -1;
    for (intptr_t j = from; j < to; j++) {
        const intptr_t p = ranks ? ranks[j] : j, row = order[p];
        if (here >= 0 && g->node[row] != here) continue;
        if (before >= 0 && FN(apart)(g, d, before, p)) {
            fm_split found = {FN(worth)(criterion, &w, best->score), d, p, before, left};
            if (found.score >= best->score && FN(better)(&found, best)) *best = found;
        }
        if (criterion == FM_SQUARED_ERROR) {
            double x[3];
            FN(moments)(g, row, x);
            for (int c = 0; c < 3; c++) w.left[c] += x[c], w.right[c] -= x[c];
        } else FN(pass_row)(criterion, &w, FN(class_of)(g, row), weight[row] * scale);
        before = p;
    }
}

static void FN(walk)(const FN(grove) * g, intptr_t d, const uint32_t *ranks, intptr_t from, intptr_t to, intptr_t here,
                     const double *start, const double *T, int left, fm_split *best) {
    switch (g->p->criterion) {
    case FM_GINI: FN(walk_body)(FM_GINI, g, d, ranks, from, to, here, start, T, left, best); break;
    case FM_ENTROPY: FN(walk_body)(FM_ENTROPY, g, d, ranks, from, to, here, start, T, left, best); break;
    case FM_ERROR: FN(walk_body)(FM_ERROR, g, d, ranks, from, to, here, start, T, left, best); break;
    default: FN(walk_body)(FM_SQUARED_ERROR, g, d, ranks, from, to, here, start, T, left, best);
    }
}

/* Numbers below `most`, sorted in place; `spare` is as long. */
static void FN(sort_ranks)(uint32_t *a, intptr_t n, intptr_t most, uint32_t *spare) {
    if (n < 48) {
        for (intptr_t i = 1; i < n; i++) {
            uint32_t x = a[i];
            intptr_t j = i;
            for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
            a[j] = x;
        }
        return;
    }
    uint32_t *from = a, *to = spare;
    for (int shift = 0; shift < 32 && (most - 1) >> shift; shift += 8) {
        uint32_t at[256] = {0};
        for (intptr_t i = 0; i < n; i++) at[from[i] >> shift & 255]++;
        uint32_t sum = 0;
        for (int b = 0; b < 256; b++) {
            uint32_t count = at[b];
            at[b] = sum;
            sum += count;
        }
        for (intptr_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != a) memcpy(a, from, (size_t)n * sizeof *a);
}

/* The best border between two bins of a feature. */
static void FN(best_border)(const FN(grove) * g, intptr_t d, const double *cum, const double *T, fm_split *best) {
    const intptr_t n = g->p->bins[d], C = g->C;
    const int32_t *starts = g->p->starts + d * (FM_BINS + 1);
    double *extra = g->walker;
    double lacking = 0;
    for (intptr_t k = 0; k < (g->squares ? 1 : C); k++) lacking += T[k] - cum[k * WIDE + n];
    for (int left = 0; left < (lacking > 0 ? 2 : 1); left++) {
        for (intptr_t k = 0; k < C; k++) extra[k] = left ? T[k] - cum[k * WIDE + n] : 0;
        FN(borders) *o = g->borders;
        FN(at_borders)(g->p->criterion, C, n, cum, extra, T, o);
        /* values on the left: weight beyond that of NaN; and on the right, unless NaN alone is there */
        const double least = left ? o->wl[0] : 0;
        for (intptr_t b = 1; b < n + (lacking > 0 && !left); b++) {
            if (!(o->wl[b] > least) || !(b == n || o->wl[n] > o->wl[b])) continue;
            fm_split found = {o->score[b], d, starts[b], -1, left};
            if (found.score >= best->score && FN(better)(&found, best)) *best = found;
        }
    }
}

/* Whether each bin of a feature is a value, and bins are few beside so many rows. */
static int FN(few_values)(const FN(grove) * g, intptr_t d, intptr_t rows) {
    const int32_t *starts = g->p->starts + d * (FM_BINS + 1);
    const intptr_t n = g->p->bins[d];
    if (n * g->C > 2 * rows) return 0;
    for (intptr_t b = 0; b < n; b++)
        if (FN(apart)(g, d, starts[b], starts[b + 1] - 1)) return 0;
    return 1;
}

/* Every split of a feature that has few values. */
static void FN(walk_bins)(const FN(grove) * g, const fm_node *node, const int32_t *list, intptr_t d, fm_split *best) {
    double *sums = g->few, *cum = sums + (g->squares ? 4 : g->C) * FM_BINS, *T = cum + g->C * WIDE;
    const uint8_t *codes = g->p->codes + d * g->N;
    FN(clear_bins)(g, d, sums);
    if (g->squares) FN(add_targets)(g, list, node->start, node->end, d, sums);
    else
        for (intptr_t j = node->start; j < node->end; j++) {
            const intptr_t row = list ? list[j] : j;
            sums[FN(class_of)(g, row) * FM_BINS + codes[row]] += g->p->weight[row];
        }
    FN(accumulate)(g, sums, d, cum, T);
    FN(best_border)(g, d, cum, T, best);
}

/* Every split of a feature, the node's rows sorted. */
static void FN(walk_all)(const FN(grove) * g, const fm_node *node, const int32_t *list, intptr_t d, fm_split *best) {
    const fm_tree *p = g->p;
    const int32_t *rank = p->rank + d * g->N, *order = p->order + d * g->N;
    const intptr_t count = node->end - node->start, all = FN(valued)(g, d);
    if (FN(few_values)(g, d, count)) {
        FN(walk_bins)(g, node, list, d, best);
        return;
    }
    uint32_t *ranks = 0;
    intptr_t n = all;
    if (list) {
        ranks = g->ranks;
        for (intptr_t j = 0; j < count; j++) ranks[j] = (uint32_t)rank[list[node->start + j]];
        FN(sort_ranks)(ranks, count, g->N, ranks + count);
        for (n = count; n > 0 && ranks[n - 1] >= all; n--) {}
    }
    double *T = g->walker + 4 * g->C, *missing = T + g->C, *nothing = missing + g->C;
    for (intptr_t k = 0; k < g->C; k++) T[k] = missing[k] = nothing[k] = 0;
    for (intptr_t j = 0; j < count; j++) {
        const intptr_t row = order[ranks ? ranks[j] : j];
        double *to = j < n ? T : missing;
        if (!g->squares) to[FN(class_of)(g, row)] += p->weight[row] * p->scale;
        else {
            double x[3];
            FN(moments)(g, row, x);
            for (int c = 0; c < 3; c++) to[c] += x[c];
        }
    }
    const int lacking = n < count && n > 0;
    for (intptr_t k = 0; k < g->C; k++) T[k] += missing[k];
    for (int left = 0; left <= lacking; left++) FN(walk)(g, d, ranks, 0, n, -1, left ? missing : nothing, T, left, best);
    if (lacking) { /* all that have a value against all that have none */
        const int criterion = p->criterion;
        FN(walker) w = FN(walker_at)(criterion, g, missing, T);
        for (intptr_t k = 0; k < g->C; k++) w.left[k] = T[k] - missing[k], w.right[k] = missing[k];
        if (criterion == FM_ENTROPY)
            for (intptr_t k = 0; k < g->C; k++) w.fl[k] = FN(xlogx)(w.left[k]), w.fr[k] = FN(xlogx)(w.right[k]);
        FN(settle)(criterion, &w);
        fm_split found = {FN(worth)(criterion, &w, best->score), d, all, ranks ? (intptr_t)ranks[n - 1] : n - 1, 0};
        if (FN(better)(&found, best)) *best = found;
    }
}

/* What is better inside the bins of a feature than `border`, the best of all features' borders. */
static int FN(inside_bins)(const FN(grove) * g, const fm_node *node, const int32_t *list, intptr_t a, double border,
                           fm_split *best) {
    const intptr_t d = g->active[a], n = g->p->bins[d], C = g->C, count = node->end - node->start;
    const int32_t *starts = g->p->starts + d * (FM_BINS + 1);
    const double *cum = g->cum + a * C * WIDE, *T = g->totals + a * C;
    double *start = g->walker + 4 * C, *extra = start + C;
    double lacking = 0;
    for (intptr_t k = 0; k < (g->squares ? 1 : C); k++) lacking += T[k] - cum[k * WIDE + n];
    for (int left = 0; left < (lacking > 0 ? 2 : 1); left++) {
        for (intptr_t k = 0; k < C; k++) extra[k] = left ? T[k] - cum[k * WIDE + n] : 0;
        FN(borders) *o = g->borders;
        FN(at_borders)(g->p->criterion, C, n, cum, extra, T, o);
        const int corners = C <= CORNERS && g->p->criterion <= FM_ENTROPY;
        uint8_t open[FM_BINS];
        intptr_t rows = 0;
        const double low = border - SLACK * (fabs(border) + 1e-3); /* the same for any worker, where `best` is its own */
        for (intptr_t b = 0; b < n; b++) {
            open[b] = o->bound[b] >= low && o->wl[b + 1] > o->wl[b] && FN(apart)(g, d, starts[b], starts[b + 1] - 1);
            if (open[b]) rows += starts[b + 1] - starts[b];
        }
        if (list && rows > 8 * count) {
            FN(walk_all)(g, node, list, d, best);
            return fm_poll(g->call, g->rank, 20.0 * (double)count);
        }
        for (intptr_t b = 0; b < n; b++) {
            const double least = best->score - SLACK * (fabs(best->score) + 1e-3);
            if (!open[b] || o->bound[b] < least) continue;
            if (corners && FN(corners)(g->p->criterion, C, b, cum, extra, T) < least) continue;
            for (intptr_t k = 0; k < C; k++)
                start[k] = cum[k * WIDE + b] + (left ? T[k] - cum[k * WIDE + n] : 0);
            FN(walk)(g, d, 0, starts[b], starts[b + 1], list ? node->i : -1, start, T, left, best);
        }
        if (fm_poll(g->call, g->rank, 20.0 * (double)rows)) return 1;
    }
    return 0;
}

/* A border's last row on the left, and whether there is one on the right, in the node. False: there is none, the sums of an
 * empty bin were not quite 0. */
static int FN(locate)(const FN(grove) * g, const fm_node *node, int listed, fm_split *s) {
    const int32_t *order = g->p->order + s->feature * g->N;
    const intptr_t n = FN(valued)(g, s->feature);
    if (s->before < 0) {
        intptr_t a = s->position - 1, b = s->position;
        if (listed) {
            while (a >= 0 && g->node[order[a]] != node->i) a--;
            while (b < n && g->node[order[b]] != node->i) b++;
        }
        s->before = a;
        s->position = b;
        if (a < 0) return 0;
    }
    if (s->position < n) return 1;
    intptr_t b = n; /* NaN alone on the right */
    if (s->left) return 0;
    while (listed && b < g->N && g->node[order[b]] != node->i) b++;
    return b < g->N;
}

INLINE double FN(midway)(const FN(grove) * g, const fm_split *s) {
    const REAL *v = (const REAL *)g->p->values + s->feature * g->N;
    if (s->position >= FN(valued)(g, s->feature)) return INFINITY;
    double a = (double)v[s->before], b = (double)v[s->position], t = a / 2 + b / 2;
    return t < b ? t : a;
}

/* ------------------------------------------------------------------------------------------------- parting rows */

static intptr_t FN(cut_blocks)(const FN(grove) * g, const intptr_t *segments) {
    intptr_t n = 0;
    for (intptr_t k = 0; k < g->p->K; k++)
        for (intptr_t from = segments[k]; from < segments[k + 1]; from += BLOCK, n++) {
            g->blocks[n].k = k;
            g->blocks[n].from = from;
            g->blocks[n].to = segments[k + 1] < from + BLOCK ? segments[k + 1] : from + BLOCK;
        }
    return n;
}

INLINE VD FN(masked_sum)(const uint8_t *side, const double *w, intptr_t n, double *rest) {
    VD sum = {0};
    typedef int8_t bytes __attribute__((vector_size(LD)));
    intptr_t j = 0;
    for (; j + LD <= n; j += LD) {
        bytes b;
        VD x;
        memcpy(&b, side + j, LD);
        memcpy(&x, w + j, sizeof x);
        sum += __builtin_convertvector(b, VD) * x;
    }
    for (*rest = 0; j < n; j++) *rest += side[j] ? w[j] : 0;
    return sum;
}

/* A row's weight to class k of the channels, or w, w y, w y². */
INLINE void FN(add_row)(const FN(grove) * g, intptr_t row, intptr_t k, double *channels) {
    if (!g->squares) channels[k] += g->p->weight[row];
    else {
        const double w = g->p->weight[row] * g->p->unit, y = g->p->target[row];
        channels[0] += w;
        channels[1] += w * y;
        channels[2] += w * y * y;
    }
}

/* Which of a block's rows go left, how many, and the sums of both sides. */
static void FN(part_block)(const FN(grove) * g, const int32_t *list, fm_block *block) {
    const fm_split *s = &g->p->split;
    const int32_t *rank = g->p->rank + s->feature * g->N;
    const int32_t cut = (int32_t)s->position, valued = (int32_t)FN(valued)(g, s->feature);
    const uint8_t missing = (uint8_t)s->left;
    uint8_t *side = g->side + block->from;
    const intptr_t n = block->to - block->from;
    double(*sums)[3] = block->sums;
    memset(sums, 0, sizeof block->sums);
    intptr_t left = 0;
    if (list) {
        const int32_t *rows = list + block->from;
        for (intptr_t j = 0; j < n; j++) {
            int32_t r = rank[rows[j]];
            side[j] = (uint8_t)((r < cut) & (r < valued)) | ((r >= valued) & missing);
        }
    } else {
        const int32_t *ranks = rank + block->from;
        for (intptr_t j = 0; j < n; j++)
            side[j] = (uint8_t)((ranks[j] < cut) & (ranks[j] < valued)) | ((ranks[j] >= valued) & missing);
    }
    for (intptr_t j = 0; j < n; j++) left += side[j];
    block->left = left;
    if (g->squares || list) {
        for (intptr_t j = 0; j < n; j++) {
            intptr_t row = list ? list[block->from + j] : block->from + j;
            double *to = sums[!side[j]];
            FN(add_row)(g, row, 0, to);
        }
        return;
    }
    const double *w = g->p->weight + block->from;
    double rest, all = 0;
    VD chosen = FN(masked_sum)(side, w, n, &rest), other = {0};
    for (int l = 0; l < LD; l++) rest += chosen[l];
    sums[0][0] = rest;
    for (intptr_t j = 0; j < n; j++) side[j] ^= 1; /* the right side's own sum: a difference would round */
    other = FN(masked_sum)(side, w, n, &all);
    for (int l = 0; l < LD; l++) all += other[l];
    sums[1][0] = all;
    for (intptr_t j = 0; j < n; j++) side[j] ^= 1;
}

INLINE intptr_t FN(heaviest)(const double *value, intptr_t K) {
    intptr_t k = 0;
    for (intptr_t j = 1; j < K; j++)
        if (value[j] > value[k]) k = j;
    return k;
}

/* The place among the deepest nodes where the rows of a node that does not split end. */
INLINE intptr_t FN(bottom)(const FN(grove) * g, intptr_t i) {
    while (i < g->P) i = 2 * i + 1;
    return i - g->P;
}

/* Writes the rows of a block: into its children's lists, or what is said of them where they are not split again. */
static void FN(move_block)(const FN(grove) * g, const int32_t *list, int32_t *to, const fm_block *block) {
    const fm_tree *p = g->p;
    const intptr_t child = 2 * p->nodes[p->top].i + 1;
    const uint8_t *side = g->side;
    intptr_t at[2] = {block->to_right, block->to_left};
    uint8_t leaf[2] = {0}, wrong[2] = {0};
    for (int s = 0; s < 2; s++) { /* s: went left */
        const intptr_t i = child + !s;
        if (p->searched[!s]) continue;
        leaf[s] = (uint8_t)FN(bottom)(g, i);
        if (!g->squares) wrong[s] = FN(heaviest)(p->value + i * g->C, g->C) != block->k;
    }
    if (!p->searched[0] && !p->searched[1]) {
        for (intptr_t j = block->from; j < block->to; j++) {
            intptr_t row = list ? list[j] : j;
            p->leaf[row] = leaf[side[j]];
            if (p->incorrect) p->incorrect[row] = wrong[side[j]];
        }
        return;
    }
    for (intptr_t j = block->from; j < block->to; j++) {
        const intptr_t row = list ? list[j] : j;
        const int s = side[j];
        to[at[s]++] = (int32_t)row;
        g->node[row] = (uint16_t)(child + !s);
        if (p->searched[!s]) continue;
        p->leaf[row] = leaf[s];
        if (p->incorrect) p->incorrect[row] = wrong[s];
    }
}

/* ------------------------------------------------------------------------------------------------------- growing */

/* Of classes that weigh the same but for rounding, the first is to be the heaviest. */
static void FN(level_out)(double *value, intptr_t K) {
    double W = 0, most = value[FN(heaviest)(value, K)];
    for (intptr_t k = 0; k < K; k++) W += value[k];
    for (intptr_t k = 0; k < K; k++)
        if (value[k] >= most - FM_LEVEL * W) value[k] = most;
}

/* A power of two that makes a weight about 1, or at least a number whose square is one. */
INLINE double FN(unit_of)(double W) {
    int exponent;
    frexp(W, &exponent);
    return ldexp(1, exponent < -1000 ? 1000 : exponent > 1000 ? -1000 : -exponent);
}

static int FN(pure)(const FN(grove) * g, const double *value) {
    double W = 0, sum = 0;
    const int criterion = g->p->criterion;
    if (g->squares) {
        double m = value[1] / value[0];
        return !(value[0] > 0) || value[2] / value[0] - m * m <= 0x1p-52;
    }
    for (intptr_t k = 0; k < g->C; k++) W += value[k];
    if (!(W > 0)) return 1;
    for (intptr_t k = 0; k < g->C; k++) {
        double x = value[k] / W;
        sum = criterion == FM_GINI ? sum + x * x : criterion == FM_ENTROPY ? sum - FN(xlogx)(x) / M_LN2 : FN(larger)(sum, x);
    }
    return (criterion == FM_ENTROPY ? sum : 1 - sum) <= 0x1p-52;
}

/* The search at the node on top, by all workers: their splits. False: give up. */
static int FN(search)(FN(grove) * g, const fm_node *node, const int32_t *list) {
    fm_tree *p = g->p;
    const intptr_t A = g->A, C = g->C;
    fm_split *own = &g->splits[g->worker];
    *own = (fm_split){-INFINITY, g->D, 0, -1, 2};
    if (node->slot >= 0 && !p->exact) {
        for (intptr_t a = fm_share(A, g->worker, g->workers); a < fm_share(A, g->worker + 1, g->workers); a++) {
            double *cum = g->cum + a * C * WIDE, *T = g->totals + a * C;
            FN(accumulate)(g, FN(slot)(g, node->slot, a), g->active[a], cum, T);
            FN(best_border)(g, g->active[a], cum, T, own);
        }
        fm_meet(g->call, g->workers);
        if (fm_stopped(g->call)) return 0;
        fm_split best = g->splits[0];
        for (intptr_t w = 1; w < g->workers; w++)
            if (FN(better)(&g->splits[w], &best)) best = g->splits[w];
        fm_meet(g->call, g->workers);
        *own = best;
        for (intptr_t a; (a = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < A;)
            if (FN(inside_bins)(g, node, list, a, best.score, own)) break;
    } else
        for (intptr_t a; (a = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < A;) {
            FN(walk_all)(g, node, list, g->active[a], own);
            if (fm_poll(g->call, g->rank, 20.0 * (double)(node->end - node->start))) break;
        }
    fm_meet(g->call, g->workers);
    return !fm_stopped(g->call);
}

/* The bins of the node on top: summed, or what its sibling left of the parent's. */
static int FN(make_bins)(FN(grove) * g, const fm_node *node, const int32_t *list, const intptr_t *segments, int parent,
                         const intptr_t *others) {
    const intptr_t from = fm_share(g->A, g->worker, g->workers), to = fm_share(g->A, g->worker + 1, g->workers);
    for (intptr_t a = from, nf; a < to; a += nf) {
        nf = to - a >= 4 ? 4 : to - a >= 2 ? 2 : 1;
        if (FN(sum_bins)(g, node, list, segments, a, nf)) return 1;
        if (parent >= 0)
            for (intptr_t f = 0; f < nf; f++) FN(subtract_bins)(g, parent, node->slot, others, a + f);
    }
    return 0;
}

INLINE void FN(at_rest)(FN(grove) * g, intptr_t i) { /* the descendants of a node that does not split */
    fm_tree *p = g->p;
    for (; i < g->P; i = 2 * i + 1) {
        memcpy(p->value + (2 * i + 1) * g->C, p->value + i * g->C, (size_t)g->C * sizeof(double));
        p->count[2 * i + 1] = p->count[i];
    }
}

/* By worker 0, between two meetings: what the blocks say of the children, and where their rows go. The node on top is replaced
 * by those that are to be searched. */
static void FN(branch)(FN(grove) * g, const fm_node *node) {
    fm_tree *p = g->p;
    const intptr_t C = g->C, left = 2 * node->i + 1;
    double *value[2] = {p->value + left * C, p->value + (left + 1) * C};
    for (int s = 0; s < 2; s++) {
        p->count[left + s] = 0;
        for (intptr_t c = 0; c < C; c++) value[s][c] = 0;
    }
    for (intptr_t b = 0; b < p->blocks; b++) {
        const fm_block *block = &g->blocks[b];
        p->count[left] += block->left;
        p->count[left + 1] += block->to - block->from - block->left;
        for (int s = 0; s < 2; s++)
            for (intptr_t c = 0; c < (g->squares ? 3 : 1); c++) value[s][g->squares ? c : block->k] += block->sums[s][c];
    }
    for (int s = 0; s < 2; s++)
        if (!g->squares) FN(level_out)(value[s], C);
    p->feature[node->i] = p->split.feature;
    p->threshold[node->i] = FN(midway)(g, &p->split);
    const int32_t *order = p->order + p->split.feature * g->N;
    int lacking = 0; /* NaN in this node: else NaN that come later go where more rows went */
    for (intptr_t b = FN(valued)(g, p->split.feature); b < g->N && !lacking; b++)
        lacking = !p->listed || g->node[order[b]] == node->i;
    p->missing_left[node->i] = (uint8_t)(lacking ? p->split.left : p->count[left] > p->count[left + 1]);
    for (int s = 0; s < 2; s++) {
        p->searched[s] = left + s < g->P && p->count[left + s] > 1 && !FN(pure)(g, value[s]);
        if (!p->searched[s]) FN(at_rest)(g, left + s);
    }
    intptr_t at[2] = {node->start, node->start + p->count[left]};
    for (intptr_t b = 0; b < p->blocks; b++) {
        fm_block *block = &g->blocks[b];
        block->to_left = at[0], block->to_right = at[1];
        at[0] += block->left;
        at[1] += block->to - block->from - block->left;
    }
}

/* By worker 0: the children that are searched take the node's place, the one of fewer rows on top. */
static void FN(push_children)(FN(grove) * g, const fm_node *node) {
    fm_tree *p = g->p;
    const intptr_t left = 2 * node->i + 1, K = p->K, middle = node->start + p->count[left];
    const int small = p->count[left + 1] < p->count[left];
    p->top--;
    for (int turn = 0; turn < 2; turn++) {
        const int s = turn ? small : !small;
        if (!p->searched[s]) continue;
        p->nodes[++p->top] = (fm_node){left + s, node->level + 1, s ? middle : node->start, s ? node->end : middle, -1};
        intptr_t *segments = g->segments + p->top * (K + 1), at = p->nodes[p->top].start, k = 0;
        for (intptr_t b = 0; b < p->blocks; b++) {
            const fm_block *block = &g->blocks[b];
            while (k <= block->k) segments[k++] = at;
            at += s ? block->to - block->from - block->left : block->left;
        }
        while (k <= K) segments[k++] = at;
        p->listed = 1;
    }
}

/* Of the children just pushed: bins of the one of fewer rows in the next level's slot, of the other one in the parent's. No
 * waiting node has either: those deeper are done, and those above keep their parents'. Nodes that may be a worker's own make
 * theirs themselves. */
static int FN(bins_of_children)(FN(grove) * g, const fm_node *node, int slot) {
    fm_tree *p = g->p;
    const intptr_t left = 2 * node->i + 1, K = p->K;
    const int small = p->count[left + 1] < p->count[left], big = !small, both = p->searched[0] && p->searched[1];
    const int32_t *list = g->lists[(node->level + 1) & 1];
    fm_node *of_small = p->nodes + p->top, *of_big = p->nodes + p->top - both;
    const intptr_t *small_rows = g->segments + p->top * (K + 1), *big_rows = small_rows - both * (K + 1);
    int wanted[2];
    for (int s = 0; s < 2; s++)
        wanted[s] = p->searched[s] && FN(many)(g, p->count[left + s]) && !FN(little)(g, p->count[left + s]);
    const int do_small = wanted[small], do_big = wanted[big];
    double W[2] = {0, 0};
    for (int s = 0; s < 2; s++)
        for (intptr_t c = 0; c < (g->squares ? 1 : g->C); c++) W[s] += p->value[(left + s) * g->C + c];
    const int differ = both && do_big && W[big] * LIGHT > W[small] + W[big];
    fm_node first = *of_small, second = *of_big;
    first.slot = (int)node->level + 1;
    second.slot = slot;
    if ((do_small || differ) && FN(make_bins)(g, &first, list, small_rows, differ ? slot : -1, big_rows)) return 1;
    if (do_big && !differ && FN(make_bins)(g, &second, list, big_rows, -1, 0)) return 1;
    fm_meet(g->call, g->workers); /* all have read the nodes */
    if (g->worker == 0) {
        if (do_small) of_small->slot = first.slot;
        if (do_big) of_big->slot = second.slot;
    }
    return 0;
}

/* Splits the node on top, and all that come of it but those that wait for a worker of their own. */
static void FN(grow_nodes)(FN(grove) * g) {
    fm_tree *p = g->p;
    const intptr_t worker = g->worker, workers = g->workers, K = p->K, C = g->C;
    const int alone = g->call != &p->call;

    while (p->top >= 0 && !fm_stopped(g->call)) {
        const fm_node node = p->nodes[p->top];
        const intptr_t *segments = g->segments + p->top * (K + 1);
        const int32_t *list = p->listed ? g->lists[node.level & 1] : 0;
        fm_meet(g->call, workers); /* all have read the node */
        if (worker == 0) {
            double W = 0;
            for (intptr_t c = 0; c < (g->squares ? 1 : C); c++) W += p->value[node.i * C + c];
            p->scale = FN(unit_of)(W);
            if (g->squares) p->shift = p->value[node.i * C + 1] / W - p->centre;
            p->next = 0;
            if (node.slot < 0 && FN(many)(g, node.end - node.start)) p->nodes[p->top].slot = alone ? 0 : (int)node.level;
            p->split = (fm_split){-INFINITY, g->D, 0, -1, 2};
        }
        fm_meet(g->call, workers);
        fm_node here = p->nodes[p->top];
        if (node.slot < 0 && here.slot >= 0 && FN(make_bins)(g, &here, list, segments, -1, 0)) break;
        if (!FN(search)(g, &here, list)) break;
        if (worker == 0) {
            fm_split best = g->splits[0];
            for (intptr_t w = 1; w < workers; w++)
                if (FN(better)(&g->splits[w], &best)) best = g->splits[w];
            int found = best.score > -NEVER;
            const int lost = found && best.before < 0 && !FN(locate)(g, &here, p->listed, &best);
            if (lost) found = p->exact ? 0 : -1; /* once more, without bins */
            p->exact = found < 0;
            p->split = best;
            p->found = found;
            if (found > 0) p->blocks = FN(cut_blocks)(g, segments);
            p->next = 0;
        }
        fm_meet(g->call, workers);
        const int found = p->found;
        if (found < 0) continue;
        if (!found) { /* no two rows are apart */
            intptr_t leaf = FN(bottom)(g, node.i);
            if (worker == 0) FN(at_rest)(g, node.i);
            for (intptr_t k = 0; k < K; k++) {
                uint8_t wrong = !g->squares && FN(heaviest)(p->value + node.i * C, C) != k;
                for (intptr_t j = segments[k]; j < segments[k + 1]; j++) {
                    if (j % workers != worker) continue;
                    intptr_t row = list ? list[j] : j;
                    p->leaf[row] = (uint8_t)leaf;
                    if (p->incorrect) p->incorrect[row] = wrong;
                }
            }
            fm_meet(g->call, workers);
            if (worker == 0) p->top--;
            fm_meet(g->call, workers);
            continue;
        }
        for (intptr_t b; (b = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->blocks;) {
            FN(part_block)(g, list, &g->blocks[b]);
            if (fm_poll(g->call, g->rank, 4.0 * BLOCK)) break;
        }
        fm_meet(g->call, workers);
        if (fm_stopped(g->call)) break;
        if (worker == 0) {
            FN(branch)(g, &node);
            p->next = 0;
        }
        fm_meet(g->call, workers);
        int32_t *to = g->lists[(node.level + 1) & 1];
        for (intptr_t b; (b = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->blocks;)
            FN(move_block)(g, list, to, &g->blocks[b]);
        fm_meet(g->call, workers);

        if (worker == 0) FN(push_children)(g, &node);
        fm_meet(g->call, workers);
        if (here.slot >= 0 && FN(bins_of_children)(g, &node, here.slot)) break;
        fm_meet(g->call, workers);
        if (workers == 1) continue;
        for (; worker == 0 && p->top >= 0 && FN(little)(g, p->nodes[p->top].end - p->nodes[p->top].start); p->top--) {
            memcpy(g->later + p->waiting * (K + 1), g->segments + p->top * (K + 1), (size_t)(K + 1) * sizeof(intptr_t));
            p->later[p->waiting++] = p->nodes[p->top];
        }
        fm_meet(g->call, workers);
    }
}

/* A node that waited, and all below it, by one worker: a call of its own in all that workers write. */
static void FN(grow_alone)(const FN(grove) * team, intptr_t i) {
    fm_tree own = *team->p;
    FN(grove) grove = *team, *g = &grove;
    const size_t segments = (size_t)(own.K + 1) * sizeof(intptr_t);
    g->p = &own;
    g->worker = 0, g->workers = 1;
    g->blocks = team->alone.blocks, g->sums = team->alone.sums, g->cum = team->alone.cum, g->totals = team->alone.totals;
    g->segments = team->alone.segments, g->splits = &g->alone.split;
    memcpy(g->segments, team->later + i * (own.K + 1), segments);
    own.nodes[0] = own.later[i];
    own.top = own.exact = 0;
    FN(grow_nodes)(g);
}

static size_t FN(grow)(fm_tree *p, intptr_t worker, intptr_t workers) {
    FN(grove) grove, *g = &grove;
    FN(plant)(p, worker, workers, g);
    if (!p->scratch) return g->bytes;
    uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(g->call);
    const intptr_t K = p->K, C = g->C, P = g->P, N = g->N;

    /* the root: weights by block, and which rows grow the tree */
    if (worker == 0) {
        intptr_t whole[2] = {0, N};
        p->blocks = FN(cut_blocks)(g, p->classes ? p->classes : whole);
        p->next = 0;
    }
    fm_meet(g->call, workers);
    for (intptr_t b; (b = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->blocks;) {
        fm_block *block = &g->blocks[b];
        double sum = 0, moment = 0;
        intptr_t some = 0;
        for (intptr_t j = block->from; j < block->to; j++) some += p->weight[j] > 0;
        for (intptr_t j = block->from; j < block->to; j++) sum += p->weight[j];
        if (g->squares)
            for (intptr_t j = block->from; j < block->to; j++) moment += p->weight[j] * p->target[j];
        block->left = some;
        block->sums[0][0] = sum;
        block->sums[0][1] = moment;
    }
    fm_meet(g->call, workers);
    if (worker == 0) {
        double moment = 0, sum = 0;
        intptr_t some = 0;
        for (intptr_t b = 0; b < p->blocks; b++) {
            some += g->blocks[b].left;
            sum += g->blocks[b].sums[0][0];
            moment += g->blocks[b].sums[0][1];
        }
        p->centre = sum > 0 ? moment / sum : 0;
        p->unit = g->squares ? FN(unit_of)(sum) : 1; /* w y² of small weights would vanish */
        p->waiting = 0;
        p->listed = p->chosen || some < N;
        p->exact = 0;
        p->top = 0;
        p->nodes[0] = (fm_node){0, 0, 0, N, -1};
        for (intptr_t i = 0; i < P; i++) p->feature[i] = -1, p->threshold[i] = INFINITY, p->missing_left[i] = 1;
        for (intptr_t i = 0; i <= 2 * P; i++) p->count[i] = 0;
        for (intptr_t i = 0; i < (2 * P + 1) * C; i++) p->value[i] = 0;
        intptr_t *segments = g->segments;
        for (intptr_t k = 0; k <= K; k++) segments[k] = p->classes ? p->classes[k] : k * N;
        if (p->listed) {
            intptr_t n = 0, many = p->chosen ? p->many : N, k = 0;
            memset(g->node, 0xff, 2 * (size_t)N);
            for (intptr_t j = 0; j < many; j++) {
                intptr_t row = p->chosen ? p->chosen[j] : j;
                if (!(p->weight[row] > 0)) continue;
                while (p->classes && k < K && row >= p->classes[k]) segments[k++] = n;
                g->lists[0][n++] = (int32_t)row;
                g->node[row] = 0;
            }
            if (!p->classes) k = 1;
            for (; k <= K; k++) segments[k] = n;
            p->nodes[0].end = n;
        }
        p->count[0] = p->nodes[0].end;
    }
    fm_meet(g->call, workers);
    if (g->squares)
        for (intptr_t j = fm_share(N, worker, workers); j < fm_share(N, worker + 1, workers); j++) {
            double w = p->weight[j] * p->unit, y = p->target[j] - p->centre;
            g->target[j] = (FN(quad)){w, w * y, w * y * y, 1};
        }
    fm_meet(g->call, workers);
    if (worker == 0) {
        if (p->listed || g->squares) {
            const int32_t *list = p->listed ? g->lists[0] : 0;
            for (intptr_t k = 0; k < K; k++)
                for (intptr_t j = g->segments[k]; j < g->segments[k + 1]; j++) {
                    FN(add_row)(g, list ? list[j] : j, k, p->value);
                }
        } else
            for (intptr_t b = 0; b < p->blocks; b++) p->value[g->blocks[b].k] += g->blocks[b].sums[0][0];
        if (!g->squares) FN(level_out)(p->value, C);
        if (!(P > 0 && p->count[0] > 1 && !FN(pure)(g, p->value))) {
            p->top = -1;
            FN(at_rest)(g, 0);
        }
    }
    fm_meet(g->call, workers);

    FN(grow_nodes)(g);
    if (workers > 1 && !fm_stopped(g->call)) { /* those that wait for a worker of their own */
        fm_meet(g->call, workers);
        if (worker == 0) p->next = 0;
        fm_meet(g->call, workers);
        for (intptr_t i; (i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->waiting && !fm_stopped(g->call);)
            FN(grow_alone)(g, i);
    }
    if (fm_stopped(g->call)) goto ended;

    /* rows that did not grow the tree, and all rows of a root that does not split */
    fm_meet(g->call, workers);
    if (p->count[0] < N || p->feature[0] < 0) {
        const int all = p->feature[0] < 0;
        intptr_t levels = 0;
        while ((1 << levels) - 1 < P) levels++;
        for (intptr_t row = fm_share(N, worker, workers); row < fm_share(N, worker + 1, workers); row++) {
            if (!all && g->node[row] != ELSEWHERE) continue;
            intptr_t i = 0;
            for (intptr_t l = 0; l < levels; l++) {
                const intptr_t d = p->feature[i];
                int goes = 1;
                if (d >= 0) {
                    const intptr_t r = p->rank[d * N + row];
                    goes = r < FN(valued)(g, d) ? (double)((const REAL *)p->values)[d * N + r] <= p->threshold[i]
                                                : p->missing_left[i];
                }
                i = 2 * i + 2 - goes;
            }
            p->leaf[row] = (uint8_t)(i - P);
            if (p->incorrect) p->incorrect[row] = FN(heaviest)(p->value + i * C, C) != FN(class_of)(g, row);
        }
    }
    fm_meet(g->call, workers);
    if (worker == 0 && g->squares)
        for (intptr_t i = 0; i < (2 * P + 1) * C; i++) p->value[i] /= p->unit;
ended:
    fm_restore(mode);
    return g->bytes;
}
