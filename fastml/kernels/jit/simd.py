"""One SIMD register as a Numba type, and the few operations that the kernels need on it.

LLVM's vectoriser gives up on the loops of these kernels (too many arrays that might overlap), and what it does is
its own choice; a `Vector` is a register by construction, and + - * / and `fma` on it round as written, so that no
blocking and no compiler changes a bit. Scratch arrays are padded to whole vectors: there is no masked tail anywhere.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

_triple, _, _features = cpu_target.target_context.codegen().magic_tuple()  # as NUMBA_CPU_NAME and _FEATURES have them
_has = _features.split(",").__contains__
ARM, X86 = _triple.startswith(("aarch64", "arm64")), _triple.startswith(("x86_64", "i386", "i686", "amd64"))
BYTES = 64 if _has("+avx512f") else 32 if _has("+avx") else 16
REGISTERS = 32 if BYTES == 64 or ARM else 16
FMA = not X86 or _has("+fma")


def lanes(dtype) -> int:
    """Numbers in a vector."""
    return BYTES // np.dtype(dtype).itemsize


class Vector(types.Type):
    """A register full of `element`."""

    def __init__(self, element: types.Float):
        super().__init__(f"Vector({element})")
        self.element = element
        self.bits = element.bitwidth
        self.lanes = 8 * BYTES // element.bitwidth

    def can_convert_from(self, typingctx, other):
        return typingctx.can_convert(other, self.element) if isinstance(other, types.Number) else None

    @property
    def register(self) -> ir.VectorType:
        return ir.VectorType(ir.FloatType() if self.bits == 32 else ir.DoubleType(), self.lanes)

    @property
    def integers(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.bits), self.lanes)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.register)


def splat(builder, scalar, kind: ir.VectorType):
    """The vector that holds `scalar` in every lane (llvmlite level)."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def constant(kind: ir.VectorType, value):
    return ir.Constant(kind, [value] * kind.count)


def call(builder, name: str, result: ir.Type, *values):
    """Call LLVM's own function `name`."""
    function = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), values)


def fused(builder, a, b, c):
    """a * b + c rounded once where the CPU has FMA, twice where it has not: fixed here, not left to LLVM."""
    if not FMA:
        return builder.fadd(builder.fmul(a, b), c)
    bits = 32 if isinstance(a.type.element, ir.FloatType) else 64
    return call(builder, f"llvm.fma.v{a.type.count}f{bits}", a.type, a, b, c)


# -------------------------------------------------------------------------------------------------- arithmetic


@lower_cast(types.Number, Vector)
def _cast(context, builder, source, vector, value):
    return splat(builder, context.cast(builder, value, source, vector.element), vector.register)


def _operator(function, instruction):
    @infer_global(function)
    class _(AbstractTemplate):
        def generic(self, args, kws):
            vectors = [a for a in args if isinstance(a, Vector)]
            if vectors and len(args) == 2 and all(isinstance(a, (Vector, types.Number)) for a in args):
                return signature(vectors[0], vectors[0], vectors[0])

    @lower_builtin(function, Vector, Vector)
    def _(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_function, _instruction)


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c; at least one of them is a Vector, the others may be numbers."""
    vector = next(t for t in (a, b, c) if isinstance(t, Vector))

    def generate(context, builder, sig, args):
        return fused(builder, *args)

    return vector(vector, vector, vector), generate


@intrinsic
def at_least(typingctx, x, low):
    """max(x, low), and NaN where x is NaN."""

    def generate(context, builder, sig, args):
        x, low = args
        return builder.select(builder.fcmp_ordered("<", x, low), low, x)

    return x(x, x), generate


@intrinsic
def at_most(typingctx, x, high):
    """min(x, high), and NaN where x is NaN."""

    def generate(context, builder, sig, args):
        x, high = args
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return x(x, x), generate


@intrinsic
def positive(typingctx, x):
    """1 where x > 0, else 0."""

    def generate(context, builder, sig, args):
        zero = constant(x.register, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), constant(x.register, 1.0), zero)

    return x(x), generate


@intrinsic
def unless_below(typingctx, x, low, value):
    """`value`, but 0 where x < low: kept where x is NaN."""

    def generate(context, builder, sig, args):
        x, low, value = args
        return builder.select(builder.fcmp_ordered("<", x, low), constant(value.type, 0.0), value)

    return x(x, x, x), generate


@intrinsic
def square_root(typingctx, x):
    def generate(context, builder, sig, args):
        return call(builder, f"llvm.sqrt.v{x.lanes}f{x.bits}", x.register, args[0])

    return x(x), generate


@intrinsic
def exponent(typingctx, x):
    """n of x = 2**n * m with m from sqrt(1/2) to sqrt(2), where x is positive, finite and not denormal."""
    mantissa, root_half = (23, 0x3F3504F3) if x.bits == 32 else (52, 0x3FE6A09E667F3BCD)

    def generate(context, builder, sig, args):
        n = builder.sub(builder.bitcast(args[0], x.integers), constant(x.integers, root_half))
        return builder.sitofp(builder.ashr(n, constant(x.integers, mantissa)), x.register)

    return x(x), generate


@intrinsic
def power_of_two(typingctx, z):
    """2**n from z = n + 1.5 * 2**(bits of the mantissa): the sum's last bits are n, the exponent of the result."""
    mantissa, bias = (23, 127) if z.bits == 32 else (52, 1023)

    def generate(context, builder, sig, args):
        n = builder.bitcast(args[0], z.integers)
        n = builder.shl(n, constant(z.integers, mantissa))
        return builder.bitcast(builder.add(n, constant(z.integers, bias << mantissa)), z.register)

    return z(z), generate


# -------------------------------------------------------------------------------------------------- memory


def _address(context, builder, array, value, i, j):
    view = context.make_array(array)(context, builder, value)
    offset = builder.add(builder.mul(i, cgutils.unpack_tuple(builder, view.shape)[1]), j)
    return builder.gep(view.data, [offset])


def _register(context, builder, array, value, i, j):
    """The address of a vector and the alignment that can be relied on."""
    vector = Vector(array.dtype)
    pointer = _address(context, builder, array, value, i, j)
    return builder.bitcast(pointer, vector.register.as_pointer()), vector.bits // 8


@intrinsic
def at(typingctx, array, i, j):
    """The address of array[i, j]; arrays here are C-contiguous, with two axes (or more for the address of [0, 0])."""

    def generate(context, builder, sig, args):
        return _address(context, builder, array, *args)

    return types.CPointer(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def copy(typingctx, target, source, count):
    """`count` numbers from the address `source` to `target`."""

    def generate(context, builder, sig, args):
        cgutils.raw_memcpy(builder, *args, context.get_abi_sizeof(context.get_data_type(target.dtype)))
        return context.get_dummy_value()

    return types.void(target, source, types.intp), generate


@intrinsic
def load(typingctx, array, i, j):
    """The vector array[i, j : j + lanes]."""

    def generate(context, builder, sig, args):
        pointer, align = _register(context, builder, array, *args)
        return builder.load(pointer, align=align)

    return Vector(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def zeros(typingctx, array):
    """The vector of an array's dtype that is 0 in every lane."""
    vector = Vector(array.dtype)
    return vector(array), lambda context, builder, sig, args: constant(vector.register, 0.0)


@intrinsic
def step(typingctx, array):
    """`lanes` of an array's dtype, as a constant of the program."""

    def generate(context, builder, sig, args):
        return context.get_constant(types.intp, Vector(array.dtype).lanes)

    return types.intp(array), generate


@intrinsic
def store(typingctx, array, i, j, value):
    """array[i, j : j + lanes] = value."""

    def generate(context, builder, sig, args):
        pointer, align = _register(context, builder, array, *args[:3])
        builder.store(args[3], pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, Vector(array.dtype)), generate


# -------------------------------------------------------------------------------------------------- denormals


def _control_word(builder, new=None):
    """Read the floating-point control word, or write `new`; 0 on CPUs that this does not know."""
    word, void, int32 = ir.IntType(64), ir.VoidType(), ir.IntType(32)
    if ARM and new is None:
        return call(builder, "llvm.aarch64.get.fpcr", word)
    if ARM:
        return call(builder, "llvm.aarch64.set.fpcr", void, new)
    if not X86:
        return word(0)
    memory = cgutils.alloca_once(builder, int32)
    pointer = builder.bitcast(memory, ir.IntType(8).as_pointer())
    if new is None:
        call(builder, "llvm.x86.sse.stmxcsr", void, pointer)
        return builder.zext(builder.load(memory), word)
    builder.store(builder.trunc(new, int32), memory)
    return call(builder, "llvm.x86.sse.ldmxcsr", void, pointer)


@intrinsic
def flush_denormals(typingctx):
    """From here on denormals count as zero in this thread; returns what `restore_denormals` takes."""

    def generate(context, builder, sig, args):
        before = _control_word(builder)
        flush = before.type(1 << 24 if ARM else 1 << 15 | 1 << 6)  # FZ; FTZ and DAZ
        _control_word(builder, builder.or_(before, flush))
        return before

    return types.int64(), generate


@intrinsic
def restore_denormals(typingctx, before):
    """Undo `flush_denormals`."""

    def generate(context, builder, sig, args):
        _control_word(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate
