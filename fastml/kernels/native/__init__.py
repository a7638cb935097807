"""Cython and C SIMD: compiled ahead of time, every ISA rung in one build.

From the outside in: <family>.pyx unwraps the arrays (recurrent.pxi), <family>.h walks ISA rungs and dtypes (ladder.h),
<family>_body.h is the cell, recurrent.h cuts time, batch and workers, product.h is register tiles and packing (the AMX
rung's: product_amx.h, over the instructions in amx.h), act.h sigmoid and tanh, vec.h the vector, pass.h what a pass's
workers share. Mixtures: mixture.pxi, <family>_body.h the densities and sums of a block of rows, posterior.h exp, log
and responsibilities, mixture.h how tiles are added in their order. Both: job.pxi, call.h, isa.h which rungs there are.
"""
