/* One call of a tree's kernel, as every rung sees it, and what its workers share. No vectors in here. */
#ifndef FM_TREE_H
#define FM_TREE_H

#include <math.h>

#include "call.h"

enum { FM_GINI, FM_ENTROPY, FM_ERROR, FM_SQUARED_ERROR }; /* as in table.CRITERIA */

#define FM_BINS 256 /* table.BINS */
#define FM_TIE 1e-7 /* table.TIE */
#define FM_LEVEL 0x1p-40 /* table.LEVEL */
#define FM_DEPTH 8
#define FM_LATER 128 /* nodes that are split, of which none is below another: of the last level but one */

/* A node that is still to be split. */
typedef struct fm_node {
    intptr_t i, level;   /* its number in heap order */
    intptr_t start, end; /* its rows in the list of its level; of the root without a list, rows 0 to N */
    int slot;            /* its sums over bins, or -1: not made */
} fm_node;

typedef struct fm_split {
    double score;
    intptr_t feature, position; /* rows at lower positions go left */
    intptr_t before;            /* position of the last row on the left; -1: still to be found */
    int left;                   /* NaN goes left */
} fm_split;

/* Rows of one class of the node that is being parted: what goes where. */
typedef struct fm_block {
    intptr_t k, from, to, left; /* of the list */
    intptr_t to_left, to_right; /* where its rows go in the next level's list */
    double sums[2][3];          /* of its rows on the left and on the right, a channel each */
} fm_block;

typedef struct fm_tree {
    fm_call call;
    intptr_t N, D, K, E, P, M; /* rows, features, classes (1 for a target); trees, nodes that may split, columns */
    int criterion;

    /* coded rows */
    void *values;
    int32_t *order, *rank, *starts;
    uint8_t *codes;
    intptr_t *bins;

    /* encode */
    const void *X;
    const intptr_t *rows;

    /* grow */
    const intptr_t *classes;
    const double *weight, *target;
    const int32_t *chosen; /* rows that grow the tree, `many` of them; NULL for all */
    intptr_t many;
    intptr_t *feature, *count;
    double *threshold, *value;
    uint8_t *missing_left, *leaf, *incorrect;

    /* apply, scores and quantile: the trees' feature, threshold, missing_left and leaf, and */
    const intptr_t *column;
    const double *leaf_value;
    double *scores;
    intptr_t *labels;
    const intptr_t *place; /* quantile: its leaves' places, values and weights, and where it goes */
    const double *sorted, *heavy;
    double q, *quantile;

    char *scratch; /* 64-byte aligned, as many bytes as the kernel asks for when scratch is NULL */
    intptr_t next; /* task that no worker has taken */

    /* growing */
    intptr_t top, blocks;
    fm_node nodes[FM_DEPTH + 2], later[FM_LATER]; /* a stack; those that wait for a worker of their own */
    intptr_t waiting;
    fm_split split;
    int listed, exact, searched[2]; /* rows are in lists; the node on top is walked as a whole; its children are searched */
    int found; /* a split of the node on top; -1: to be looked for once more */
    double centre, shift, scale, unit; /* the target's mean, and that of the node on top about it; of its weights, and of all rows with a target */
} fm_tree;

/* Worker `worker` of `workers` does its share. With p->scratch NULL: returns the bytes wanted for `workers`, only. */
typedef size_t (*fm_tree_kernel)(fm_tree *p, intptr_t worker, intptr_t workers);

#define FM_WITHOUT_AMX
#define FM_BODY "tree_body.h"
#include "ladder.h"

static const fm_tree_kernel fm_tree_encode[FM_RUNGS][2] = FM_TABLE(encode);
static const fm_tree_kernel fm_tree_grow[FM_RUNGS][2] = FM_TABLE(grow);
static const fm_tree_kernel fm_tree_traverse[FM_RUNGS][2] = FM_TABLE(traverse);

#endif
