/* What a split is worth: at the borders of a feature's bins, at most inside a bin, and at each row. The scores are
 * reference/tree.py's; all are convex functions of L, the channels' sums on the left (R = T - L).
 *
 * Weights come scaled so that a node's are about 1 in all, hence squares neither overflow nor vanish.
 *
 * The bounds. Inside a bin L is A + d with 0 <= d_k <= D_k, the bin's own sums. For sums of squares over a sum,
 *     |A + d|² / (W + δ) = |A|² / W + Σ (2 a_k - |a|²) d_k + |d - a δ|² / (W + δ),   a = A / W, δ = Σ d
 * holds exactly. No part of d - a δ is beyond m_k = max(a_k (Δ - D_k), (1 - a_k) D_k), so that the last term is at most
 * Σ m_k² over the least weight that the side has; and as |d - a δ|² <= δ Σ d_k |e_k - a|² and δ / (W + δ) rises, at most
 * Δ Σ D_k |e_k - a|² / (W + Δ) of a side that grows, where W is little. With the score at a bin's border and the positive
 * part of its slope times D, these bound the score inside; from either border. (Σ m_k² / (W + Δ) of a side that grows is no
 * bound: test_few_rows_before_a_bin.) What is left by that is bounded by the corners of the box, 2^C of them, where there
 * are few.
 */

#undef WIDE
#define WIDE (FM_BINS + 8) /* of a channel's sums up to each border: bins + 1 of them */

#undef CORNERS
#define CORNERS 6 /* classes whose corners are looked at */

#undef NEVER
#define NEVER 1e300

/* Of one feature under one side for NaN, by border or bin. */
typedef struct FN(borders) {
    double score[WIDE], bound[WIDE], wl[WIDE], wr[WIDE], il[WIDE], ir[WIDE], ll[WIDE], rr[WIDE];
    double up[WIDE], down[WIDE], x[WIDE], y[WIDE], z[WIDE];
    double al[WIDE], ar[WIDE]; /* Σ a_k D_k: of the left at the lower border, of the right at the upper one */
    double left[2][WIDE], right[2][WIDE]; /* remainders from the lower border, and from the upper one */
} FN(borders);

INLINE double FN(xlogx)(double x) { return x > 0 ? x * log(x) : 0; }
INLINE double FN(larger)(double a, double b) { return a > b ? a : b; }
INLINE double FN(smaller)(double a, double b) { return a < b ? a : b; }

/* Weights of both sides at each border, and what they divide by. */
static void FN(sides)(intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T, FN(borders) * o) {
    for (intptr_t b = 0; b <= n; b++) o->wl[b] = o->wr[b] = o->ll[b] = o->rr[b] = 0;
    for (intptr_t k = 0; k < C; k++) {
        const double *at = cum + k * WIDE, e = extra[k], t = T[k];
        for (intptr_t b = 0; b <= n; b++) {
            double l = at[b] + e, r = t - l;
            o->wl[b] += l;
            o->wr[b] += r;
            o->ll[b] += l * l;
            o->rr[b] += r * r;
        }
    }
}

static void FN(gini)(intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T, FN(borders) * o) {
    FN(sides)(C, n, cum, extra, T, o);
    for (intptr_t b = 0; b <= n; b++) {
        double il = o->wl[b] > 0 ? 1 / o->wl[b] : 0, ir = o->wr[b] > 0 ? 1 / o->wr[b] : 0;
        o->score[b] = o->ll[b] * il + o->rr[b] * ir;
        o->ll[b] *= il * il;
        o->rr[b] *= ir * ir;
        o->il[b] = il;
        o->ir[b] = ir;
        o->up[b] = o->down[b] = o->al[b] = o->ar[b] = o->left[0][b] = o->left[1][b] = o->right[0][b] = o->right[1][b] = 0;
    }
    for (intptr_t b = 0; b < n; b++) o->x[b] = o->wl[b + 1] - o->wl[b];
    for (intptr_t k = 0; k < C; k++) { /* a side that is empty scores at most its weight: slope 1, no remainder */
        const double *at = cum + k * WIDE, e = extra[k], t = T[k];
        for (intptr_t b = 0; b <= n; b++) {
            double l = at[b] + e, r = t - l;
            o->y[b] = l * o->il[b];
            o->z[b] = r * o->ir[b];
        }
        for (intptr_t b = 0; b < n; b++) {
            double d = at[b + 1] - at[b], rest = o->x[b] - d;
            double gl = o->il[b] > 0 ? 2 * o->y[b] - o->ll[b] : 1, gr = o->ir[b] > 0 ? 2 * o->z[b] - o->rr[b] : 1;
            o->up[b] += FN(larger)(gl - gr, 0) * d;
            gl = o->il[b + 1] > 0 ? 2 * o->y[b + 1] - o->ll[b + 1] : 1, gr = o->ir[b + 1] > 0 ? 2 * o->z[b + 1] - o->rr[b + 1] : 1;
            o->down[b] += FN(larger)(gr - gl, 0) * d;
            o->al[b] += o->y[b] * d;
            o->ar[b] += o->z[b + 1] * d;
            double m = FN(larger)(o->y[b] * rest, (1 - o->y[b]) * d);
            o->left[0][b] += m * m;
            m = FN(larger)(o->z[b] * rest, (1 - o->z[b]) * d);
            o->right[0][b] += m * m;
            m = FN(larger)(o->y[b + 1] * rest, (1 - o->y[b + 1]) * d);
            o->left[1][b] += m * m;
            m = FN(larger)(o->z[b + 1] * rest, (1 - o->z[b + 1]) * d);
            o->right[1][b] += m * m;
        }
    }
    for (intptr_t b = 0; b < n; b++) {
        const double d = o->x[b]; /* d (d (1 + |a|²) - 2 Σ a_k D_k) is d Σ D_k |e_k - a|² */
        double left = 0, right = o->right[0][b] * o->ir[b + 1];
        if (o->il[b] > 0)
            left = FN(smaller)(o->left[0][b] * o->il[b], d * (d * (1 + o->ll[b]) - 2 * o->al[b]) * o->il[b + 1]);
        double a = o->ir[b + 1] > 0 ? o->score[b] + o->up[b] + left + right : NEVER;
        left = o->left[1][b] * o->il[b], right = 0;
        if (o->ir[b + 1] > 0)
            right = FN(smaller)(o->right[1][b] * o->ir[b + 1], d * (d * (1 + o->rr[b + 1]) - 2 * o->ar[b]) * o->ir[b]);
        double z = o->il[b] > 0 ? o->score[b + 1] + o->down[b] + left + right : NEVER;
        o->bound[b] = FN(smaller)(a, z);
    }
}

/* The greatest score at the corners of bin b, 2^C of them. */
static double FN(corners)(int criterion, intptr_t C, intptr_t b, const double *cum, const double *extra, const double *T) {
    double w[1 << CORNERS], q[1 << CORNERS], r[1 << CORNERS], W = 0, most = 0;
    intptr_t n = 1;
    w[0] = q[0] = r[0] = 0;
    for (intptr_t k = 0; k < C; k++) {
        double l = cum[k * WIDE + b] + extra[k], m = cum[k * WIDE + b + 1] + extra[k], s = T[k] - l, u = T[k] - m;
        double low = l * l, high = m * m, right = s * s, rest = u * u;
        if (criterion == FM_ENTROPY) low = FN(xlogx)(l), high = FN(xlogx)(m), right = FN(xlogx)(s), rest = FN(xlogx)(u);
        W += T[k];
        for (intptr_t j = 0; j < n; j++) {
            w[n + j] = w[j] + m;
            q[n + j] = q[j] + high;
            r[n + j] = r[j] + rest;
            w[j] += l;
            q[j] += low;
            r[j] += right;
        }
        n *= 2;
    }
    if (criterion == FM_ENTROPY) {
        most = -NEVER;
        for (intptr_t j = 0; j < n; j++) most = FN(larger)(most, q[j] + r[j] - FN(xlogx)(w[j]) - FN(xlogx)(W - w[j]));
        return most;
    }
    double best[1 << CORNERS];
    for (intptr_t j = 0; j < n; j++) {
        double l = w[j], s = W - w[j];
        best[j] = (l > 0 ? q[j] / l : 0) + (s > 0 ? r[j] / s : 0);
    }
    for (intptr_t j = 0; j < n; j++) most = FN(larger)(most, best[j]);
    return most;
}

/* Σ g_k(L_k) - h(W) with g_k(x) = φ(x) + φ(T_k - x), h(W) = φ(W) + φ(W_T - W), all convex. As Σ L_k = W, c L_k may be taken
 * from each g_k and c W from h: with c the slope of h in the middle of the bin, h - c W is least there, and each g_k - c x is
 * greatest at an end. */
static void FN(entropy)(intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T, FN(borders) * o) {
    FN(sides)(C, n, cum, extra, T, o);
    for (intptr_t b = 0; b <= n; b++) {
        o->score[b] = -FN(xlogx)(o->wl[b]) - FN(xlogx)(FN(larger)(o->wr[b], 0));
        o->bound[b] = 0;
    }
    for (intptr_t b = 0; b < n; b++) {
        double l = (o->wl[b] + o->wl[b + 1]) / 2, r = (o->wr[b] + o->wr[b + 1]) / 2;
        double logl = l > 0 ? log(l) : 0, logr = r > 0 ? log(r) : 0;
        o->x[b] = l > 0 && r > 0 ? logl - logr : 0;
        o->y[b] = l * logl + r * logr - o->x[b] * l;
    }
    for (intptr_t k = 0; k < C; k++) {
        const double *at = cum + k * WIDE, e = extra[k], t = T[k];
        if (t == 0) continue;
        for (intptr_t b = 0; b <= n; b++) {
            o->z[b] = FN(xlogx)(at[b] + e) + FN(xlogx)(t - (at[b] + e));
            o->score[b] += o->z[b];
        }
        for (intptr_t b = 0; b < n; b++)
            o->bound[b] += FN(larger)(o->z[b] - o->x[b] * (at[b] + e), o->z[b + 1] - o->x[b] * (at[b + 1] + e));
    }
    for (intptr_t b = 0; b < n; b++) o->bound[b] -= o->y[b];
}

/* The largest class on the left is at most its sum at the upper border, that on the right its sum at the lower one; one
 * class cannot be both. */
static void FN(error)(intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T, FN(borders) * o) {
    FN(sides)(C, n, cum, extra, T, o);
    for (intptr_t b = 0; b <= n; b++) {
        double l1 = 0, l2 = 0, r1 = 0, r2 = 0, l = 0, r = 0;
        intptr_t kl = -1, kr = -1, end = b < n ? b + 1 : b;
        for (intptr_t k = 0; k < C; k++) {
            double here = cum[k * WIDE + b] + extra[k], right = T[k] - here, left = cum[k * WIDE + end] + extra[k];
            l = FN(larger)(l, here), r = FN(larger)(r, right);
            if (left > l1) l2 = l1, l1 = left, kl = k;
            else l2 = FN(larger)(l2, left);
            if (right > r1) r2 = r1, r1 = right, kr = k;
            else r2 = FN(larger)(r2, right);
        }
        o->score[b] = l + r;
        o->bound[b] = kl != kr ? l1 + r1 : kl < 0 ? 0 : FN(larger)(FN(larger)(l1 + r2, l2 + r1), T[kl]);
    }
}

/* Channels w, wy, wy². With m the means of both sides at a border and t = (m_L + m_R) / 2, moving rows of the bin to the left
 * changes the score by 2 (m_L - m_R) Σ w (y - t) and remainders of at most δ / (W + δ) Σ w (y - m)², as above with
 * (Σ w (y - m))² <= δ Σ w (y - m)²; and a sum of positive parts is (Σ x + Σ |x|) / 2, Σ w |x| <= (Δ Σ w x²)^½. */
INLINE double FN(moved)(double sign, double ml, double mr, double d, double ds, double dq) {
    double t = (ml + mr) / 2, s = ds - t * d, q = dq - t * (2 * ds - t * d), slope = 2 * (ml - mr) * sign;
    return fabs(slope) * (sqrt(FN(larger)(d * q, 0)) + (slope > 0 ? s : -s)) / 2;
}
INLINE double FN(spread)(double m, double d, double ds, double dq) { return FN(larger)(dq - m * (2 * ds - m * d), 0); }

static void FN(squared_error)(intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T,
                              FN(borders) * o) {
    (void)C;
    const double *W = cum, *S = cum + WIDE, *Q = cum + 2 * WIDE;
    for (intptr_t b = 0; b <= n; b++) {
        double wl = W[b] + extra[0], wr = T[0] - wl, sl = S[b] + extra[1], sr = T[1] - sl;
        o->wl[b] = wl, o->wr[b] = wr;
        o->il[b] = wl > 0 ? 1 / wl : 0, o->ir[b] = wr > 0 ? 1 / wr : 0;
        o->ll[b] = sl * o->il[b], o->rr[b] = sr * o->ir[b]; /* means */
        o->score[b] = sl * o->ll[b] + sr * o->rr[b];
    }
    for (intptr_t b = 0; b < n; b++) {
        double d = W[b + 1] - W[b], ds = S[b + 1] - S[b], dq = Q[b + 1] - Q[b];
        double a = NEVER, z = NEVER;
        if (!(d > 0)) {
            o->bound[b] = -NEVER;
            continue;
        }
        if (o->ir[b + 1] > 0) { /* an empty side may take any m: the bin's own */
            double ml = o->il[b] > 0 ? o->ll[b] : ds / d, mr = o->rr[b];
            a = o->score[b] + FN(moved)(1, ml, mr, d, ds, dq) +
                d * (FN(spread)(ml, d, ds, dq) * o->il[b + 1] + FN(spread)(mr, d, ds, dq) * o->ir[b + 1]);
        }
        if (o->il[b] > 0) {
            double ml = o->ll[b + 1], mr = o->ir[b + 1] > 0 ? o->rr[b + 1] : ds / d;
            z = o->score[b + 1] + FN(moved)(-1, ml, mr, d, ds, dq) +
                d * (FN(spread)(ml, d, ds, dq) * o->il[b] + FN(spread)(mr, d, ds, dq) * o->ir[b]);
        }
        o->bound[b] = FN(smaller)(a, z);
    }
}

static void FN(at_borders)(int criterion, intptr_t C, intptr_t n, const double *cum, const double *extra, const double *T,
                           FN(borders) * o) {
    switch (criterion) {
    case FM_GINI: FN(gini)(C, n, cum, extra, T, o); break;
    case FM_ENTROPY: FN(entropy)(C, n, cum, extra, T, o); break;
    case FM_ERROR: FN(error)(C, n, cum, extra, T, o); break;
    default: FN(squared_error)(C, n, cum, extra, T, o);
    }
}

/* The better of two splits: by score, then as the contract orders equals. */
INLINE int FN(better)(const fm_split *a, const fm_split *b) {
    if (a->score != b->score) return a->score > b->score;
    if (a->feature != b->feature) return a->feature < b->feature;
    if (a->left != b->left) return a->left < b->left;
    return a->position < b->position;
}

/* Sums of both sides while rows go from the right to the left, one after the other. The sums of squares, or of x ln x, are
 * carried along, and taken anew before what the subtractions lose can tell two splits apart: every 64 rows, and when the right
 * side has lost half of its weight. */
typedef struct FN(walker) {
    intptr_t C, rows;
    double *left, *right, *fl, *fr; /* C each */
    double wl, wr, ql, qr, half;
} FN(walker);

INLINE void FN(settle)(const int criterion, FN(walker) * w) {
    if (criterion == FM_SQUARED_ERROR) return;
    w->rows = 0;
    w->wl = w->wr = w->ql = w->qr = 0;
    for (intptr_t k = 0; k < w->C; k++) {
        double l = w->left[k], r = w->right[k];
        w->wl += l;
        w->wr += r;
        if (criterion == FM_ENTROPY) w->ql += w->fl[k], w->qr += w->fr[k];
        else if (criterion == FM_GINI) w->ql += l * l, w->qr += r * r;
        else w->ql = FN(larger)(w->ql, l), w->qr = FN(larger)(w->qr, r);
    }
    w->half = w->wr / 2;
}

INLINE void FN(start)(const int criterion, FN(walker) * w, const double *left, const double *T) {
    for (intptr_t k = 0; k < w->C; k++) {
        w->left[k] = left[k];
        w->right[k] = T[k] - left[k];
        if (criterion != FM_ENTROPY) continue;
        w->fl[k] = FN(xlogx)(w->left[k]);
        w->fr[k] = FN(xlogx)(w->right[k]);
    }
    FN(settle)(criterion, w);
}

INLINE void FN(pass_row)(const int criterion, FN(walker) * w, intptr_t k, double x) {
    double l = w->left[k], r = w->right[k];
    w->left[k] = l + x;
    w->right[k] = r - x;
    w->wl += x;
    w->wr -= x;
    if (criterion == FM_ENTROPY) {
        double fl = FN(xlogx)(l + x), fr = FN(xlogx)(r - x);
        w->ql += fl - w->fl[k];
        w->qr += fr - w->fr[k];
        w->fl[k] = fl;
        w->fr[k] = fr;
    } else if (criterion == FM_GINI) {
        w->ql += x * (2 * l + x);
        w->qr -= x * (2 * r - x);
    } else {
        w->ql = FN(larger)(w->ql, l + x);
        if (r == w->qr) w->rows = 63; /* the largest on the right has become smaller */
    }
    if (++w->rows == 64 || w->wr < w->half) FN(settle)(criterion, w);
}

/* Of the rows that have passed; below any score where a side is empty, and perhaps where it is below `least`. */
INLINE double FN(worth)(const int criterion, const FN(walker) * w, double least) {
    if (criterion == FM_SQUARED_ERROR) {
        const double *l = w->left, *r = w->right;
        return l[0] > 0 && r[0] > 0 ? l[1] * l[1] / l[0] + r[1] * r[1] / r[0] : -NEVER;
    }
    if (!(w->wl > 0 && w->wr > 0)) return -NEVER;
    if (criterion == FM_ENTROPY) return w->ql + w->qr - FN(xlogx)(w->wl) - FN(xlogx)(w->wr);
    if (criterion == FM_ERROR) return w->ql + w->qr;
    /* most are rejected without a division */
    if (w->ql * w->wr + w->qr * w->wl < least * (1 - 1e-14) * (w->wl * w->wr)) return -NEVER;
    return w->ql / w->wl + w->qr / w->wr;
}
