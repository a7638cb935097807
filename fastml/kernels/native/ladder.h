/* The include ladder: walks FM_BODY once per dtype and per ISA rung of the machine that is compiled for.
 *
 * FN(name) is name_f32_avx2 and so on. Each rung's code is compiled for its own target by a pragma, so that one build
 * with one set of flags carries them all; nothing outside a rung may use its vectors. A new rung is one block here, one
 * in vec.h and one row in isa.h; a new dtype is one step in both.
 */

#define FM_PASTE_(name, dtype, rung) name##_f##dtype##_##rung
#define FM_PASTE(name, dtype, rung) FM_PASTE_(name, dtype, rung)
#define FN(name) FM_PASTE(name, FM_DTYPE, FM_RUNG_NAME)

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define NOINLINE __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline, unused))

#if FM_X86

#define FM_RUNG FM_BASELINE
#define FM_RUNG_NAME baseline
#define FM_DTYPE 32
#include FM_BODY
#undef FM_DTYPE
#define FM_DTYPE 64
#include FM_BODY
#undef FM_DTYPE
#undef FM_RUNG
#undef FM_RUNG_NAME

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define FM_RUNG FM_AVX2
#define FM_RUNG_NAME avx2
#define FM_DTYPE 32
#include FM_BODY
#undef FM_DTYPE
#define FM_DTYPE 64
#include FM_BODY
#undef FM_DTYPE
#undef FM_RUNG
#undef FM_RUNG_NAME
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
#endif
#define FM_RUNG FM_AVX512
#define FM_RUNG_NAME avx512
#define FM_DTYPE 32
#include FM_BODY
#undef FM_DTYPE
#define FM_DTYPE 64
#include FM_BODY
#undef FM_DTYPE
#undef FM_RUNG
#undef FM_RUNG_NAME
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* Float32 products by AMX; everything else of that rung is AVX-512's, and all of it in a family that is FM_WITHOUT_AMX. */
#if FM_HAS_AMX && !defined(FM_WITHOUT_AMX)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif
#define FM_RUNG FM_AMX
#define FM_RUNG_NAME amx
#define FM_DTYPE 32
#include FM_BODY
#undef FM_DTYPE
#undef FM_RUNG
#undef FM_RUNG_NAME
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#define FM_AMX_CELLS(name) {name##_f32_amx, name##_f64_avx512}
#elif FM_HAS_AMX
#define FM_AMX_CELLS(name) {name##_f32_avx512, name##_f64_avx512}
#else
#define FM_AMX_CELLS(name) {0, 0}
#endif

#define FM_TABLE(name)                                                                                                 \
    {{name##_f32_baseline, name##_f64_baseline}, {name##_f32_avx2, name##_f64_avx2},                                   \
     {name##_f32_avx512, name##_f64_avx512},     {0, 0},                                                               \
     FM_AMX_CELLS(name)}

#else

#define FM_RUNG FM_NEON
#define FM_RUNG_NAME neon
#define FM_DTYPE 32
#include FM_BODY
#undef FM_DTYPE
#define FM_DTYPE 64
#include FM_BODY
#undef FM_DTYPE
#undef FM_RUNG
#undef FM_RUNG_NAME

#define FM_TABLE(name) {{0, 0}, {0, 0}, {0, 0}, {name##_f32_neon, name##_f64_neon}, {0, 0}}

#endif

/* Nothing short leaks into what Cython writes below. */
#undef FN
#undef INLINE
#undef INT
#undef L
#undef NOINLINE
#undef REAL
#undef UNROLL
#undef V
