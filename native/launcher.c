/*
 * netctl's launcher: installed under the name of every plugin, and as `netctl`. argv[0] tells which it is.
 *
 * A CNI runtime starts one process per plugin and verb, and Node alone takes 25 ms to start. So this program,
 * which needs no C library and no memory beyond its own image, hands the call to the warm service netd over a
 * unix socket. Where netd can't be had it becomes Node running the same verb (dist/lib/standalone.cjs): slower,
 * never different. VERSION it answers itself.
 *
 * What is sent and answered: netd/protocol.ts describes the same frames from the other side.
 *   request:  magic, lengths, namespace inodes | plugin name | environment, NUL-terminated strings | stdin
 *   answers:  'A' (accepted) or 'N' (not here: wrong namespace, shutting down), one byte, at once;
 *             then exit code, length of stdout, length of stderr (u32 each, host byte order), and both
 *
 * When is it safe to run the verb in another process after it was sent? Every verb takes the attachment's lock
 * (flock) and its journal record before it touches anything. So after 'N', after no answer within a second
 * (the connection is closed first, which cancels the request) and after netd's death (the kernel drops its
 * locks) the standalone process does the work, or finds it done. Only a netd that accepted and then hangs holds
 * the lock: then the caller gets code 11, "try again later".
 */
#include "freestanding.h"

#ifndef LIB_DIRECTORY
#define LIB_DIRECTORY "/usr/lib/netctl"
#endif
#ifndef NODE_PATH
#define NODE_PATH "/usr/bin/node"
#endif
#define SUPPORTED "\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

/* Limits. Beyond them the call is refused or goes the standalone way; nothing grows with what a caller sends. */
enum {
  MAX_PATH = 4096,
  MAX_VARIABLES = 1024,
  MAX_ENVIRONMENT = 256 << 10,
  MAX_STDIN = 4 << 20,
  MAX_REPLY = 4 << 20,
  ACCEPT_TIMEOUT_MS = 1000,
  DEFAULT_REPLY_TIMEOUT_MS = 60000,
};

struct timespec { i64 seconds, nanoseconds; };
struct pollfd { int fd; short events, revents; };
struct iovec { void *base; u64 size; };
struct msghdr { void *name; u32 name_size; struct iovec *iov; u64 iov_count; void *control; u64 control_size; int flags; };
struct sockaddr_un { u16 family; char path[108]; };
struct statx {
  u32 mask, block_size; u64 attributes; u32 links, uid, gid; u16 mode, spare0; u64 inode, rest[27];
};

/* Laid out without gaps; netd/protocol.ts reads the same 48 bytes. */
struct request {
  char magic[4];
  u32 name_size, environment_size, stdin_size;
  u64 network_namespace, mount_namespace;
  u32 timeout_ms, reserved;
  u64 reserved2;
};

static char **environment;
static const char *passed[MAX_VARIABLES + 1];
static char input[MAX_STDIN];
static char block[MAX_ENVIRONMENT];
static char reply[12 + MAX_REPLY];
static int input_fd = -1;

static const char *variable(const char *name) {
  u64 size = length(name);
  for (char **entry = environment; *entry; entry++)
    if (starts(*entry, name) && (*entry)[size] == '=') return *entry + size + 1;
  return "";
}

static void put(int fd, const char *data, u64 size) {
  while (size > 0) {
    i64 n = syscall3(NR_write, fd, data, size);
    if (n == -EINTR) continue;
    if (n <= 0) return;
    data += n;
    size -= (u64)n;
  }
}

/* machine/crash-point.ts says what this is for; the fault build alone has it. */
#ifdef NETCTL_FAULTS
static void crash_point(const char *name) {
  for (const char *at = variable("NETCTL_CRASH_AT"); *at;) {
    if (starts(at, "launcher/") && starts(at + 9, name)) {
      char end = at[9 + length(name)];
      if (end == 0 || end == ',') syscall2(NR_kill, syscall0(NR_getpid), 9 /* SIGKILL */);
    }
    while (*at && *at++ != ',') {}
  }
}
#else
#define crash_point(name) ((void)0)
#endif

static void say(int fd, const char *text) { put(fd, text, length(text)); }

__attribute__((noreturn)) static void leave(int code) {
  for (;;) syscall1(NR_exit_group, code);
}

__attribute__((noreturn)) static void fail(const char *code, const char *message) {
  say(1, "{\"cniVersion\":\"1.1.0\",\"code\":");
  say(1, code);
  say(1, ",\"msg\":\"");
  say(1, message);
  say(1, "\"}");
  leave(1);
}

/* Appends to a path; 0 when it would not fit. */
static int append(char *path, u64 capacity, const char *text) {
  u64 have = length(path), more = length(text);
  if (have + more + 1 > capacity) return 0;
  memcpy(path + have, text, more + 1);
  return 1;
}

static void number(u64 value, char *text) {
  char digits[24];
  int n = 0;
  do digits[n++] = (char)('0' + value % 10); while (value /= 10);
  while (n > 0) *text++ = digits[--n];
  *text = 0;
}

static i64 now_ms(void) {
  struct timespec t;
  syscall2(NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &t);
  return t.seconds * 1000 + t.nanoseconds / 1000000;
}

static u64 inode(const char *path) {
  struct statx s;
  if (syscall5(NR_statx, AT_FDCWD, path, 0, 0x100 /* STATX_INO */, &s) < 0) return 0;
  return s.inode;
}

static int exists(const char *path) { return syscall3(NR_faccessat, AT_FDCWD, path, 0) == 0; }

/* Node's own variables slow its start (NODE_EXTRA_CA_CERTS: 48 ms) or change what runs (NODE_OPTIONS). */
static void filter_environment(void) {
  u32 n = 0;
  for (char **entry = environment; *entry && n < MAX_VARIABLES; entry++)
    if (!starts(*entry, "NODE_")) passed[n++] = *entry;
  passed[n] = 0;
}

/* <file> beside the executable (../lib), else where it was built for. */
static int library(char *path, const char *file) {
  i64 n = syscall4(NR_readlinkat, AT_FDCWD, "/proc/self/exe", path, MAX_PATH - 1);
  if (n > 0) {
    path[n] = 0;
    while (n > 0 && path[n - 1] != '/') n--;
    path[n] = 0;
    if (append(path, MAX_PATH, "../lib/") && append(path, MAX_PATH, file) && exists(path)) return 1;
  }
  const char *directory = *variable("NETCTL_LIB_DIR") ? variable("NETCTL_LIB_DIR") : LIB_DIRECTORY;
  path[0] = 0;
  return append(path, MAX_PATH, directory) && append(path, MAX_PATH, "/") && append(path, MAX_PATH, file) && exists(path);
}

/* Returns only if no Node could be started. */
static void run_node(const char *program, const char **arguments, const char **with) {
  char path[MAX_PATH];
  if (*variable("NETCTL_NODE")) syscall3(NR_execve, variable("NETCTL_NODE"), arguments, with);
  syscall3(NR_execve, NODE_PATH, arguments, with);
  for (const char *at = variable("PATH"); *at;) {
    u64 n = 0;
    while (at[n] && at[n] != ':') n++;
    if (n > 0 && n < MAX_PATH - 8) {
      memcpy(path, at, n);
      memcpy(path + n, "/node", 6);
      syscall3(NR_execve, path, arguments, with);
    }
    at += n + (at[n] == ':');
  }
  syscall3(NR_execve, "/usr/local/bin/node", arguments, with);
  syscall3(NR_execve, "/usr/bin/node", arguments, with);
  (void)program;
}

__attribute__((noreturn)) static void standalone(const char *name) {
  static char program[MAX_PATH];
  if (!library(program, "standalone.cjs"))
    fail("999", "Cannot find standalone.cjs: install it in ../lib beside this executable, or set NETCTL_LIB_DIR");
  crash_point("standalone");
  if (input_fd >= 0) {
    syscall3(NR_lseek, input_fd, 0, 0);
    syscall3(NR_dup3, input_fd, 0, 0);
  }
  const char *arguments[] = {"node", program, name, 0};
  run_node(program, arguments, passed);
  fail("999", "Cannot start node: install Node 20.11 or newer in PATH, or set NETCTL_NODE");
}

/* Waits for `events`; false when `until` has passed first. */
static int ready(int fd, short events, i64 until) {
  for (;;) {
    i64 left = until - now_ms();
    if (left < 0) left = 0;
    struct timespec t = {left / 1000, (left % 1000) * 1000000};
    struct pollfd p = {fd, events, 0};
    i64 n = syscall5(NR_ppoll, &p, 1, &t, 0, 8);
    if (n == -EINTR) continue;
    return n > 0;
  }
}

static int transmit(int fd, struct iovec *iov, u64 count, i64 until) {
  while (count > 0) {
    struct msghdr message = {0, 0, iov, count, 0, 0, 0};
    i64 n = syscall3(NR_sendmsg, fd, &message, 0x4000 | 0x40 /* MSG_NOSIGNAL | MSG_DONTWAIT */);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      if (!ready(fd, 4 /* POLLOUT */, until)) return 0;
      continue;
    }
    if (n < 0) return 0;
    while (count > 0 && (u64)n >= iov->size) n -= (i64)iov->size, iov++, count--;
    if (count > 0) iov->base = (char *)iov->base + n, iov->size -= (u64)n;
  }
  return 1;
}

/* 1 = all of it, 0 = the other side has gone, -1 = too late. */
static int receive(int fd, char *to, u64 size, i64 until) {
  while (size > 0) {
    i64 n = syscall3(NR_read, fd, to, size);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      if (!ready(fd, 1 /* POLLIN */, until)) return -1;
      continue;
    }
    if (n <= 0) return 0;
    to += n;
    size -= (u64)n;
  }
  return 1;
}

/* All of stdin, also kept in a memfd so that a standalone process can still read it. */
static u32 read_input(void) {
  u64 size = 0;
  for (;;) {
    if (size == MAX_STDIN) fail("6", "Cannot read the network configuration: stdin is longer than 4 MiB");
    i64 n = syscall3(NR_read, 0, input + size, MAX_STDIN - size);
    if (n == -EINTR) continue;
    if (n < 0) fail("5", "Cannot read the network configuration from stdin");
    if (n == 0) break;
    size += (u64)n;
  }
  input_fd = (int)syscall2(NR_memfd_create, "stdin", 0);
  if (input_fd >= 0) put(input_fd, input, size);
  return (u32)size;
}

/*
 * Starts netd in a session of its own, with no inherited pipe that a runtime could be waiting on. Does not wait:
 * this call goes the standalone way. Of several launchers the one that gets the lock starts it, and netd keeps
 * the lock for as long as it lives.
 */
static void start_service(const char *run, const char *lock) {
  static char program[MAX_PATH];
  if (!library(program, "netd.cjs")) return;
  syscall3(NR_mkdirat, AT_FDCWD, run, 0700);
  int fd = (int)syscall4(NR_openat, AT_FDCWD, lock, 0102 | 02000000 /* O_RDWR | O_CREAT | O_CLOEXEC */, 0600);
  if (fd < 0) return;
  if (syscall2(NR_flock, fd, 2 | 4 /* LOCK_EX | LOCK_NB */) < 0) {
    syscall1(NR_close, fd);
    return;
  }
  i64 pid = syscall5(NR_clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
  if (pid != 0) {
    syscall1(NR_close, fd);
    if (pid > 0) syscall4(NR_wait4, pid, 0, 0, 0);
    return;
  }
  syscall0(NR_setsid);
  /* Twice, so that the service is no child of a process that becomes the plugin and must be waited for. */
  if (syscall5(NR_clone, 17, 0, 0, 0, 0) != 0) leave(0);
  syscall1(NR_chdir, "/");
  int null = (int)syscall4(NR_openat, AT_FDCWD, "/dev/null", 2, 0);
  if (null >= 0)
    for (int i = 0; i < 3; i++) syscall3(NR_dup3, null, i, 0);
  /* A copy of a descriptor onto itself is refused, and it would keep its close-on-exec. */
  if (fd == 3) fd = (int)syscall3(NR_dup3, fd, 4, 0);
  syscall3(NR_dup3, fd, 3, 0);
  syscall3(NR_close_range, 4, ~0U, 0);
  static const char *filtered[MAX_VARIABLES + 3];
  u32 n = 0;
  for (const char **entry = passed; *entry; entry++)
    if (starts(*entry, "NETCTL_") || starts(*entry, "PATH=")) filtered[n++] = *entry;
  filtered[n++] = "NETCTL_NETD_LOCK_FD=3";
  if (!*variable("NETCTL_IDLE_EXIT_SECONDS")) filtered[n++] = "NETCTL_IDLE_EXIT_SECONDS=600";
  filtered[n] = 0;
  const char *arguments[] = {"netd", program, 0};
  run_node(program, arguments, filtered);
  leave(1);
}

/* Hands the call to netd. Returns when the call has to go the standalone way instead. */
static void ask_service(const char *name) {
  const char *run = *variable("NETCTL_RUN_DIR") ? variable("NETCTL_RUN_DIR") : "/run/netctl";
  u64 network = inode("/proc/self/ns/net");
  char digits[24], lock[MAX_PATH] = "";
  struct sockaddr_un address = {1, ""};
  number(network, digits);
  /* The namespace is in the name: one netd per network namespace, and none finds that of another. */
  if (network == 0 || !append(address.path, 108, run) || !append(address.path, 108, "/netd-") ||
      !append(address.path, 108, digits) || !append(lock, MAX_PATH, address.path) ||
      !append(address.path, 108, ".sock") || !append(lock, MAX_PATH, ".lock"))
    return;

  struct statx s = {0};
  i64 found = syscall5(NR_statx, AT_FDCWD, address.path, 0x100 /* AT_SYMLINK_NOFOLLOW */, 0x1 | 0x2 | 0x8, &s);
  if (found == 0 && s.uid != 0 && s.uid != (u32)syscall0(NR_geteuid)) return;
  int fd = (int)syscall3(NR_socket, 1, 1 | 02000000 | 04000 /* SOCK_STREAM | CLOEXEC | NONBLOCK */, 0);
  if (fd < 0) return;
  if (found < 0 || syscall3(NR_connect, fd, &address, sizeof address) < 0) {
    syscall1(NR_close, fd);
    if (!equal(variable("NETCTL_NETD"), "never")) start_service(run, lock);
    return;
  }

  crash_point("connected");
  u64 environment_size = 0;
  for (const char **entry = passed; *entry; entry++) {
    u64 size = length(*entry) + 1;
    if (environment_size + size > MAX_ENVIRONMENT) return;
    memcpy(block + environment_size, *entry, size);
    environment_size += size;
  }
  u32 timeout_ms = 0;
  for (const char *at = variable("NETCTL_TIMEOUT_MS"); *at >= '0' && *at <= '9' && timeout_ms < 100000000; at++)
    timeout_ms = timeout_ms * 10 + (u32)(*at - '0');
  if (timeout_ms == 0) timeout_ms = DEFAULT_REPLY_TIMEOUT_MS;

  struct request header = {{'N', 'C', 'T', '1'}, (u32)length(name), (u32)environment_size, read_input(),
                           network, inode("/proc/self/ns/mnt"), timeout_ms, 0, 0};
  struct iovec parts[] = {{&header, sizeof header}, {(void *)name, header.name_size},
                          {block, header.environment_size}, {input, header.stdin_size}};
  i64 start = now_ms();
  char accepted = 0;
  int sent = transmit(fd, parts, 4, start + ACCEPT_TIMEOUT_MS);
  crash_point("sent");
  if (!sent || receive(fd, &accepted, 1, start + ACCEPT_TIMEOUT_MS) != 1 || accepted != 'A') {
    syscall1(NR_close, fd);
    return;
  }
  crash_point("accepted");

  int got = receive(fd, reply, 12, start + timeout_ms);
  u32 code, output_size, error_size;
  memcpy(&code, reply, 4);
  memcpy(&output_size, reply + 4, 4);
  memcpy(&error_size, reply + 8, 4);
  if (got == 1) {
    if ((u64)output_size + error_size > MAX_REPLY) fail("999", "Cannot use netd's answer: it is longer than 4 MiB");
    got = receive(fd, reply + 12, (u64)output_size + error_size, start + timeout_ms);
  }
  if (got < 0) fail("11", "Cannot get an answer from netd within the deadline (NETCTL_TIMEOUT_MS): try again later");
  if (got == 0) {
    crash_point("netd-lost");
    syscall1(NR_close, fd);
    return;
  }
  crash_point("before-print");
  put(1, reply + 12, output_size);
  put(2, reply + 12 + output_size, error_size);
  leave((int)code);
}

__attribute__((used, noreturn)) void entry(u64 *stack) {
  char **arguments = (char **)(stack + 1);
  environment = arguments + stack[0] + 1;
  const char *name = stack[0] > 0 ? arguments[0] : "";
  for (const char *at = name; *at; at++)
    if (*at == '/') name = at + 1;
  filter_environment();

  if (equal(name, "netctl")) {
    static char program[MAX_PATH];
    static const char *forwarded[4096];
    u64 n = 0;
    if (!library(program, "netctl.cjs")) say(2, "netctl: cannot find netctl.cjs; set NETCTL_LIB_DIR\n"), leave(1);
    forwarded[n++] = "netctl";
    forwarded[n++] = program;
    for (u64 i = 1; i < stack[0] && n < 4095; i++) forwarded[n++] = arguments[i];
    run_node(program, forwarded, passed);
    say(2, "netctl: cannot start node; install Node 20.11 or newer in PATH, or set NETCTL_NODE\n");
    leave(1);
  }

  const char *command = variable("CNI_COMMAND");
  if (equal(command, "VERSION")) {
    say(1, "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" SUPPORTED "]}");
    leave(0);
  }
  if (*command && !equal(variable("NETCTL_STANDALONE"), "1")) ask_service(name);
  standalone(name);
}
