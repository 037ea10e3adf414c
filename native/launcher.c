/*
 * netctl's launcher: installed under the name of every plugin, and as `netctl`. argv[0] tells which it is.
 *
 * A CNI runtime starts one process per plugin and verb, and Node alone takes 25 ms to start. So this program,
 * which needs no C library and no memory beyond its own image, hands the call to the warm service netd over a
 * unix socket. Where netd can't be had it becomes Node running the same verb (dist/lib/standalone.cjs): slower,
 * never different. VERSION it answers itself.
 *
 * What is sent and answered: netd/protocol.ts describes the same frames from the other side.
 *   request:  header | plugin name | environment, NUL-terminated strings | stdin
 *   answers:  'A' (accepted) or 'N' (not here: wrong namespace, shutting down), one byte, at once;
 *             then exit code, length of stdout, length of stderr (u32 each, host byte order), and both
 *
 * When is it safe to run the verb in another process after it was sent? Every verb takes the attachment's lock
 * (flock) before it touches anything, and netd looks, with the lock held, whether its caller is still connected.
 * So after 'N', after no answer within a second (the connection is closed first, which withdraws the request) and
 * after netd's death (the kernel drops its locks) the standalone process does the work, or finds it done. Only a
 * netd that accepted and then hangs may hold the lock: then the caller gets code 11, "try again later".
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
  MAX_SERVICE_VARIABLES = 64,
  MAX_ENVIRONMENT = 256 << 10,
  MAX_STDIN = 4 << 20,
  MAX_REPLY = 4 << 20,
  ACCEPT_TIMEOUT_MS = 1000,
  STATUS_TIMEOUT_MS = 500,
  DEFAULT_REPLY_TIMEOUT_MS = 60000,
  MAX_REPLY_TIMEOUT_MS = 1000000000,
  PRINT_TIMEOUT_MS = 600000,
  RESTART_PAUSE_S = 10,
  REPLY_HEADER = 13,
};

struct timespec { i64 seconds, nanoseconds; };
struct pollfd { int fd; short events, revents; };
struct iovec { void *base; u64 size; };
struct msghdr {
  void *name; u32 name_size; struct iovec *iov; u64 iov_count; void *control; u64 control_size; int flags;
};
struct sockaddr_un { u16 family; char path[108]; };
struct ucred { u32 pid, uid, gid; };
struct sigaction { u64 handler, flags, restorer, mask; };
struct statx {
  u32 mask, block_size; u64 attributes; u32 links, uid, gid; u16 mode, spare0; u64 inode, size, blocks, mask2;
  struct { i64 seconds; u32 nanoseconds, spare; } accessed, born, changed, modified;
  u32 rdev_major, rdev_minor, dev_major, dev_minor; u64 rest[14];
};
_Static_assert(sizeof(struct statx) == 256, "struct statx of include/uapi/linux/stat.h");

/* Laid out without gaps; netd/protocol.ts reads the same 48 bytes. */
struct request {
  char magic[4];
  u32 name_size, environment_size, stdin_size;
  u64 network_namespace, mount_namespace, root_inode;
  u32 root_device, timeout_ms;
};
_Static_assert(sizeof(struct request) == 48, "netd/protocol.ts");

static char **environment;
static char input[MAX_STDIN];
static u64 input_size;
static int has_input;
static char block[MAX_ENVIRONMENT];
static char reply[REPLY_HEADER + MAX_REPLY];

static const char *variable(const char *name) {
  u64 size = length(name);
  for (char **entry = environment; *entry; entry++)
    if (starts(*entry, name) && (*entry)[size] == '=') return *entry + size + 1;
  return "";
}

static i64 now_ms(void) {
  struct timespec t;
  syscall2(NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &t);
  return t.seconds * 1000 + t.nanoseconds / 1000000;
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

/* False if it can't be written. Also writes into a pipe that does not block and is full for the moment. */
static int put(int fd, const char *data, u64 size) {
  while (size > 0) {
    i64 n = syscall3(NR_write, fd, data, size);
    if (n == -EINTR || (n == -EAGAIN && ready(fd, POLLOUT, now_ms() + PRINT_TIMEOUT_MS))) continue;
    if (n <= 0) return 0;
    data += n;
    size -= (u64)n;
  }
  return 1;
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

static u64 inode(const char *path) {
  struct statx s;
  if (syscall5(NR_statx, AT_FDCWD, path, 0, STATX_INO, &s) < 0) return 0;
  return s.inode;
}

static int exists(const char *path) { return syscall3(NR_faccessat, AT_FDCWD, path, 0) == 0; }

/* Node's own variables slow its start (NODE_EXTRA_CA_CERTS: 48 ms) or change what runs (NODE_OPTIONS). */
static void filter_environment(void) {
  char **kept = environment;
  for (char **entry = environment; *entry; entry++)
    if (!starts(*entry, "NODE_")) *kept++ = *entry;
  *kept = 0;
}

/* <file> beside the executable (../lib), else where it was built for. */
static int library(char *path, const char *file) {
  i64 n = syscall4(NR_readlinkat, AT_FDCWD, "/proc/self/exe", path, MAX_PATH - 1);
  if (n > 0) {
    while (n > 0 && path[n - 1] != '/') n--;
    path[n] = 0;
    if (append(path, MAX_PATH, "../lib/") && append(path, MAX_PATH, file) && exists(path)) return 1;
  }
  const char *directory = *variable("NETCTL_LIB_DIR") ? variable("NETCTL_LIB_DIR") : LIB_DIRECTORY;
  path[0] = 0;
  return append(path, MAX_PATH, directory) && append(path, MAX_PATH, "/") && append(path, MAX_PATH, file) &&
         exists(path);
}

/* Returns only if no Node could be started. */
static void run_node(const char **arguments, const char **with) {
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
}

/* What was read from stdin already, as a file that the next program can read. */
static void give_back_input(void) {
  int fd = (int)syscall2(NR_memfd_create, "stdin", 0);
  if (fd < 0 || !put(fd, input, input_size))
    fail("11", "Cannot keep the network configuration for a process without netd: no memory file");
  syscall3(NR_lseek, fd, 0, 0);
  syscall3(NR_dup3, fd, 0, 0);
  syscall1(NR_close, fd);
}

__attribute__((noreturn)) static void standalone(const char *name) {
  static char program[MAX_PATH];
  if (!library(program, "standalone.cjs"))
    fail("999", "Cannot find standalone.cjs: install it in ../lib beside this executable, or set NETCTL_LIB_DIR");
  crash_point("standalone");
  if (has_input) give_back_input();
  const char *arguments[] = {"node", program, name, 0};
  run_node(arguments, (const char **)environment);
  fail("999", "Cannot start node: install Node 20.11 or newer in PATH, or set NETCTL_NODE");
}

static int transmit(int fd, struct iovec *iov, u64 count, i64 until) {
  while (count > 0) {
    struct msghdr message = {0, 0, iov, count, 0, 0, 0};
    i64 n = syscall3(NR_sendmsg, fd, &message, 0x4000 | 0x40 /* MSG_NOSIGNAL | MSG_DONTWAIT */);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      if (!ready(fd, POLLOUT, until)) return 0;
      continue;
    }
    if (n < 0) return 0;
    while (count > 0 && (u64)n >= iov->size) n -= (i64)iov->size, iov++, count--;
    if (count > 0) iov->base = (char *)iov->base + n, iov->size -= (u64)n;
  }
  return 1;
}

enum outcome { LATE = -1, GONE = 0, GOT = 1 };

/* Fills `reply` up to `size` bytes, of which *have are there, and takes more if there is more. */
static enum outcome receive(int fd, u64 *have, u64 size, i64 until) {
  while (*have < size) {
    if (!ready(fd, POLLIN, until)) return LATE;
    i64 n = syscall3(NR_read, fd, reply + *have, sizeof reply - *have);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n <= 0) return GONE;
    *have += (u64)n;
  }
  return GOT;
}

static void read_input(void) {
  for (has_input = 1;;) {
    if (input_size == MAX_STDIN) fail("6", "Cannot read the network configuration: stdin is longer than 4 MiB");
    i64 n = syscall3(NR_read, 0, input + input_size, MAX_STDIN - input_size);
    if (n == -EINTR || (n == -EAGAIN && ready(0, POLLIN, now_ms() + PRINT_TIMEOUT_MS))) continue;
    if (n < 0) fail("5", "Cannot read the network configuration from stdin");
    if (n == 0) return;
    input_size += (u64)n;
  }
}

/* A descriptor of ours must not get the number of a standard stream that the caller closed. */
static void open_standard_streams(void) {
  struct timespec none = {0, 0};
  struct pollfd streams[] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
  syscall5(NR_ppoll, streams, 3, &none, 0, 8);
  for (int i = 0; i < 3; i++)
    if (streams[i].revents & POLLNVAL) syscall4(NR_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
}

/*
 * Takes the lock under which netd is started and runs. -1: another has it, or the last one that was started got
 * no further within the last seconds. The file says "starting" until netd writes its pid there.
 */
static int lock_service(const char *path) {
  struct statx s = {0};
  struct timespec now;
  char state = 0;
  int fd = (int)syscall4(NR_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (fd < 0) return -1;
  if (syscall2(NR_flock, fd, 2 | 4 /* LOCK_EX | LOCK_NB */) < 0 ||
      syscall5(NR_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_UID | STATX_MTIME, &s) < 0 ||
      (s.mode & 0170000) != 0100000 || s.uid != (u32)syscall0(NR_geteuid))
    goto refused;
  syscall2(NR_clock_gettime, 0 /* CLOCK_REALTIME */, &now);
  i64 age = now.seconds - s.modified.seconds;
  if (syscall4(NR_pread64, fd, &state, 1, 0) == 1 && state == 's' && age >= 0 && age < RESTART_PAUSE_S) goto refused;
  syscall4(NR_pwrite64, fd, "starting\n", 9, 0);
  return fd;
refused:
  syscall1(NR_close, fd);
  return -1;
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
  int fd = lock_service(lock);
  if (fd < 0) return;
  i64 pid = syscall5(NR_clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
  if (pid != 0) {
    syscall1(NR_close, fd);
    while (pid > 0 && syscall4(NR_wait4, pid, 0, 0, 0) == -EINTR) continue;
    return;
  }
  syscall0(NR_setsid);
  /* Twice, so that the service is no child of a process that becomes the plugin and must be waited for. */
  if (syscall5(NR_clone, 17, 0, 0, 0, 0) != 0) leave(0);
  syscall1(NR_chdir, "/");
  int null = (int)syscall4(NR_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
  if (null < 0) leave(1);
  for (int i = 0; i < 3; i++) syscall3(NR_dup3, null, i, 0);
  if (fd != 3) syscall3(NR_dup3, fd, 3, 0);
  if (syscall3(NR_close_range, 4, ~0U, 0) < 0)
    for (int i = 4; i < 4096; i++) syscall1(NR_close, i);
  static const char *kept[MAX_SERVICE_VARIABLES + 3];
  u32 n = 0;
  for (char **entry = environment; *entry && n < MAX_SERVICE_VARIABLES; entry++)
    if ((starts(*entry, "NETCTL_") && !starts(*entry, "NETCTL_NETD_LOCK_FD=")) || starts(*entry, "PATH="))
      kept[n++] = *entry;
  kept[n++] = "NETCTL_NETD_LOCK_FD=3";
  if (!*variable("NETCTL_IDLE_EXIT_SECONDS")) kept[n++] = "NETCTL_IDLE_EXIT_SECONDS=600";
  kept[n] = 0;
  /* Else V8 lets garbage grow to 48 MB before it looks; costs no time that could be measured. */
  const char *arguments[] = {"netd", "--optimize-for-size", program, 0};
  run_node(arguments, kept);
  leave(1);
}

/* A connected socket, or -1 where nobody listens whom this call could be trusted to. */
static int connect_service(u64 network) {
  const char *run = *variable("NETCTL_RUN_DIR") ? variable("NETCTL_RUN_DIR") : "/run/netctl";
  char digits[24], lock[MAX_PATH] = "";
  struct sockaddr_un address = {1, ""};
  number(network, digits);
  /* The namespace is in the name: one netd per network namespace, and none finds that of another. */
  if (network == 0 || !append(address.path, 108, run) || !append(address.path, 108, "/netd-") ||
      !append(address.path, 108, digits) || !append(lock, MAX_PATH, address.path) ||
      !append(address.path, 108, ".sock") || !append(lock, MAX_PATH, ".lock"))
    return -1;
  int fd = (int)syscall3(NR_socket, 1, 1 | 02000000 | 04000 /* SOCK_STREAM | CLOEXEC | NONBLOCK */, 0);
  if (fd < 0) return -1;
  i64 error = syscall3(NR_connect, fd, &address, sizeof address);
  if (error == 0) {
    u32 self = (u32)syscall0(NR_geteuid), size = sizeof(struct ucred);
    struct ucred peer = {0, ~0U, 0};
    struct statx file = {.uid = ~0U};
    syscall5(NR_getsockopt, fd, 1 /* SOL_SOCKET */, 17 /* SO_PEERCRED */, &peer, &size);
    syscall5(NR_statx, AT_FDCWD, address.path, AT_SYMLINK_NOFOLLOW, STATX_UID, &file);
    if ((peer.uid == 0 || peer.uid == self) && (file.uid == 0 || file.uid == self)) return fd;
  }
  syscall1(NR_close, fd);
  /* Refused: a stale socket, or something else in its place. */
  if ((error == -ENOENT || error == -ECONNREFUSED) && !equal(variable("NETCTL_NETD"), "never"))
    start_service(run, lock);
  return -1;
}

static u32 timeout_from(const char *name, u32 otherwise) {
  u64 value = 0;
  const char *at = variable(name);
  for (; *at >= '0' && *at <= '9'; at++)
    if (value < MAX_REPLY_TIMEOUT_MS) value = value * 10 + (u64)(*at - '0');
  if (*at || value == 0) return otherwise;
  return value < MAX_REPLY_TIMEOUT_MS ? (u32)value : MAX_REPLY_TIMEOUT_MS;
}

/* How long netd may take to accept. A test that asks who has done the work waits longer on a busy machine. */
static u32 accept_timeout_ms(int is_status) {
  u32 usual = is_status ? STATUS_TIMEOUT_MS : ACCEPT_TIMEOUT_MS;
#ifdef NETCTL_FAULTS
  return timeout_from("NETCTL_ACCEPT_TIMEOUT_MS", usual);
#else
  return usual;
#endif
}

/* Hands the call to netd. Returns when the call has to go the standalone way instead. */
static void ask_service(const char *name, int is_status) {
  struct sigaction ignore = {1 /* SIG_IGN */, 0, 0, 0};
  syscall4(NR_rt_sigaction, 13 /* SIGPIPE */, &ignore, 0, 8);
  open_standard_streams();
  u64 network = inode("/proc/self/ns/net");
  int fd = connect_service(network);
  if (fd < 0) return;

  crash_point("connected");
  u64 environment_size = 0;
  for (char **entry = environment; *entry; entry++) {
    u64 size = length(*entry) + 1;
    if (environment_size + size > MAX_ENVIRONMENT) goto withdraw;
    memcpy(block + environment_size, *entry, size);
    environment_size += size;
  }
  read_input();
  struct statx root = {0};
  syscall5(NR_statx, AT_FDCWD, "/", 0, STATX_INO, &root);
  u32 timeout_ms = timeout_from("NETCTL_TIMEOUT_MS", DEFAULT_REPLY_TIMEOUT_MS);
  struct request header = {
      {'N', 'C', 'T', '2'}, (u32)length(name), (u32)environment_size, (u32)input_size,
      network, inode("/proc/self/ns/mnt"), root.inode,
      /* As stat(2) gives it: new_encode_dev() of include/linux/kdev_t.h */
      (root.dev_minor & 0xff) | (root.dev_major << 8) | ((root.dev_minor & ~0xffU) << 12), timeout_ms};
  struct iovec parts[] = {{&header, sizeof header}, {(void *)name, header.name_size},
                          {block, header.environment_size}, {input, header.stdin_size}};
  i64 start = now_ms();
  i64 accepted_until = start + accept_timeout_ms(is_status);
  /* A STATUS changes nothing, so it need not wait for a netd that hangs. */
  i64 until = is_status ? accepted_until : start + timeout_ms;
  u64 have = 0;
  int sent = transmit(fd, parts, 4, accepted_until);
  crash_point("sent");
  if (!sent || receive(fd, &have, 1, accepted_until) != GOT || reply[0] != 'A') goto withdraw;
  crash_point("accepted");

  u32 code, output_size, error_size;
  enum outcome got = receive(fd, &have, REPLY_HEADER, until);
  if (got == GOT) {
    memcpy(&code, reply + 1, 4);
    memcpy(&output_size, reply + 5, 4);
    memcpy(&error_size, reply + 9, 4);
    if ((u64)output_size + error_size > MAX_REPLY) fail("999", "Cannot use netd's answer: it is longer than 4 MiB");
    got = receive(fd, &have, REPLY_HEADER + (u64)output_size + error_size, until);
  }
  if (got == GOT) {
    crash_point("before-print");
    put(2, reply + REPLY_HEADER + output_size, error_size);
    leave(put(1, reply + REPLY_HEADER, output_size) ? (int)code : 1);
  }
  if (got == LATE && !is_status)
    fail("11", "Cannot get an answer from netd within the deadline (NETCTL_TIMEOUT_MS): try again later");
  crash_point("netd-lost");
withdraw:
  syscall1(NR_close, fd);
}

/* Becomes netctl: the program's name goes in before the arguments, where argc and argv[0] were. */
__attribute__((noreturn)) static void become_netctl(u64 *stack) {
  static char program[MAX_PATH];
  const char **arguments = (const char **)stack;
  if (!library(program, "netctl.cjs")) say(2, "netctl: cannot find netctl.cjs; set NETCTL_LIB_DIR\n"), leave(1);
  arguments[0] = "netctl";
  arguments[1] = program;
  run_node(arguments, (const char **)environment);
  say(2, "netctl: cannot start node; install Node 20.11 or newer in PATH, or set NETCTL_NODE\n");
  leave(1);
}

__attribute__((used, noreturn)) void entry(u64 *stack) {
  char **arguments = (char **)(stack + 1);
  environment = arguments + stack[0] + 1;
  const char *name = stack[0] > 0 ? arguments[0] : "";
  for (const char *at = name; *at; at++)
    if (*at == '/') name = at + 1;
  filter_environment();
  if (equal(name, "netctl")) become_netctl(stack);

  const char *command = variable("CNI_COMMAND");
  if (equal(command, "VERSION")) {
    say(1, "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" SUPPORTED "]}");
    leave(0);
  }
  if (*command && !equal(variable("NETCTL_STANDALONE"), "1")) ask_service(name, equal(command, "STATUS"));
  standalone(name);
}
