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
#define FM_AMX 4
#define FM_RUNGS 5

/* FM_HAS_AMX: this build has the AMX rung. With FM_AMX_EMULATED (the tests) its tile instructions are functions (amx.h). */
#if defined(__x86_64__)
#define FM_X86 1
#include <immintrin.h>
#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define FM_HAS_AMX 1
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define FM_HAS_AMX 0
#endif
#elif defined(__aarch64__)
#define FM_X86 0
#define FM_HAS_AMX 0
#include <arm_neon.h>
#else
#error "the native back end is written for x86-64 and arm64"
#endif

#if FM_HAS_AMX
/* The vector side of the rung, then the tiles. Linux lets a process use them once it has asked for their state to be saved
 * (ARCH_REQ_XCOMP_PERM, since 5.16); asking again changes nothing. */
static inline int fm_supported_amx(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return 0; /* AVX512_BF16 */
#ifndef FM_AMX_EMULATED
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* AMX-BF16, AMX-TILE */
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 0;
#endif
    return 1;
}
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
#if FM_HAS_AMX
    case FM_AMX: return fm_supported(FM_AVX512) && fm_supported_amx();
#endif
    }
    return 0;
#else
    return rung == FM_NEON;
#endif
}

#endif
