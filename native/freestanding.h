/*
 * The little of an operating system that a program without a C library needs: system calls, the entry point,
 * and the four memory functions that the compiler itself may call. For x86-64 and aarch64.
 * Only calls that both architectures have are used (openat, not open; ppoll, not poll; clone, not fork).
 * Numbers: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
 */
#ifndef NETCTL_FREESTANDING_H
#define NETCTL_FREESTANDING_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

#if defined(__x86_64__)

enum {
  NR_read = 0, NR_write = 1, NR_close = 3, NR_lseek = 8, NR_rt_sigaction = 13, NR_pread64 = 17, NR_pwrite64 = 18,
  NR_getpid = 39, NR_socket = 41, NR_connect = 42, NR_sendmsg = 46, NR_getsockopt = 55, NR_clone = 56, NR_execve = 59,
  NR_wait4 = 61, NR_kill = 62, NR_flock = 73, NR_chdir = 80, NR_geteuid = 107, NR_setsid = 112,
  NR_clock_gettime = 228, NR_exit_group = 231, NR_openat = 257, NR_mkdirat = 258, NR_readlinkat = 267,
  NR_faccessat = 269, NR_ppoll = 271, NR_dup3 = 292, NR_memfd_create = 319, NR_statx = 332, NR_close_range = 436,
};

static inline i64 syscall6(i64 number, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
  i64 result;
  register i64 r10 __asm__("r10") = d;
  register i64 r8 __asm__("r8") = e;
  register i64 r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall entry\n\tud2\n");

#elif defined(__aarch64__)

enum {
  NR_dup3 = 24, NR_flock = 32, NR_mkdirat = 34, NR_faccessat = 48, NR_chdir = 49, NR_openat = 56, NR_close = 57,
  NR_lseek = 62, NR_read = 63, NR_write = 64, NR_pread64 = 67, NR_pwrite64 = 68, NR_ppoll = 73, NR_readlinkat = 78,
  NR_exit_group = 94, NR_clock_gettime = 113, NR_kill = 129, NR_rt_sigaction = 134, NR_setsid = 157, NR_getpid = 172,
  NR_geteuid = 175, NR_socket = 198, NR_connect = 203, NR_getsockopt = 209, NR_sendmsg = 211, NR_clone = 220,
  NR_execve = 221, NR_wait4 = 260, NR_memfd_create = 279, NR_statx = 291, NR_close_range = 436,
};

static inline i64 syscall6(i64 number, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
  register i64 x8 __asm__("x8") = number;
  register i64 x0 __asm__("x0") = a;
  register i64 x1 __asm__("x1") = b;
  register i64 x2 __asm__("x2") = c;
  register i64 x3 __asm__("x3") = d;
  register i64 x4 __asm__("x4") = e;
  register i64 x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl entry\n\tbrk #1\n");

#else
#error "netctl's launcher is written for x86-64 and aarch64"
#endif

#define syscall0(n) syscall6(n, 0, 0, 0, 0, 0, 0)
#define syscall1(n, a) syscall6(n, (i64)(a), 0, 0, 0, 0, 0)
#define syscall2(n, a, b) syscall6(n, (i64)(a), (i64)(b), 0, 0, 0, 0)
#define syscall3(n, a, b, c) syscall6(n, (i64)(a), (i64)(b), (i64)(c), 0, 0, 0)
#define syscall4(n, a, b, c, d) syscall6(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), 0, 0)
#define syscall5(n, a, b, c, d, e) syscall6(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e), 0)

/* As a failed call returns them, negated: asm-generic/errno.h */
enum { ENOENT = 2, EINTR = 4, EAGAIN = 11, ECONNREFUSED = 111 };
enum { AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_EMPTY_PATH = 0x1000 };
enum { STATX_TYPE = 0x1, STATX_UID = 0x8, STATX_MTIME = 0x40, STATX_INO = 0x100 };
enum { POLLIN = 1, POLLOUT = 4, POLLNVAL = 0x20 };

#if defined(__aarch64__)
enum { O_RDWR = 02, O_CREAT = 0100, O_NOFOLLOW = 0100000 };
#else
enum { O_RDWR = 02, O_CREAT = 0100, O_NOFOLLOW = 0400000 };
#endif

/* The compiler turns loops into calls of these; the attributes keep it from turning these into themselves. */
__attribute__((used, optimize("no-tree-loop-distribute-patterns"))) void *memcpy(void *to, const void *from, u64 n) {
  u8 *t = to;
  const u8 *f = from;
  while (n--) *t++ = *f++;
  return to;
}

__attribute__((used, optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int byte, u64 n) {
  u8 *t = to;
  while (n--) *t++ = (u8)byte;
  return to;
}

static u64 length(const char *text) {
  u64 n = 0;
  while (text[n]) n++;
  return n;
}

static int equal(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static int starts(const char *text, const char *prefix) {
  while (*prefix)
    if (*text++ != *prefix++) return 0;
  return 1;
}

#endif
