"""Cython and C SIMD: compiled ahead of time, every ISA rung in one build.

From the outside in: <family>.pyx unwraps the arrays (recurrent.pxi), <family>.h walks ISA rungs and dtypes (ladder.h),
<family>_body.h is the cell, recurrent.h cuts time, batch and workers, product.h is register tiles and packing (the AMX
rung's: product_amx.h, over the instructions in amx.h), act.h sigmoid and tanh, vec.h the vector, pass.h what a pass's
workers share, isa.h which rungs there are.
"""
