/* One call of a softmax kernel, as every rung sees it, and what its workers share. No vectors in here. */
#ifndef FM_SOFTMAX_H
#define FM_SOFTMAX_H

#include "call.h"

typedef struct fm_softmax {
    fm_call call;
    intptr_t N, classes, H;
    const intptr_t *target; /* one for each row of x or logits */
    const intptr_t *rows;   /* linear: (N) the rows of x that count, rising; N is their number */
    double scale;
    const void *logits;
    const void *x, *weight, *bias;
    void *loss;
    void *dlogits;              /* NULL: not wanted */
    void *dx, *dweight, *dbias; /* all NULL, or none */
    intptr_t next;              /* part of the rows, or row, that no worker has taken */
    char *scratch;              /* 64-byte aligned, as many bytes as the kernel asks for when scratch is NULL */
} fm_softmax;

/* Worker `worker` of `workers` does its share. With p->scratch NULL: returns the bytes wanted for `workers`, only. */
typedef size_t (*fm_softmax_kernel)(fm_softmax *p, intptr_t worker, intptr_t workers);

#define FM_WITHOUT_AMX
#define FM_BODY "softmax_body.h"
#include "ladder.h"

static const fm_softmax_kernel fm_softmax_cross_entropy[FM_RUNGS][2] = FM_TABLE(cross_entropy);
static const fm_softmax_kernel fm_softmax_linear[FM_RUNGS][2] = FM_TABLE(linear);

#endif
