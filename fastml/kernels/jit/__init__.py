"""Numba: compiled for this CPU on first use and cached; needs no C compiler.

    rnn.py gru.py lstm.py    the cells: their equations on vectors, and which buffers a chunk of time has
    sequence.py              the order of steps, chunks of time, and who does what
    inputs.py                the product with w_ih, or the look-up of its columns, and back
    product.py               the one matrix product, and how weights are packed for it
    gaussian.py multinomial.py    mixtures: densities, responsibilities, statistics, a tile of rows at a time
    softmax.py               softmax with cross-entropy, of logits and of a linear layer, a block of rows at a time
    arithmetic.py            sigmoid, tanh, exp and log
    simd.py                  a SIMD register as a Numba type
    compiling.py             njit with a cache

Compiling a family's kernels takes 3 to 4 s for each dtype, once for each version of the source.
"""
