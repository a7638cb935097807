"""The compiled extensions; everything else about the package is in pyproject.toml.

One extension per family. Each carries every ISA rung of the machine it is built for (native/ladder.h), so the same
flags serve everywhere and never name a CPU. `optional`: without a working C compiler the install succeeds without
the native back end, and `fastml.show()` says so.
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FOLDER = "fastml/kernels/native"
FAMILIES = ("isa", "rnn", "gru", "lstm", "gaussian", "multinomial", "samme", "exponential", "tree", "softmax", "adam")

# -ffp-contract=off: every fused multiply-add in the kernels is written as one, so that all tile shapes of a rung
#     round alike (the bitwise promises); the compiler must not fuse more in one shape than in another.
# -fno-math-errno -fno-trapping-math: nothing reads errno or the exception flags; NaN and infinities keep their meaning.
FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]


def extensions():
    if sys.platform == "win32":  # MSVC has no vector extensions: `jit` serves there
        return []
    os.makedirs("build", exist_ok=True)
    found = cythonize(
        [
            Extension(
                f"fastml.kernels.native.{family}",
                [f"{FOLDER}/{family}.pyx"],
                include_dirs=[FOLDER],
                depends=sorted(glob(f"{FOLDER}/*.h") + glob(f"{FOLDER}/*.pxi")),
                extra_compile_args=FLAGS,
            )
            for family in FAMILIES
        ],
        build_dir="build",
        language_level=3,
    )
    for extension in found:
        extension.optional = True  # here, because cythonize drops it
    return found


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count()}})
