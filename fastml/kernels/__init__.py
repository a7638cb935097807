"""The kernels: one folder per back end, the same file names in each.

    table.py      KERNELS: one row per kernel, plain data; tests, benchmarks and `fastml.show()` are loops over it
    reference/    NumPy: the equations, the definition that the others are tested against
    jit/          Numba: compiled here, for this CPU, on first use
    native/       Cython and C SIMD: compiled ahead of time, every ISA rung in one build

The contract of a kernel
------------------------
* A kernel is a whole pass: one layer, one direction, all steps, input projection and weight gradients included, so that
  each back end can arrange it as its hardware likes. Inputs first, outputs last, in the order of the table's row.
* Arrays are C-contiguous, of one dtype (float32 or float64); sizes and indices are intp, never narrower. The API has
  checked everything: kernels check nothing. Inputs are never written to. Outputs come uninitialised and are written
  completely, except the rows of saved arrays that belong to padding. Nothing aliases.
* x may be indices instead: intp of shape (T, B) in the place of (T, B, I), each the place of the 1 in a one-hot x_t
  that is never made. The product with w_ih is then a look-up of its column, dw_ih gets the sums of the rows that looked
  each column up, and dx is None. 0 ≤ index < I = w_ih's columns, except at padding, where it may be anything.
* T, B may be 0; I, H are at least 1. `lengths` (B,) holds 0 ≤ length ≤ T; x and dy at padding are never read (NaN
  there is harmless), y and dx at padding are 0, h_n and c_n are the states after each sequence's own last step (the
  initial state where the length is 0).
* A kernel with `reverse` runs each sequence from its own last element to its first. x, y, dy, dx are in the order of
  time; saved arrays are in the order of processing: row s belongs to the s-th step taken, whichever element that is
  (`native` closes the gaps that unequal lengths leave: a tape is for the back end that made it).
  State sequences are (T+1, B, H), row 0 being the initial state, so that "before step s" and "after it" are rows s
  and s+1.
* An output that is None is not wanted (the inference pass keeps nothing).
* NaN in, NaN out in the sequence it belongs to; no crash, no read outside an array.
* `jit` and `native` share their work through `fastml.threads.run`, give the same bits for any number of workers, and
  notice Ctrl-C within 0.2 s (`jit` not while it first packs weights of thousands of units, which took up to 1 s at
  H = 4096; `reference` between two calls of NumPy). A failed call leaves no allocation behind.
* The AMX rung of `native` computes the products of float32 passes over at least 16 sequences from three bfloat16 parts
  of each number, to the accuracy of float32; smaller batches and float64 are the AVX-512 rung's, bit for bit. Its bits
  do not depend on the number of workers, nor on a cut in time; those of a sequence do not depend on its company among
  batches of at least 16, nor among smaller ones, but they differ from one to the other, and a look-up differs from the
  product with a one-hot x. Finite numbers beyond 3.39e38 count as infinite there, and those below 8e-34 lose digits. It
  is never chosen by itself.
* Denormals count as zero in `jit` and `native` (flushed in every worker, and the caller's setting restored).

Gates are PyTorch's: LSTM i, f, g, o; GRU r, z, n.

Mixtures, besides
-----------------
* Statistics are float64 whatever the dtype of X, and are ADDED to what the arrays hold: tile after tile of `TILE` rows,
  in the order of the rows, so that rows given in several calls give the bits of one call where all parts but the last
  are multiples of a tile. They are taken about the means given, which therefore should be near the new ones.
* `second` is Σ r (x - μ)(x - μ)ᵀ of each component, its upper triangle (the rest may be anything); its diagonal for
  "diag"; Σ r |x - μ|² for "spherical"; None for "tied", whose scatter about a fixed point does not change from step to
  step.
* A factor U of a covariance is upper triangular (what lies below is never read), U Uᵀ = Σ⁻¹. A constant may be -inf.
* resp, log_likelihood and labels may each be None. sample_weight may be None, for ones. Labels are the largest
  responsibility's, the first of equal ones.
* N may be 0; D, V and K are at least 1. A row that is not finite gives NaN (an infinity perhaps a log-density of -inf)
  in its own results, and NaN in all statistics. Posteriors below e^-60 (float32) or e^-100 (float64) may count as 0 in
  statistics.
* Logarithms of multinomial probabilities are finite; 0 counts add nothing. `Rows` may name a word twice in a row.

Trees, besides
--------------
* A tree of a depth is complete, in heap order: the children of node i are 2i + 1 and 2i + 2. A node that does not split
  has feature -1, threshold inf and missing_left True, so that all its rows go left; the value and count of its left
  child, grandchild … are its own, those of its right ones 0. x goes left where x ≤ threshold, NaN where missing_left.
* Rows in `rows` (rising; None for all) whose weight is above 0 grow the tree; `leaf` is of all rows. `classes` are
  where the rows of each class begin, and N; or it is None and there is a `target`, incorrect None.
* `value` is the weight of each class in a node, those within `LEVEL` of the largest being made equal to it; of a target
  y, Σw, Σwy and Σwy². `incorrect` are the rows whose class is not the one of most weight in their leaf (the first).
* The split of a node is the one of the lowest criterion, of equal ones that of the lowest feature, NaN on the right
  rather than on the left, the lowest threshold. Only rounding may tell the back ends' choices apart.
  The threshold is midway between two rows' values, or where that rounds to the greater one, the smaller.
  A node of fewer than two rows, or of impurity at most 2^-52, does not split; else it does, however little it gains.
* The number of rows is below 2^31. A tree has at most 8 levels of splits.
* `scores` come with a start that is added to. leaf_value is (E, L, 1), for one column each, or column is None.
  `labels`, the columns of the largest scores, the first of equal ones, may be None.
* `place` of tree_quantile is a leaf's among all, sorted by their values, which `value` and `weight` are then in the
  order of. A row's weights are summed in that order, and the quantile is the value at which they first reach q of all.
* `rows` of tree_encode are the rows of X in the order wanted.

Boosting, besides
-----------------
* Sums are float64 whatever the dtype of the weights, and are written, not added to; `native` and `jit` sum `CHUNK` rows
  at a time and add the chunks in their order, so that the bits are those of any number of workers.
* `incorrect` is a byte for each row, any but 0 for a row that was misclassified. `right` and `wrong` are the sums of
  the weights of both kinds; `least` is the smallest weight, or 0 where that is smaller: below 0 it tells of a negative
  weight, as `right` and `wrong` tell of NaN and infinities, in the same pass.
* `scaled` may be sample_weight itself. next_incorrect may be None, and then right, wrong and least are None; otherwise
  they are those of the scaled weights, as rounded, and next_incorrect.
* sample_weight of the exponential kernels may be None, for ones. A weight of 0 gives 0 whatever the exponent. `most` is
  the largest exponent of a weight above 0 (-inf without any), total = Σ w exp(exponent - most), weight = Σ w. Either of
  gradient and hessian may be None. Exponents of -inf give 0; NaN, and a `most` of inf, give a total of NaN.
* N may be 0; K is at least 2.

Softmax, besides
----------------
* A row whose target is -1 is never read: its loss and gradients are 0, and it adds nothing to dweight and dbias.
  Otherwise 0 ≤ target < V.
* `scale` multiplies all gradients; losses are of each row. dlogits may be None; dx, dweight and dbias are None
  together.
* NaN or +inf among a row's logits gives NaN in its loss and gradient (and in dweight and dbias), and so do logits that
  are all -inf; one of -inf has probability 0, and the loss is inf where it is the target's.
* softmax_linear never holds all logits: `native` those of 16 vectors of rows (256 of float32 on AVX-512), `jit` some
  2^19 bytes of them, or 64 rows. dweight and dbias are sums over such blocks of the rows that count, in their order, or
  over parts of them that depend on N, V and H alone.
* A row's loss, dx and dlogits have the same bits alone and in any company, in `native`. Its AMX rung is AVX-512's here.
* N may be 0; V and H are at least 1.

Adam, besides
-------------
* Arrays are those of all numbers of a parameter, whatever its shape. The outputs of `adam_update` may be its inputs;
  every number follows from those in its own place.
* rate and eps come with the roots of bias correction in them: r α / (1 - β₁ᵗ) and r ε, r = √(1 - β₂ᵗ), in step t.
* `total` is the sum of squares in float64 whatever the dtype, in chunks as the sums of boosting; NaN or inf where a
  number is. Gradients of `adam_update` are finite; second is at least 0.
* Where gradient, first and second are 0, so are their successors, and the weight stays as it is: eps is above 0.
* N may be 0.
"""
