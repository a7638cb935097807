"""Numba: compiled for this CPU on first use and cached; needs no C compiler.

    rnn.py gru.py lstm.py    the cells: their equations on vectors, and which buffers a chunk of time has
    sequence.py              the order of steps, chunks of time, and who does what
    inputs.py                the product with w_ih, or the look-up of its columns, and back
    product.py               the one matrix product, and how weights are packed for it
    arithmetic.py            sigmoid and tanh
    simd.py                  a SIMD register as a Numba type
    compiling.py             njit with a cache

Compiling a cell's two passes takes 3 to 4 s for each dtype, once for each version of the source.
"""
