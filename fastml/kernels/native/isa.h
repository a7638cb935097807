/* The ISA rungs: which exist in this build, and which of them this CPU runs. */
#ifndef FM_ISA_H
#define FM_ISA_H

#if !defined(__GNUC__)
#error "the native back end needs GCC's or clang's vector extensions"
#endif

#define FM_BASELINE 0
#define FM_AVX2 1
#define FM_AVX512 2
#define FM_NEON 3
#define FM_RUNGS 4

#if defined(__x86_64__)
#define FM_X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define FM_X86 0
#include <arm_neon.h>
#else
#error "the native back end is written for x86-64 and arm64"
#endif

static inline int fm_supported(int rung) {
#if FM_X86
    __builtin_cpu_init(); /* asks the operating system too: the wide registers must be saved on a switch */
    switch (rung) {
    case FM_BASELINE: return 1;
    case FM_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case FM_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    }
    return 0;
#else
    return rung == FM_NEON;
#endif
}

#endif
