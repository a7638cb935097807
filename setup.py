"""The compiled extensions; everything else about the package is in pyproject.toml.

One extension per family. Each carries every ISA rung of the machine it is built for (native/ladder.h), so the same
flags serve everywhere and never name a CPU. `optional`: without a working C compiler the build succeeds without the
native back end, says so, and `fastml.show()` says so.
"""

import os
import sys
import sysconfig
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = "fastml/kernels/native"
FAMILIES = ("isa", "rnn", "gru", "lstm", "gaussian", "multinomial", "samme", "exponential", "tree", "softmax", "adam")

# One build for every CPython from FLOOR on, through its limited API, where there is one: not without the GIL, not in
# other Pythons. It costs instructions in unwrapping alone (callgrind): 0.1 % of a stream's step (H = 32), 0.3 % of an
# LSTM's forward (200 steps, B = 1, H = 32), 1 % of reweighing 1000 rows, 2 to 3 % of a tree on 100 rows, 0.1 % on 1000.
# By time, twelve calls small and large took 1.4 % longer (geometric mean), in a noise of more than 10 % for each.
FLOOR = (3, 11)
ABI3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

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
                define_macros=[("Py_LIMITED_API", "0x{:02X}{:02X}0000".format(*FLOOR))] if ABI3 else [],
                extra_compile_args=FLAGS,
                py_limited_api=ABI3,
            )
            for family in reversed(FAMILIES)  # begins with trees, a quarter of all the time, which would end it alone
        ],
        build_dir="build",
        language_level=3,
    )
    for extension in found:
        extension.optional = True  # here, because cythonize drops it
    return found


class Build(build_ext):
    def build_extensions(self):
        # A Python with a shared library passes on the run path to its own folder, which nothing here links with.
        self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        super().build_extensions()

    def run(self):
        super().run()
        if missing := [path for path in self.get_outputs() if not os.path.exists(path)]:
            names = ", ".join(os.path.basename(path).split(".")[0] for path in missing)
            print(f"fastml: no C compiler could build the native back end of {names}: `jit` serves", file=sys.stderr)


class Wheel(bdist_wheel):
    def get_tag(self):
        """py3-none-any where no extension could be built, which only the build tells."""
        self.root_is_pure = not any(map(os.path.exists, self.get_finalized_command("build_ext").get_outputs()))
        return super().get_tag()


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": Build, "bdist_wheel": Wheel},
    options={
        "build_ext": {"parallel": os.cpu_count()},
        "bdist_wheel": {"py_limited_api": "cp{}{}".format(*FLOOR)} if ABI3 else {},
    },
)
