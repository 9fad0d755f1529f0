/* Keeps a process from finding AVX-512, AMX and what came after AVX2, as on a machine that has none.
 *
 *     cc -O2 -shared -fPIC -o hide_avx512.so hide_avx512.c && LD_PRELOAD=./hide_avx512.so program
 *
 * Linux can make the instruction CPUID fault where the processor is able to (flag `cpuid_fault` in /proc/cpuinfo; Intel's from 2013
 * on). The handler of the fault executes it, and leaves bits out of what it says. Threads inherit this; programs that a process
 * starts do not, but read LD_PRELOAD as well. Where it cannot be done, the process ends with status 99. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012, CANNOT = 99 };

#define BIT(n) (UINT32_C(1) << (n))

/* Leaf 7: foundation, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16,
 * FP16, AMX-TILE, AMX-INT8. Its part 1: AVX-VNNI, BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
 * AVX-VNNI-INT16, AVX10. */
static const uint32_t EBX_7 =
    BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const uint32_t ECX_7 = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const uint32_t EDX_7 = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
static const uint32_t EAX_7_1 = BIT(4) | BIT(5) | BIT(21) | BIT(23);
static const uint32_t EDX_7_1 = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);
/* Leaf 13: the registers' state, of opmasks, upper halves, upper registers, tiles' configuration and tiles. */
static const uint32_t EAX_13 = BIT(5) | BIT(6) | BIT(7) | BIT(17) | BIT(18);

static void allow(unsigned long allowed) {
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed)) _exit(CANNOT);
}

static void answer(uint32_t leaf, uint32_t part, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    allow(1);
    __cpuid_count(leaf, part, *a, *b, *c, *d);
    allow(0);
    if (leaf == 7 && part == 0) {
        *b &= ~EBX_7;
        *c &= ~ECX_7;
        *d &= ~EDX_7;
    } else if (leaf == 7 && part == 1) {
        *a &= ~EAX_7_1;
        *d &= ~EDX_7_1;
    } else if (leaf == 13 && part == 0) {
        *a &= ~EAX_13;
    } else if (leaf == 0x1d || leaf == 0x1e) {
        *a = *b = *c = *d = 0;
    }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        /* Somebody else's fault, which happens again. */
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t a, b, c, d;
    answer((uint32_t)registers[REG_RAX], (uint32_t)registers[REG_RCX], &a, &b, &c, &d);
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, NULL)) _exit(CANNOT);
    allow(0);
}
