/* The drivers of the recurrent passes: how time, batch and workers are cut. What a step computes is its cell's
 * (rnn_body.h, gru_body.h, lstm_body.h), which sets FM_GATES and defines, for its tiles,
 *
 *   forward   FN(weights), FN(step)                   backward   FN(back_weights), FN(back_step)
 *
 * Sequences are ranked by falling length, so that the ones still running at a step are the first n, and a sequence
 * costs what its length costs. Ranks are cut into panels that bound the scratch. Within a panel, time is cut into chunks
 * of a fixed number of rows (a row is one step of one sequence):
 *
 *   forward    gather x, project the chunk as one product, hand the sums over as the accumulators that each step starts
 *              from. Workers own ranks and run all of time alone.
 *   backward   step by step: dh = da_next . w_hh in registers, cell backward, da into the chunk. Then, while it is in
 *              cache: dx (split by rows), dw and db (split by columns). Workers own ranks for the steps, and meet once per
 *              chunk; two chunks alternate, so that a worker may start the next while others still read the last.
 *
 * With fewer sequences than workers and weights large enough (p->team, recurrent.pxi), the workers are a team instead: each
 * takes all sequences through all steps for hidden units of its own, and they meet at every step to exchange states.
 *
 * Where a worker turns out to have no core of its own, worker 0 goes on alone from the next chunk (fm_meet_alone).
 *
 * A pass of one step (p->single), whose weights nobody packed, transposes each group of columns into a small buffer that stays in
 * cache and uses it at once; its workers are a team, or each would transpose all groups.
 *
 * A sum does not depend on what else is in its tile, and chunks of the backward, which sums of weights are cut by, depend
 * on the shape alone: bits do not depend on the number of workers. Rows of scratch are padded
 * to whole vectors of zeros and by one vector more, so that rows at power-of-two sizes do not share cache sets.
 */

#undef PADDED
#define PADDED(n) (((n) + L - 1) / L * L + L)

/* Rows of a chunk: enough to share the packed weights' way through the cache, and at least 12, the height of two tiles. */
static intptr_t FN(chunk_rows)(const fm_pass *p, intptr_t most) {
    double flops_per_row = 2.0 * FM_GATES * p->H * ((double)p->I + p->H);
    double rows = 2e9 * (L * sizeof(REAL) / 64.0) / flops_per_row;
    return rows >= most ? most : rows < 12 ? 12 : (intptr_t)rows;
}

/* Of the ranks order[0], order[step], ... (n of them): how many run at step s. */
INLINE intptr_t FN(running)(const fm_pass *p, const intptr_t *order, intptr_t step, intptr_t n, intptr_t s) {
    while (n > 0 && p->lengths[order[(n - 1) * step]] <= s) n--;
    return n;
}

/* The place in time of step s of sequence b, as a row of x and y. */
INLINE intptr_t FN(time_row)(const fm_pass *p, intptr_t s, intptr_t b) {
    return (p->reverse ? p->lengths[b] - 1 - s : s) * p->B + b;
}

/* Where step s of a rank is kept for the backward pass. Rows of saved arrays lie close, in the order of processing: where
 * lengths are unequal, what is behind them is never touched, and fresh memory costs by the page (5 % of a training pass
 * over lengths of 100 to 1000). The state of the cell before step s is its state after step s - 1; before step 0, a row of
 * its own in front. */
INLINE intptr_t FN(saved_row)(const fm_pass *p, intptr_t s, intptr_t rank) {
    return (p->starts ? p->starts[s] : s * p->B) + rank;
}
INLINE intptr_t FN(cells_before)(const fm_pass *p, intptr_t s, intptr_t rank) {
    return s == 0 ? rank : p->B + FN(saved_row)(p, s - 1, rank);
}

INLINE void FN(copy_row)(REAL *to, const REAL *from, intptr_t n, intptr_t ld) {
    memcpy(to, from, n * sizeof(REAL));
    memset(to + n, 0, (ld - n) * sizeof(REAL));
}

/* The blocks of hidden units that a worker owns: all of them, or in a team a share of whole fours, the groups that packed
 * columns come in. */
typedef struct {
    intptr_t from, to;
} FN(own);

static FN(own) FN(share_blocks)(const fm_pass *p, intptr_t worker, intptr_t workers) {
    intptr_t blocks = (p->H + L - 1) / L, fours = (blocks + 3) / 4;
    FN(own) own = {fm_share(fours, worker, workers) * 4, fm_share(fours, worker + 1, workers) * 4};
    if (own.to > blocks) own.to = blocks;
    return own;
}

static FN(own) FN(own_blocks)(const fm_pass *p, intptr_t worker, intptr_t workers) {
    return p->team ? FN(share_blocks)(p, worker, workers) : FN(share_blocks)(p, 0, 1);
}

/* The units of these blocks, of a row of H; zeros fill the last block. */
INLINE void FN(copy_units)(REAL *to, const REAL *from, FN(own) own, intptr_t H) {
    intptr_t first = own.from * L, end = own.to * L, copied = end < H ? end : H;
    if (first >= end) return;
    memcpy(to + first, from + first, (copied - first) * sizeof(REAL));
    memset(to + copied, 0, (end - copied) * sizeof(REAL));
}

/* Zeros for what lies beyond the length of sequence b. */
static void FN(zero_padding)(fm_pass *p, REAL *a, intptr_t N, intptr_t b, intptr_t worker) {
    for (intptr_t t = p->lengths[b]; t < p->T && !fm_poll(&p->call, worker, FM_MOVED * N); t++)
        memset(a + (t * p->B + b) * N, 0, N * sizeof(REAL));
}

/* A worker's own state of the CPU, and the caller's again. */
static uint64_t FN(enter)(fm_pass *p, intptr_t worker) {
    uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
#if FM_RUNG == FM_AMX
    FN(configure)();
    if (worker == 0) p->call.resume = FN(configure);
#endif
    return mode;
}
static void FN(leave)(uint64_t mode) {
#if FM_RUNG == FM_AMX
    fm_tile_release();
#endif
    fm_restore(mode);
}

/* ------------------------------------------------------------------------------------------------------ forward */

typedef struct {
    fm_pass *p;
    intptr_t worker, team; /* team: how many meet at every step, or 1 */
    intptr_t chunks;       /* so far */
    fm_presence presence;
    FN(own) own;
    intptr_t H, vectors, blocks, ldh, ldx, ldp; /* vectors: of the gates' columns; blocks: of L hidden units */
    REAL *w_ih, *w_hh, *bias;                   /* packed */
    REAL *group;                                /* of a single step: room for two groups of columns, else NULL */
    REAL *w_n, *b_n;                            /* gru: the candidate's recurrent weights (reset before) or bias (after) */
    REAL *h[2], *c, *xs, *projected;            /* this worker's rows; the team's, but for xs and projected */
    REAL *rh, *z;                               /* gru, reset before: between the two products of a step */
    REAL *parts;                                /* this worker's: rows made ready for tiles */
    intptr_t *time_rows, *saved_rows;
} FN(run);

/* One step of one slice: n rows. */
typedef struct {
    intptr_t n;
    const REAL *h_in;
    REAL *h_out;
    const REAL *projected;
    const intptr_t *time_rows, *saved_rows;
    int backwards; /* walk the blocks from the last to the first: what the last step left in cache is used first */
} FN(at);

/* The places of the packed weights. A single step packs nothing but biases; a few look-ups leave w_ih as it is. Look-ups
 * read numbers, products what tiles take. */
static void FN(weights_scratch)(const fm_pass *p, int single, fm_arena *arena, FN(run) * f) {
    intptr_t H = p->H, blocks = (H + L - 1) / L, columns = blocks * FM_GATES * L;
    const int look_up = p->ids && !p->packed, few = look_up && p->T * p->B < p->I / 4;
    f->w_ih = single || few ? 0 : fm_take(arena, columns * (look_up ? p->I : FM_PACKED(p->I)) * sizeof(REAL));
    f->w_hh = single ? 0 : fm_take(arena, columns * FM_PACKED(H) * sizeof(REAL));
    f->w_n = FM_SPLIT && !single ? fm_take(arena, blocks * L * FM_PACKED(H) * sizeof(REAL)) : 0;
    f->bias = fm_take(arena, columns * sizeof(REAL));
    f->b_n = fm_take(arena, blocks * L * sizeof(REAL));
}

static size_t FN(forward_scratch)(fm_pass *p, intptr_t worker, intptr_t workers, intptr_t rows, FN(run) * f) {
    fm_arena arena = {p->scratch, 0}, packed = {p->packed, 0};
    intptr_t H = p->H, blocks = (H + L - 1) / L;
    const intptr_t most = p->ids || H > p->I ? H : p->I; /* the numbers of a row that tiles read */
    f->p = p;
    f->worker = worker;
    f->team = p->team ? workers : 1;
    f->own = FN(own_blocks)(p, worker, workers);
    f->H = H;
    f->blocks = blocks;
    f->vectors = blocks * FM_GATES;
    f->ldh = PADDED(H);
    f->ldx = PADDED(p->I);
    f->ldp = f->vectors * L + L;
#if FM_RUNG == FM_AMX
    run_f32_avx512 numbers = {0};
    if (p->packed) weights_scratch_f32_avx512(p, 0, &packed, &numbers); /* lies before this rung's (pack) */
#endif
    FN(weights_scratch)(p, p->single, p->packed ? &packed : &arena, f);
#if FM_RUNG == FM_AMX
    if (p->packed && p->ids) f->w_ih = numbers.w_ih;
#endif
    FN(run) mine = *f;
    for (intptr_t w = 0; w < workers; w++) {
        if (w == 0 || !p->team) {
            for (int i = 0; i < 2; i++) mine.h[i] = fm_take(&arena, rows * f->ldh * sizeof(REAL));
            mine.c = fm_take(&arena, rows * f->ldh * sizeof(REAL));
            mine.rh = FM_SPLIT ? fm_take(&arena, rows * f->ldh * sizeof(REAL)) : 0;
            mine.z = FM_SPLIT ? fm_take(&arena, rows * f->ldh * sizeof(REAL)) : 0;
        }
        mine.xs = p->ids ? 0 : fm_take(&arena, rows * f->ldx * sizeof(REAL));
        mine.group = p->single ? fm_take(&arena, 8 * L * FM_PACKED(most) * sizeof(REAL)) : 0;
        mine.projected = fm_take(&arena, rows * f->ldp * sizeof(REAL));
        mine.parts = fm_take(&arena, FM_PARTS(rows, most) * sizeof(REAL));
        mine.time_rows = fm_take(&arena, rows * sizeof(intptr_t));
        mine.saved_rows = fm_take(&arena, rows * sizeof(intptr_t));
        if (w == worker) *f = mine;
    }
    return arena.used;
}

/* The packed columns of nb groups of nv vectors each, from vector v on, of w (gates * H, K). */
INLINE const REAL *FN(columns)(const FN(run) * f, const int gates, const REAL *packed, const void *w, intptr_t K, intptr_t v,
                               intptr_t nv, intptr_t nb) {
    if (!f->group) return packed + v * FM_PACKED(K) * L;
    for (intptr_t b = 0; b < nb; b++)
        FN(pack_group)(gates, w, f->H, K, v + b * nv, nv, f->group + b * FM_PACKED(K) * nv * L);
    return f->group;
}

/* Packs w_ih as `project` reads it, where it does. Look-ups read columns of numbers: the AVX-512 rung's, on AMX too. */
static void FN(pack_inputs)(const FN(run) * f, intptr_t worker, intptr_t workers) {
    fm_pass *p = f->p;
    if (!f->w_ih) return;
#if FM_RUNG == FM_AMX
    if (p->ids) {
        pack_gates_f32_avx512(p, FM_GATES, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
        return;
    }
#endif
    FN(pack_gates)(p, FM_GATES, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
}

/* projected[r] = bias + column ids[r] of w_ih, the worker's own units: what the product with a one-hot x comes to. */
static void FN(look_up)(const FN(run) * f, intptr_t rows) {
    const fm_pass *p = f->p;
    const intptr_t I = p->I, from = f->own.from * FM_GATES, to = f->own.to * FM_GATES;
    for (intptr_t r = 0; r < rows; r++) {
        const intptr_t id = p->ids[f->time_rows[r]];
        REAL *out = f->projected + r * f->ldp;
        if (!f->w_ih)
            for (intptr_t i = from * L; i < to * L; i++) {
                intptr_t row = FN(gate_row)(FM_GATES, f->H, i / L, i % L);
                out[i] = row < 0 ? 0 : f->bias[i] + ((const REAL *)p->w_ih)[row * I + id];
            }
        else
            for (intptr_t v = from, nv; v < to; v += nv) {
                nv = GATE_GROUP(FM_GATES, to - v);
                const REAL *column = f->w_ih + v * I * L + id * nv * L;
                for (intptr_t i = 0; i < nv; i++)
                    vstore(out + (v + i) * L, vload(f->bias + (v + i) * L) + vload(column + i * L));
            }
        if (fm_poll(&f->p->call, f->worker, FM_MOVED * (to - from) * L)) return;
    }
}

/* projected[r] = bias + x[r] . w_ih for the rows of a chunk, the worker's own columns. */
static void FN(project)(const FN(run) * f, intptr_t rows) {
    if (f->p->ids) {
        FN(look_up)(f, rows);
        return;
    }
    const intptr_t K = f->p->I, to = f->own.to * FM_GATES;
    const FN(left) x = FN(split)(f->parts, f->xs, f->ldx, rows, K);
    for (intptr_t v = f->own.from * FM_GATES, nv; v < to; v += nv) {
        nv = GATE_GROUP(FM_GATES, to - v);
        const REAL *w = FN(columns)(f, FM_GATES, f->w_ih, f->p->w_ih, K, v, nv, 1);
        FM_EACH_TILE(0, rows, ROWS_MAX(nv), r, m)
            FN(tiles)[nv][m](f->bias + v * L, 0, x.a + r * x.ld, x.ld, 1, w, 0, nv * L, K,
                             f->projected + r * f->ldp + v * L, f->ldp);
        if (fm_poll(&f->p->call, f->worker, 2.0 * rows * K * nv * L)) return;
    }
}

static void FN(weights)(FN(run) * f, intptr_t worker, intptr_t workers);
static void FN(step)(const FN(run) * f, const FN(at) * at);

/* A sequence has taken its last step (or none): its final states, and zeros behind it. */
static void FN(finish)(const FN(run) * f, intptr_t b, const REAL *h, const REAL *c) {
    fm_pass *p = f->p;
    memcpy((REAL *)p->h_n + b * p->H, h, p->H * sizeof(REAL));
    if (p->c_n) memcpy((REAL *)p->c_n + b * p->H, c, p->H * sizeof(REAL));
    FN(zero_padding)(p, p->y, p->H, b, f->worker);
}

/* n ranks, every `step`-th of `order`, through all of time. In a team, worker 0 does what is not shared out. False: this
 * worker is to leave. */
static int FN(forward_panel)(FN(run) * f, const intptr_t *order, intptr_t step, intptr_t n, intptr_t chunk) {
    fm_pass *p = f->p;
    const intptr_t H = p->H, I = p->I;
    const int leads = f->team == 1 || f->worker == 0;
    const intptr_t first = order - p->order;
    for (intptr_t r = 0; r < n && leads; r++) {
        intptr_t b = order[r * step];
        FN(copy_row)(f->h[0] + r * f->ldh, (const REAL *)p->h0 + b * H, H, f->ldh);
        memset(f->h[1] + r * f->ldh, 0, f->ldh * sizeof(REAL));
        if (!p->c0) continue;
        FN(copy_row)(f->c + r * f->ldh, (const REAL *)p->c0 + b * H, H, f->ldh);
        if (p->cells) memcpy((REAL *)p->cells + (first + r * step) * H, (const REAL *)p->c0 + b * H, H * sizeof(REAL));
    }
    intptr_t running = FN(running)(p, order, step, n, 0);
    for (intptr_t r = running; r < n && leads; r++)
        FN(finish)(f, order[r * step], f->h[0] + r * f->ldh, f->c + r * f->ldh);
    fm_meet(&p->call, f->team);

    int now = 0;
    for (intptr_t s = 0; running > 0;) {
        intptr_t rows = 0, end = s, left = running;
        for (; left > 0 && rows + left <= chunk; left = FN(running)(p, order, step, left, ++end))
            for (intptr_t r = 0; r < left; r++, rows++) {
                intptr_t b = order[r * step], row = FN(time_row)(p, end, b);
                f->time_rows[rows] = row;
                f->saved_rows[rows] = FN(saved_row)(p, end, first + r * step);
                if (!p->ids) memcpy(f->xs + rows * f->ldx, (const REAL *)p->x + row * I, I * sizeof(REAL));
            }
        FN(project)(f, rows);
        for (rows = 0; s < end;) {
            FN(at) at = {running, f->h[now], f->h[1 - now], f->projected + rows * f->ldp,
                         f->time_rows + rows, f->saved_rows + rows, now};
            FN(step)(f, &at);
            if (s + 1 < end) {
                fm_meet(&p->call, f->team);
            } else if (fm_meet_alone(p, f->worker, f->team, ++f->chunks, &f->presence)) {
                if (f->worker > 0) return 0;
                f->team = 1;
                f->own = FN(share_blocks)(p, 0, 1);
            }
            if (fm_stopped(&p->call)) return 0;
            rows += running;
            now = 1 - now;
            left = FN(running)(p, order, step, running, ++s);
            for (intptr_t r = left; r < running && leads; r++)
                FN(finish)(f, order[r * step], f->h[now] + r * f->ldh, f->c + r * f->ldh);
            running = left;
        }
    }
    return 1;
}

/* Packs the weights alone, into p->scratch; on AMX behind the AVX-512 rung's, for few sequences and look-ups. */
static size_t FN(pack)(fm_pass *p, intptr_t worker, intptr_t workers) {
    FN(run) f = {.p = p, .worker = worker, .H = p->H};
    fm_arena arena = {p->scratch, 0};
#if FM_RUNG == FM_AMX
    arena.used = pack_f32_avx512(p, worker, workers);
#endif
    FN(weights_scratch)(p, 0, &arena, &f);
    if (!p->scratch) return arena.used;
    uint64_t mode = FN(enter)(p, worker);
    FN(weights)(&f, worker, workers);
    FN(leave)(mode);
    return arena.used;
}

static size_t FN(forward)(fm_pass *p, intptr_t worker, intptr_t workers) {
#if FM_RUNG == FM_AMX
    if (p->B < FM_AMX_ROWS) return forward_f32_avx512(p, worker, workers);
#endif
    FN(run) f = {0};
    intptr_t chunk = FN(chunk_rows)(p, p->H < 256 ? 96 : 192);
    size_t bytes = FN(forward_scratch)(p, worker, workers, chunk, &f);
    if (!p->scratch) return bytes;
    uint64_t mode = FN(enter)(p, worker);
    f.presence = fm_begin(p, workers);
    if (!p->packed) {
        FN(weights)(&f, worker, workers);
        fm_meet(&p->call, workers);
    }
    /* Panel i takes every panels-th rank from i on: long and short sequences are shared out evenly. */
    const intptr_t sharing = p->team ? 1 : workers;
    intptr_t panels = ((p->B + chunk - 1) / chunk + sharing - 1) / sharing * sharing;
    for (intptr_t i = p->team ? 0 : worker; i < panels; i += sharing)
        if (!FN(forward_panel)(&f, p->order + i, panels, (p->B - i + panels - 1) / panels, chunk)) break;
    FN(leave)(mode);
    return bytes;
}

/* ------------------------------------------------------------------------------------------------------ backward */

/* What the steps of a chunk leave for the gradients of the weights. */
typedef struct {
    REAL *da;          /* (rows, vectors * L) gradient of x's product, in the gates' columns */
    REAL *dah;         /* gradient of h's product: da itself, or gru's own */
    REAL *dn, *rh;     /* gru, reset before: the candidate's column alone, and the reset state it was multiplied with */
    REAL *hs, *xs;     /* the states before the steps, and the inputs */
    intptr_t *time_rows, *saved_rows, *cells_before; /* in a team each worker has its own, all alike */
} FN(chunk);

typedef struct {
    fm_pass *p;
    intptr_t worker, workers, team;
    FN(own) own;
    intptr_t H, blocks, vectors, hvectors, ldh, ldx, ldd; /* hvectors: of the columns of dah */
    REAL *w_ih, *w_hh, *w_n;                              /* packed for the products with da and dah (and dn) */
    REAL *dw_ih, *dw_hh, *dw_n, *db, *dbh;                /* sums, in the gates' columns */
    REAL *parts;                                          /* this worker's: rows made ready for tiles */
    REAL *carry, *dc; /* (panel) what reaches h and c from the step after, apart from the product with dah */
    FN(chunk) chunks[2];
} FN(back);

/* One step of a worker's ranks: `rank`, `rank` + `stride`, ... of the panel, so that long and short sequences are shared
 * out evenly; in a team all of them. A rank's rows in scratch and chunk are those of its place in the panel, whoever owns
 * it. */
typedef struct {
    FN(chunk) * chunk;
    intptr_t rank, stride;
    intptr_t first;       /* the step's first row in the chunk */
    int backwards;        /* walk the columns from the last to the first */
    const REAL *dah_next; /* rows of the step after (in processing), or NULL for sequences whose last step this is */
} FN(back_at);

static size_t FN(backward_scratch)(fm_pass *p, intptr_t worker, intptr_t workers, intptr_t rows, FN(back) * f) {
    fm_arena arena = {p->scratch, 0};
    intptr_t H = p->H, blocks = (H + L - 1) / L, I = p->I;
    int hgates = FM_SPLIT && !p->option ? 2 : FM_GATES;
    intptr_t lists = p->team ? workers : 1;
    f->p = p;
    f->worker = worker;
    f->workers = workers;
    f->team = p->team ? workers : 1;
    f->own = FN(own_blocks)(p, worker, workers);
    f->H = H;
    f->blocks = blocks;
    f->vectors = blocks * FM_GATES;
    f->hvectors = blocks * hgates;
    f->ldh = PADDED(H);
    f->ldx = PADDED(I);
    f->ldd = f->vectors * L + L;
    f->w_ih = p->ids ? 0 : fm_take(&arena, FM_PACKED(f->vectors * L) * PADDED(I) * sizeof(REAL));
    f->w_hh = fm_take(&arena, FM_PACKED(f->vectors * L) * PADDED(H) * sizeof(REAL));
    f->w_n = FM_SPLIT ? fm_take(&arena, FM_PACKED(blocks * L) * PADDED(H) * sizeof(REAL)) : 0;
    f->dw_ih = fm_take(&arena, f->vectors * L * I * sizeof(REAL));
    f->dw_hh = fm_take(&arena, f->vectors * L * H * sizeof(REAL));
    f->dw_n = FM_SPLIT ? fm_take(&arena, blocks * L * H * sizeof(REAL)) : 0;
    f->db = fm_take(&arena, f->vectors * L * sizeof(REAL));
    f->dbh = fm_take(&arena, f->vectors * L * sizeof(REAL));
    f->carry = fm_take(&arena, rows * f->ldh * sizeof(REAL));
    f->dc = fm_take(&arena, rows * f->ldh * sizeof(REAL));
    for (int i = 0; i < 2; i++) {
        FN(chunk) *c = &f->chunks[i];
        c->da = fm_take(&arena, rows * f->ldd * sizeof(REAL));
        c->dah = FM_SPLIT ? fm_take(&arena, rows * f->ldd * sizeof(REAL)) : c->da;
        c->dn = FM_SPLIT ? fm_take(&arena, rows * f->ldh * sizeof(REAL)) : 0;
        c->rh = FM_SPLIT ? fm_take(&arena, rows * f->ldh * sizeof(REAL)) : 0;
        c->hs = fm_take(&arena, rows * f->ldh * sizeof(REAL));
        c->xs = p->ids ? 0 : fm_take(&arena, rows * f->ldx * sizeof(REAL));
        for (intptr_t w = 0; w < lists; w++) {
            intptr_t *time_rows = fm_take(&arena, rows * sizeof(intptr_t));
            intptr_t *saved_rows = fm_take(&arena, rows * sizeof(intptr_t));
            intptr_t *cells_before = fm_take(&arena, rows * sizeof(intptr_t));
            if (w > 0 && w != worker) continue;
            c->time_rows = time_rows;
            c->saved_rows = saved_rows;
            c->cells_before = cells_before;
        }
    }
    /* of rows of da, or of columns beside a group of columns of da (outer) */
    intptr_t of_rows = FM_PARTS(rows, f->vectors * L), of_columns = FM_PARTS((p->ids || H > I ? H : I) + 4 * L, rows);
    for (intptr_t w = 0; w < workers; w++) {
        REAL *parts = fm_take(&arena, (of_rows > of_columns ? of_rows : of_columns) * sizeof(REAL));
        if (w == worker) f->parts = parts;
    }
    return arena.used;
}

static void FN(back_weights)(FN(back) * f);
static void FN(back_step)(const FN(back) * f, const FN(back_at) * at, intptr_t from, intptr_t to);

/* Rows of the step after, of own ranks number [from, to), made ready for `dh_sums`; none for NULL. */
INLINE FN(left) FN(split_dah)(const FN(back) * f, const FN(back_at) * at, intptr_t from, intptr_t to) {
    const REAL *dah = at->dah_next;
    return FN(split)(f->parts, dah ? dah + (at->rank + from * at->stride) * f->ldd : 0, at->stride * f->ldd, to - from,
                     f->hvectors * L);
}

/* sums = what reaches h of m own ranks from r on: `init` (rows of carry, or none), then the product with the step after,
 * whose row of r is number i of dah.
 * The upstream gradient is added by the cell, last, so that a sequence that is cut and carried on sums in the same order.
 */
INLINE void FN(dh_sums)(FN(sums) * sums, const FN(back) * f, const REAL *init, FN(left) dah, intptr_t i, intptr_t j,
                        intptr_t nv, intptr_t r, intptr_t m, intptr_t step) {
    intptr_t K = f->hvectors * L;
    FN(tiles)[nv][m](init ? init + r * f->ldh + j * L : 0, step * f->ldh, dah.a ? dah.a + i * dah.ld : 0, dah.ld, 1,
                     f->w_hh + j * FM_PACKED(K) * L, 0, nv * L, dah.a ? K : 0, (REAL *)sums->v, nv * L);
}

/* Gradient of the initial states of the first `to` own ranks, whose first step's dah is given. */
static void FN(dh0)(const FN(back) * f, const FN(back_at) * at, const intptr_t *order, intptr_t to) {
    const FN(left) dah = FN(split_dah)(f, at, 0, to);
    FN(sums) sums;
    FM_EACH_GROUP(f->own.from, f->own.to, 0, j, nv) {
        FM_EACH_TILE(0, to, ROWS_MAX(nv), i, m) {
            intptr_t first = at->rank + i * at->stride;
            FN(dh_sums)(&sums, f, FM_CARRY ? f->carry : 0, dah, i, j, nv, first, m, at->stride);
            const V *sum = sums.v;
            for (intptr_t r = first; r < first + m * at->stride; r += at->stride)
                for (intptr_t unit = j * L; unit < (j + nv) * L; unit += L)
                    FN(store_tail)((REAL *)f->p->dh0 + order[r] * f->H + unit, *sum++, f->H - unit);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * to * f->hvectors * L * nv * L)) return;
    }
}

/* The gradients that a finished chunk of `rows` rows gives: this worker's share of each. */
static void FN(chunk_gradients)(FN(back) * f, const FN(chunk) * c, intptr_t rows, intptr_t worker, intptr_t workers) {
    fm_pass *p = f->p;
    intptr_t I = p->I, H = p->H, ldd = f->ldd, ldh = f->ldh;
    intptr_t from = fm_share(I, worker, workers), to = fm_share(I, worker + 1, workers);
    if (p->ids) {
        FN(own) units = FN(share_blocks)(p, worker, workers);
        FN(outer_ids)(p, worker, c->time_rows, rows, c->da, ldd, f->dw_ih, units.from * FM_GATES, units.to * FM_GATES);
    } else {
        FN(scatter)(p, worker, fm_share(rows, worker, workers), fm_share(rows, worker + 1, workers), c->da, ldd,
                    f->vectors * L, f->w_ih, p->dx, c->time_rows, I, f->parts);
        FN(outer)(p, worker, FM_GATES, from, to, I, c->xs, f->ldx, c->da, ldd, rows, f->dw_ih, f->vectors, f->parts);
    }
    from = fm_share(H, worker, workers), to = fm_share(H, worker + 1, workers);
    if (FM_SPLIT && !p->option) {
        FN(outer)(p, worker, 2, from, to, H, c->hs, ldh, c->dah, ldd, rows, f->dw_hh, f->hvectors, f->parts);
        FN(outer)(p, worker, 1, from, to, H, c->rh, ldh, c->dn, ldh, rows, f->dw_n, f->blocks, f->parts);
    } else
        FN(outer)(p, worker, FM_GATES, from, to, H, c->hs, ldh, c->dah, ldd, rows, f->dw_hh, f->vectors, f->parts);
    from = fm_share(f->vectors, worker, workers), to = fm_share(f->vectors, worker + 1, workers);
    FN(add_rows)(c->da, ldd, rows, f->db, from, to);
    if (FM_SPLIT && p->option) FN(add_rows)(c->dah, ldd, rows, f->dbh, from, to);
}

/* Zero (first) or write out (last) the sums of weights that this worker owns. */
static void FN(own_sums)(const FN(back) * f, int last, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    const int before = FM_SPLIT && !p->option;
    const struct {
        int gates;
        REAL *sum;
        intptr_t N;
        void *dw;
    } all[] = {
        {FM_GATES, f->dw_ih, p->I, p->dw_ih},
        {before ? 2 : FM_GATES, f->dw_hh, p->H, p->dw_hh},
        {1, f->dw_n, before ? p->H : 0, (REAL *)p->dw_hh + 2 * p->H * p->H},
    };
    for (int i = 0; i < 3; i++) {
        intptr_t N = all[i].N, from = fm_share(N, worker, workers), to = fm_share(N, worker + 1, workers);
        if (N == 0) continue;
        if (last) {
            FN(unpack_gates)(f->p, all[i].gates, all[i].sum, p->H, N, all[i].dw, from, to, worker);
            continue;
        }
        intptr_t vectors = f->blocks * all[i].gates;
        for (intptr_t v = 0, nv; v < vectors; v += nv) {
            nv = all[i].gates > 1 ? all[i].gates : GROUP(vectors - v);
            if (fm_poll(&f->p->call, worker, FM_MOVED * (to - from) * nv * L)) return;
            memset(all[i].sum + (v * N + from * nv) * L, 0, (to - from) * nv * L * sizeof(REAL));
        }
    }
    for (intptr_t v = fm_share(f->vectors, worker, workers); v < fm_share(f->vectors, worker + 1, workers); v++) {
        const REAL *dbh = FM_SPLIT && p->option ? f->dbh : f->db;
        if (!last) {
            memset(f->db + v * L, 0, L * sizeof(REAL));
            memset(f->dbh + v * L, 0, L * sizeof(REAL));
        } else
            for (intptr_t l = 0; l < L; l++) {
                intptr_t row = FN(gate_row)(FM_GATES, p->H, v, l);
                if (row < 0) break;
                ((REAL *)p->db_ih)[row] = f->db[v * L + l];
                ((REAL *)p->db_hh)[row] = dbh[v * L + l];
            }
    }
}

/* Step s of own ranks number [from, to): gather what the chunk needs, then the cell's own backward. */
static void FN(back_rows)(const FN(back) * f, const FN(back_at) * at, const intptr_t *order, intptr_t s, intptr_t from,
                          intptr_t to) {
    const fm_pass *p = f->p;
    const intptr_t H = p->H, I = p->I, first = p->team ? fm_share(I, f->worker, f->workers) : 0,
                   inputs = (p->team ? fm_share(I, f->worker + 1, f->workers) : I) - first;
    if (from >= to) return;
    for (intptr_t r = at->rank + from * at->stride; r < at->rank + to * at->stride; r += at->stride) {
        intptr_t b = order[r], i = at->first + r, row = FN(time_row)(p, s, b);
        at->chunk->time_rows[i] = row;
        at->chunk->saved_rows[i] = FN(saved_row)(p, s, order - p->order + r);
        at->chunk->cells_before[i] = FN(cells_before)(p, s, order - p->order + r);
        const REAL *before = s == 0 ? (const REAL *)p->h0 + b * H
                                    : (const REAL *)p->y + (p->reverse ? row + p->B : row - p->B) * H;
        FN(copy_units)(at->chunk->hs + i * f->ldh, before, f->own, H);
        if (!p->ids)
            memcpy(at->chunk->xs + i * f->ldx + first, (const REAL *)p->x + row * I + first,
                   inputs * sizeof(REAL));
    }
    FN(back_step)(f, at, from, to);
}

/* Own ranks number [from, to), whose last step comes next, start from the gradient of their final states. */
static void FN(final_gradients)(const FN(back) * f, const FN(back_at) * at, const intptr_t *order, intptr_t from,
                                intptr_t to) {
    const fm_pass *p = f->p;
    for (intptr_t r = at->rank + from * at->stride; r < at->rank + to * at->stride; r += at->stride) {
        FN(copy_units)(f->carry + r * f->ldh, (const REAL *)p->dh_n + order[r] * f->H, f->own, f->H);
        if (p->dc_n) FN(copy_units)(f->dc + r * f->ldh, (const REAL *)p->dc_n + order[r] * f->H, f->own, f->H);
    }
}

/* How many of the first n ranks are own. */
INLINE intptr_t FN(count)(intptr_t n, const FN(back_at) * at) { return (n - at->rank + at->stride - 1) / at->stride; }

static size_t FN(backward)(fm_pass *p, intptr_t worker, intptr_t workers) {
#if FM_RUNG == FM_AMX
    if (p->B < FM_AMX_ROWS) return backward_f32_avx512(p, worker, workers);
#endif
    FN(back) f;
    const intptr_t rows_most = FN(chunk_rows)(p, 128);
    size_t bytes = FN(backward_scratch)(p, worker, workers, rows_most, &f);
    if (!p->scratch) return bytes;
    uint64_t mode = FN(enter)(p, worker);
    fm_presence presence = fm_begin(p, workers);
    FN(back_weights)(&f);
    FN(own_sums)(&f, 0, worker, workers);
    fm_meet(&p->call, workers);

    const intptr_t panels = (p->B + rows_most - 1) / rows_most;
    FN(back_at) at = {.rank = p->team ? 0 : worker, .stride = p->team ? 1 : workers};
    int now = 0;
    intptr_t chunks = 0;
    for (intptr_t i = 0; i < panels && !fm_stopped(&p->call); i++) {
        const intptr_t q = fm_share(p->B, i, panels), n = fm_share(p->B, i + 1, panels) - q, *order = p->order + q;
        for (intptr_t r = worker; r < n && !p->ids; r += workers) FN(zero_padding)(p, p->dx, p->I, order[r], worker);

        const REAL *dah_next = 0;
        intptr_t s = p->lengths[order[0]], after = 0; /* `after` ranks run at the step after s - 1 */
        while (s > 0) {
            FN(chunk) *chunk = at.chunk = &f.chunks[now];
            intptr_t rows = 0;
            for (; s > 0; s--) {
                intptr_t running = after;
                while (running < n && p->lengths[order[running]] >= s) running++;
                if (rows + running > rows_most) break;
                if (rows > 0) fm_meet(&p->call, f.team); /* the chunk's end is a meeting of its own */
                intptr_t middle = FN(count)(after, &at), end = FN(count)(running, &at);
                at.first = rows;
                at.backwards = s & 1;
                at.dah_next = dah_next;
                FN(back_rows)(&f, &at, order, s - 1, 0, middle);
                at.dah_next = 0;
                FN(final_gradients)(&f, &at, order, middle, end);
                FN(back_rows)(&f, &at, order, s - 1, middle, end);
                if (fm_stopped(&p->call)) break;
                dah_next = chunk->dah + rows * f.ldd;
                rows += running;
                after = running;
            }
            const int alone = fm_meet_alone(p, worker, workers, ++chunks, &presence);
            if (fm_stopped(&p->call)) break;
            if (alone) {
                if (worker > 0) goto ended;
                f.workers = f.team = workers = at.stride = 1;
                f.own = FN(share_blocks)(p, 0, 1);
            }
            FN(chunk_gradients)(&f, chunk, rows, worker, workers);
            now = 1 - now;
        }
        if (fm_stopped(&p->call)) break;
        at.dah_next = dah_next;
        FN(dh0)(&f, &at, order, FN(count)(after, &at));
        for (intptr_t r = worker; r < n; r += workers) {
            intptr_t b = order[r];
            const int none = r >= after; /* a sequence without a step hands its gradients through */
            if (none) memcpy((REAL *)p->dh0 + b * f.H, (const REAL *)p->dh_n + b * f.H, f.H * sizeof(REAL));
            if (p->dc0)
                memcpy((REAL *)p->dc0 + b * f.H, none ? (const REAL *)p->dc_n + b * f.H : f.dc + r * f.ldh,
                       f.H * sizeof(REAL));
        }
        fm_meet(&p->call, f.team); /* the next panel takes over the rows of this one */
    }
    if (p->ids) fm_meet(&p->call, workers); /* sums of look-ups are shared out by units */
    if (!fm_stopped(&p->call)) FN(own_sums)(&f, 1, worker, workers);
ended:
    FN(leave)(mode);
    return bytes;
}
