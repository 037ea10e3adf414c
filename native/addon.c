// The few system calls that Node lacks, as one Node-API addon in plain C (no libuv, no V8: one file runs on every Node).
//
// Rule that everything here keeps: a thread that enters another network namespace leaves it again before the call
// returns to JavaScript. Whatever runs in between (a thread of the pool being started, a child process) would stay in
// the wrong namespace for ever. Where the way back fails, the process aborts: there is no state it could go on from.
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#define NAPI_VERSION 8
#include <node_api.h>

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif
#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

// ---------------------------------------------------------------------------------------------------------- errors

// strerrorname_np is glibc's alone; these are the numbers that the kernel's network code answers with.
static const char *error_name(int number) {
  switch (number) {
#define NAME(name) case name: return #name;
    NAME(EPERM) NAME(ENOENT) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(E2BIG) NAME(EBADF) NAME(EAGAIN) NAME(ENOMEM)
    NAME(EACCES) NAME(EFAULT) NAME(EBUSY) NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR)
    NAME(EINVAL) NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(EFBIG) NAME(ENOSPC) NAME(EROFS) NAME(EMLINK)
    NAME(ERANGE) NAME(ENAMETOOLONG) NAME(ENOLCK) NAME(ENOSYS) NAME(ELOOP) NAME(ENOTSOCK) NAME(EMSGSIZE)
    NAME(EPROTONOSUPPORT) NAME(ESOCKTNOSUPPORT) NAME(EOPNOTSUPP) NAME(EAFNOSUPPORT) NAME(EADDRINUSE)
    NAME(EADDRNOTAVAIL) NAME(ENETDOWN) NAME(ENETUNREACH) NAME(ENOBUFS) NAME(ENOTCONN) NAME(ETIMEDOUT)
    NAME(ECONNREFUSED) NAME(EUSERS) NAME(EOVERFLOW)
#undef NAME
    default: return NULL;
  }
}

// Error with `errno` (positive), `code` ("ENOENT") and `syscall`, the shape of Node's own, and with text like theirs.
static napi_value make_error(napi_env env, const char *call, int number) {
  char text[256], unnamed[16];
  const char *name = error_name(number);
  if (!name) {
    snprintf(unnamed, sizeof unnamed, "E%d", number);
    name = unnamed;
  }
  snprintf(text, sizeof text, "%s: %s, %s", name, strerror(number), call);
  napi_value message, code, syscall, value, error;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &syscall);
  napi_create_int32(env, number, &value);
  napi_create_error(env, code, message, &error);
  napi_set_named_property(env, error, "errno", value);
  napi_set_named_property(env, error, "syscall", syscall);
  return error;
}

static napi_value fail(napi_env env, const char *call, int number) {
  napi_throw(env, make_error(env, call, number));
  return NULL;
}

// ------------------------------------------------------------------------------------------------------- arguments

#define PATH_BYTES 4096
#define FILE_BYTES (64 << 10)
#define MAX_FILES 32

static bool int_argument(napi_env env, napi_value value, int32_t *into) {
  if (napi_get_value_int32(env, value, into) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "native call: expected a number");
  return false;
}

static bool bytes_argument(napi_env env, napi_value value, uint8_t **data, size_t *length) {
  napi_typedarray_type type;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is &&
      napi_get_typedarray_info(env, value, &type, length, (void **)data, NULL, NULL) == napi_ok && type == napi_uint8_array)
    return true;
  napi_throw_type_error(env, NULL, "native call: expected a Uint8Array");
  return false;
}

static bool text_argument(napi_env env, napi_value value, char *into, size_t size, const char *call) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a string");
    return false;
  }
  if (length >= size) {
    fail(env, call, ENAMETOOLONG);
    return false;
  }
  napi_get_value_string_utf8(env, value, into, size, &length);
  if (strlen(into) != length) {
    fail(env, call, EINVAL);
    return false;
  }
  return true;
}

#define ARGUMENTS(n)                                                              \
  napi_value argument[n];                                                         \
  size_t count = n;                                                               \
  napi_get_cb_info(env, info, &count, argument, NULL, NULL);                      \
  if (count < n) {                                                                \
    napi_throw_type_error(env, NULL, "native call: too few arguments");           \
    return NULL;                                                                  \
  }

static napi_value number(napi_env env, int32_t value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static napi_value boolean(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

// ------------------------------------------------------------------------------------------------ namespaces: visits

// thread-self and not self: in a Worker, self is the main thread's namespace.
#define OWN_NAMESPACE "/proc/thread-self/ns/net"

static struct stat own_namespace;
static int way_back = -1;
static pthread_once_t own_namespace_read = PTHREAD_ONCE_INIT;

// All threads of the process are in one namespace, that of its start: see the rule at the top. It stays open.
static void read_own_namespace(void) {
  way_back = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
  if (way_back < 0 || fstat(way_back, &own_namespace) < 0) memset(&own_namespace, 0, sizeof own_namespace);
}

// False without /proc.
static bool knows_way_back(void) {
  pthread_once(&own_namespace_read, read_own_namespace);
  return own_namespace.st_ino != 0;
}

static bool is_own(int namespace) {
  struct stat file;
  return knows_way_back() && fstat(namespace, &file) == 0 && file.st_ino == own_namespace.st_ino &&
         file.st_dev == own_namespace.st_dev;
}

// Enters the namespace; returns the fd of the way back, or -1 with errno. The own one, or a `namespace` below 0: -2.
static int enter(int namespace) {
  if (namespace < 0 || is_own(namespace)) return -2;
  if (!knows_way_back()) {
    errno = ENOENT;
    return -1;
  }
  return setns(namespace, CLONE_NEWNET) < 0 ? -1 : way_back;
}

// Keeps errno. Aborts where the thread can't return.
static void leave(int back) {
  if (back < 0) return;
  int saved = errno;
  if (setns(back, CLONE_NEWNET) < 0) {
    perror("netctl: cannot return to the own network namespace");
    abort();
  }
  errno = saved;
}

static int socket_in(int namespace, int domain, int type, int protocol) {
  int back = enter(namespace);
  if (back == -1) return -1;
  int fd = socket(domain, type, protocol);
  leave(back);
  return fd;
}

// ---------------------------------------------------------------------------------------------------------- netlink

// Room for the acks of thousands of requests in one datagram, and for batches above the 208 KiB default.
#define SOCKET_BUFFER (8 << 20)

static void set_buffer(int fd, int forced, int plain) {
  int size = SOCKET_BUFFER;
  // FORCE wants CAP_NET_ADMIN in the first user namespace, which a rootless caller lacks.
  if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) < 0) setsockopt(fd, SOL_SOCKET, plain, &size, sizeof size);
}

static int netlink_open(int namespace, int protocol) {
  int fd = socket_in(namespace, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return -1;
  int on = 1;
  // Kernels without an option answer without what it adds; nothing depends on it.
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

struct bytes {
  uint8_t *data;
  size_t length, size;
};

// The kernel cuts a dump into pieces of at most 32 KiB, and its answers to single requests are smaller.
#define DATAGRAM (64 << 10)

static bool reserve(struct bytes *bytes, size_t more) {
  if (bytes->size - bytes->length >= more) return true;
  size_t size = bytes->size ? bytes->size * 2 : 4096;
  if (size < bytes->length + more) size = bytes->length + more;
  uint8_t *data = realloc(bytes->data, size);
  if (!data) return false;
  bytes->data = data;
  bytes->size = size;
  return true;
}

// Appends one queued datagram, padded to NLMSG_ALIGNTO. 1: read one, 0: nothing is queued, -1: errno.
static int receive(int fd, struct bytes *into) {
  uint8_t datagram[DATAGRAM];
  for (;;) {
    struct sockaddr_nl from = {0};
    struct iovec vector = {datagram, sizeof datagram};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &vector, .msg_iovlen = 1};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? 0 : -1;
    if (from.nl_pid != 0) continue; // from another process, not from the kernel
    if (message.msg_flags & MSG_TRUNC) {
      errno = EMSGSIZE;
      return -1;
    }
    size_t padded = NLMSG_ALIGN((size_t)length);
    if (!reserve(into, padded)) {
      errno = ENOMEM;
      return -1;
    }
    memcpy(into->data + into->length, datagram, (size_t)length);
    memset(into->data + into->length + length, 0, padded - (size_t)length);
    into->length += padded;
    return 1;
  }
}

// The kernel serves rtnetlink and nfnetlink inside sendmsg, and continues a dump inside recvmsg: whatever will be
// answered is queued when the calls return. So EAGAIN is the end, and counting acks, which waits for ever where the
// kernel answers a whole batch with one error, is not needed. Returns 0 or an errno; after ENOBUFS (answers were
// lost) and EMSGSIZE (one was cut short) all is drained.
static int exchange(int fd, const uint8_t *data, size_t length, struct bytes *replies, const char **call) {
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  ssize_t sent;
  *call = "sendto";
  do sent = sendto(fd, data, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno;
  *call = "recvmsg";
  int failed = 0;
  for (;;) {
    int got = receive(fd, replies);
    if (got == 0) return failed;
    if (got < 0 && errno != ENOBUFS && errno != EMSGSIZE) return errno;
    if (got < 0) failed = errno;
  }
}

// A Uint8Array and not a Buffer: to make a view of a part, as decoding does all the time, costs half as much.
static napi_value take_bytes(napi_env env, struct bytes *bytes) {
  napi_value buffer, result = NULL;
  void *data;
  if (napi_create_arraybuffer(env, bytes->length, &data, &buffer) == napi_ok) {
    if (bytes->length > 0) memcpy(data, bytes->data, bytes->length);
    napi_create_typedarray(env, napi_uint8_array, bytes->length, buffer, 0, &result);
  }
  free(bytes->data);
  return result;
}

// netlinkOpen(namespaceFd | -1, protocol) -> { fd, port }
static napi_value NetlinkOpen(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t namespace, protocol;
  if (!int_argument(env, argument[0], &namespace) || !int_argument(env, argument[1], &protocol)) return NULL;
  int fd = netlink_open(namespace, protocol);
  if (fd < 0) return fail(env, "socket", errno);
  struct sockaddr_nl address;
  socklen_t length = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
    int saved = errno;
    close(fd);
    return fail(env, "getsockname", saved);
  }
  napi_value result, port;
  napi_create_object(env, &result);
  napi_create_uint32(env, address.nl_pid, &port);
  napi_set_named_property(env, result, "fd", number(env, fd));
  napi_set_named_property(env, result, "port", port);
  return result;
}

// The last close(2) of an nf_tables socket waits until the kernel has freed what was deleted by anybody: 10 ms (RCU;
// nft_rcv_nl_event in net/netfilter/nf_tables_api.c). So the last one is made the kernel's: a socket of a pair that is
// sent to itself belongs to nobody but that message, and what else is in the message goes with it, on a kernel thread
// (net/unix/garbage.c; kernels before 6.9 look for such sockets here and now, and wait as close(2) does).
static void close_by_kernel(int fd) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0) {
    close(fd);
    return;
  }
  const int sent[2] = {fd, pair[1]};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof sent)];
  } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof sent)}};
  memcpy(CMSG_DATA(&control.header), sent, sizeof sent);
  struct iovec nothing = {"", 1};
  struct msghdr message = {
      .msg_iov = &nothing, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
  sendmsg(pair[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  // Where nothing was sent, these are the last ones as ever. The one that is closed for good comes last: that makes the
  // kernel look.
  close(pair[1]);
  close(fd);
  close(pair[0]);
}

// netlinkClose(fd, waits)
static napi_value NetlinkClose(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  bool waits;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  if (napi_get_value_bool(env, argument[1], &waits) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a boolean");
    return NULL;
  }
  if (waits) close(fd);
  else close_by_kernel(fd);
  return NULL;
}

// netlinkExchange(fd, datagram) -> all replies, one after the other
static napi_value NetlinkExchange(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  struct bytes replies = {0};
  const char *call;
  int error = exchange(fd, data, length, &replies, &call);
  if (error) {
    free(replies.data);
    return fail(env, call, error);
  }
  return take_bytes(env, &replies);
}

// netlinkJoin(fd, group)
static napi_value NetlinkJoin(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd, group;
  if (!int_argument(env, argument[0], &fd) || !int_argument(env, argument[1], &group)) return NULL;
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) return fail(env, "setsockopt", errno);
  return NULL;
}

// netlinkReceive(fd) -> everything queued; empty where nothing is. ENOBUFS: notifications were lost.
static napi_value NetlinkReceive(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  struct bytes queued = {0};
  for (;;) {
    int got = receive(fd, &queued);
    if (got == 1) continue;
    if (got == 0) return take_bytes(env, &queued);
    int saved = errno;
    free(queued.data);
    return fail(env, "recvmsg", saved);
  }
}

// ------------------------------------------------------------------------------------- netlink: on a thread of the pool

struct exchange_work {
  napi_async_work work;
  napi_deferred deferred;
  int fd, error;
  const char *call;
  struct bytes request, replies;
};

static void settle(napi_env env, napi_deferred deferred, const char *call, int error, struct bytes *replies) {
  if (error) {
    free(replies->data);
    napi_reject_deferred(env, deferred, make_error(env, call, error));
    return;
  }
  napi_resolve_deferred(env, deferred, take_bytes(env, replies));
}

static void exchange_run(napi_env env, void *data) {
  (void)env;
  struct exchange_work *work = data;
  work->error = exchange(work->fd, work->request.data, work->request.length, &work->replies, &work->call);
}

static void exchange_done(napi_env env, napi_status status, void *data) {
  struct exchange_work *work = data;
  if (status != napi_ok) work->error = ECANCELED, work->call = "sendto";
  settle(env, work->deferred, work->call, work->error, &work->replies);
  napi_delete_async_work(env, work->work);
  free(work->request.data);
  free(work);
}

static bool copy_bytes(struct bytes *into, const uint8_t *data, size_t length) {
  if (!reserve(into, length ? length : 1)) return false;
  memcpy(into->data, data, length);
  into->length = length;
  return true;
}

// netlinkExchangeAsync(fd, datagram) -> Promise of all replies. The fd stays the caller's and must stay open and unused.
static napi_value NetlinkExchangeAsync(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  struct exchange_work *work = calloc(1, sizeof *work);
  if (!work || !copy_bytes(&work->request, data, length)) {
    free(work);
    return fail(env, "malloc", ENOMEM);
  }
  work->fd = fd;
  napi_value promise, name;
  napi_create_promise(env, &work->deferred, &promise);
  napi_create_string_utf8(env, "netlinkExchange", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, NULL, name, exchange_run, exchange_done, work, &work->work);
  napi_queue_async_work(env, work->work);
  return promise;
}

// ---------------------------------------------------------------------------------------------- netlink: link deletion

// RTM_DELLINK returns after an RCU grace period (15 ms), but subscribers of RTNLGRP_LINK hear of it after 1 ms, and by
// then the link is gone for everybody. So a thread of its own sits in the call while a thread of the pool listens, and
// the promise settles with whichever is first. The thread holds only what is in `deletion`, and the last one frees it.
struct deletion {
  atomic_int users;
  int request_fd, done_fd, error;
  const char *call;
  struct bytes request, replies;
};

struct deletion_work {
  napi_async_work work;
  napi_deferred deferred;
  struct deletion *deletion;
  int monitor_fd;
  int32_t *indexes; // still expected
  size_t expected;
  bool noticed;
};

static void release(struct deletion *deletion) {
  if (atomic_fetch_sub(&deletion->users, 1) != 1) return;
  if (deletion->request_fd >= 0) close(deletion->request_fd);
  if (deletion->done_fd >= 0) close(deletion->done_fd);
  free(deletion->request.data);
  free(deletion->replies.data);
  free(deletion);
}

static void *deletion_thread(void *data) {
  struct deletion *deletion = data;
  deletion->error =
      exchange(deletion->request_fd, deletion->request.data, deletion->request.length, &deletion->replies, &deletion->call);
  uint64_t one = 1;
  while (write(deletion->done_fd, &one, sizeof one) < 0 && errno == EINTR) {}
  release(deletion);
  return NULL;
}

// 0 or an errno.
static int start_detached(void *(*run)(void *), void *data) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_t thread;
  int error = pthread_attr_init(&attributes);
  if (error) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  // Signals belong to the threads that Node knows.
  pthread_sigmask(SIG_SETMASK, &all, &before);
  error = pthread_create(&thread, &attributes, run, data);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

// Set by a process that ends as soon as its one verb has: a thread in the call would keep it from ending.
static bool deletes_by_child;

static void close_between(unsigned first, unsigned last) {
  if (first > last || syscall(436 /* close_range */, first, last, 0) == 0) return;
  for (unsigned fd = first; fd <= last && fd < 65536; fd++) close((int)fd);
}

// A child process sits in the call, with nothing of its parent's but two descriptors, and outlives it by as much as the
// kernel takes. Only what is safe after fork(2) of many threads is called there.
static pid_t start_child(struct deletion *deletion) {
  pid_t child = fork();
  if (child != 0) return child;
  // A runtime waits until nobody has its pipes any more, and other processes for the locks.
  int low = deletion->request_fd, high = deletion->done_fd;
  if (low > high) low = deletion->done_fd, high = deletion->request_fd;
  if (low > 0) close_between(0, (unsigned)low - 1);
  close_between((unsigned)low + 1, (unsigned)high - 1);
  close_between((unsigned)high + 1, ~0U);
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  ssize_t sent = sendto(deletion->request_fd, deletion->request.data, deletion->request.length, 0, (struct sockaddr *)&kernel,
                        sizeof kernel);
  // The answers wait in the socket, which is the parent's as well.
  uint64_t outcome = sent < 0 ? (uint64_t)errno + 1 : 1;
  ssize_t told = write(deletion->done_fd, &outcome, sizeof outcome);
  _exit(told < 0);
}

#define CHILD_LOOK_MS 100

// True for a child that has ended without a word, killed by somebody.
static bool is_lost(pid_t child, const struct deletion *deletion) {
  struct pollfd told = {.fd = deletion->done_fd, .events = POLLIN};
  return waitpid(child, NULL, WNOHANG) == child && poll(&told, 1, 0) == 0;
}

// The child's call is over: what it got is read here.
static void collect_child(struct deletion *deletion) {
  uint64_t outcome = 1;
  while (read(deletion->done_fd, &outcome, sizeof outcome) < 0 && errno == EINTR) {}
  deletion->call = "sendto";
  deletion->error = (int)(outcome - 1);
  while (!deletion->error) {
    int got = receive(deletion->request_fd, &deletion->replies);
    if (got == 0) break;
    if (got < 0 && errno != ENOBUFS && errno != EMSGSIZE) deletion->call = "recvmsg", deletion->error = errno;
  }
}

static bool start_thread(struct deletion *deletion) {
  atomic_fetch_add(&deletion->users, 1);
  int error = start_detached(deletion_thread, deletion);
  if (error) atomic_fetch_sub(&deletion->users, 1);
  return error == 0;
}

// Strikes off what the notifications report as deleted.
static void strike(struct deletion_work *work, const struct bytes *news) {
  size_t offset = 0;
  while (news->length - offset >= NLMSG_HDRLEN + sizeof(struct ifinfomsg)) {
    struct nlmsghdr header;
    struct ifinfomsg link;
    memcpy(&header, news->data + offset, sizeof header);
    memcpy(&link, news->data + offset + NLMSG_HDRLEN, sizeof link);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > news->length - offset) return;
    // AF_BRIDGE reports that the link left its bridge, not that it is gone.
    if (header.nlmsg_type == RTM_DELLINK && link.ifi_family == AF_UNSPEC)
      for (size_t i = 0; i < work->expected; i++)
        if (work->indexes[i] == link.ifi_index) {
          work->indexes[i] = work->indexes[--work->expected];
          break;
        }
    offset += NLMSG_ALIGN(header.nlmsg_len);
  }
}

static void deletion_run(napi_env env, void *data) {
  (void)env;
  struct deletion_work *work = data;
  struct deletion *deletion = work->deletion;
  pid_t child = deletes_by_child ? start_child(deletion) : -1;
  bool by_child = child > 0;
  if (!by_child && !start_thread(deletion)) {
    deletion->error =
        exchange(deletion->request_fd, deletion->request.data, deletion->request.length, &deletion->replies, &deletion->call);
    return;
  }
  struct bytes news = {0};
  struct pollfd watched[2] = {{.fd = deletion->done_fd, .events = POLLIN}, {.fd = work->monitor_fd, .events = POLLIN}};
  for (;;) {
    int happened = poll(watched, 2, by_child ? CHILD_LOOK_MS : -1);
    if (happened == 0) {
      if (!is_lost(child, deletion)) continue;
      deletion->call = "fork", deletion->error = EIO;
      break;
    }
    if (happened < 0) {
      if (errno == EINTR) continue;
      // Without poll there is no first of two: wait for the call, whose results nobody may touch before it is done.
      if (by_child) {
        collect_child(deletion);
        break;
      }
      uint64_t done;
      while (read(deletion->done_fd, &done, sizeof done) < 0 && errno == EINTR) {}
      break;
    }
    if (watched[0].revents) {
      if (by_child) collect_child(deletion);
      break;
    }
    if (!watched[1].revents) continue;
    news.length = 0;
    int got = receive(work->monitor_fd, &news);
    if (got < 0) watched[1].fd = -1; // news were lost: the call's own return decides
    if (got == 1) strike(work, &news);
    if (work->expected == 0) {
      work->noticed = true;
      break;
    }
  }
  free(news.data);
}

static void deletion_done(napi_env env, napi_status status, void *data) {
  struct deletion_work *work = data;
  struct deletion *deletion = work->deletion;
  struct bytes none = {0};
  if (status != napi_ok) {
    settle(env, work->deferred, "sendto", ECANCELED, &none);
  } else if (work->noticed) {
    napi_value undefined;
    napi_get_undefined(env, &undefined);
    napi_resolve_deferred(env, work->deferred, undefined);
  } else {
    settle(env, work->deferred, deletion->call, deletion->error, &deletion->replies);
    deletion->replies = none;
  }
  napi_delete_async_work(env, work->work);
  close(work->monitor_fd);
  release(deletion);
  free(work->indexes);
  free(work);
}

// deleteLinksByChild(whether)
static napi_value DeleteLinksByChild(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  if (napi_get_value_bool(env, argument[0], &deletes_by_child) == napi_ok) return NULL;
  napi_throw_type_error(env, NULL, "native call: expected a boolean");
  return NULL;
}

// netlinkDeleteLinks(namespaceFd | -1, datagram, Int32Array of ifindexes) -> Promise: undefined once all are reported
// gone, or the replies where the call returned first (always so where it failed)
static napi_value NetlinkDeleteLinks(napi_env env, napi_callback_info info) {
  ARGUMENTS(3)
  int32_t namespace;
  uint8_t *data;
  size_t length, expected;
  int32_t *indexes;
  napi_typedarray_type type;
  if (!int_argument(env, argument[0], &namespace) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  if (napi_get_typedarray_info(env, argument[2], &type, &expected, (void **)&indexes, NULL, NULL) != napi_ok ||
      type != napi_int32_array || expected == 0) {
    napi_throw_type_error(env, NULL, "native call: expected an Int32Array with an element");
    return NULL;
  }
  struct deletion *deletion = calloc(1, sizeof *deletion);
  struct deletion_work *work = calloc(1, sizeof *work);
  if (!deletion || !work) {
    free(deletion);
    free(work);
    return fail(env, "malloc", ENOMEM);
  }
  const char *failed = NULL;
  int group = RTNLGRP_LINK, error = 0;
  atomic_init(&deletion->users, 1);
  deletion->call = "sendto";
  deletion->request_fd = deletion->done_fd = work->monitor_fd = -1;
  work->deletion = deletion;
  work->expected = expected;
  work->indexes = malloc(expected * sizeof *indexes);
  if (!work->indexes || !copy_bytes(&deletion->request, data, length)) failed = "malloc", errno = ENOMEM;
  else if ((deletion->request_fd = netlink_open(namespace, NETLINK_ROUTE)) < 0) failed = "socket";
  else if ((work->monitor_fd = netlink_open(namespace, NETLINK_ROUTE)) < 0) failed = "socket";
  else if (setsockopt(work->monitor_fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) failed = "setsockopt";
  else if ((deletion->done_fd = eventfd(0, EFD_CLOEXEC)) < 0) failed = "eventfd";
  if (failed) {
    error = errno;
    if (work->monitor_fd >= 0) close(work->monitor_fd);
    release(deletion);
    free(work->indexes);
    free(work);
    return fail(env, failed, error);
  }
  memcpy(work->indexes, indexes, expected * sizeof *indexes);
  napi_value promise, name;
  napi_create_promise(env, &work->deferred, &promise);
  napi_create_string_utf8(env, "netlinkDeleteLinks", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, NULL, name, deletion_run, deletion_done, work, &work->work);
  napi_queue_async_work(env, work->work);
  return promise;
}

// ---------------------------------------------------------------------------------------- netlink: news as they come

// netlinkIgnore(fd, port): the socket no longer gets notifications of what that netlink address has asked for. All
// messages of one notification carry it in nlmsg_pid.
static napi_value NetlinkIgnore(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint32_t port;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  if (napi_get_value_uint32(env, argument[1], &port) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a number");
    return NULL;
  }
  struct sock_filter code[] = {
      // BPF loads in network order, nlmsg_pid is in the machine's.
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct nlmsghdr, nlmsg_pid)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, htonl(port)},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 0xffffffff},
  };
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) return fail(env, "setsockopt", errno);
  return NULL;
}

// A thread of its own waits at the socket, since libuv's pool has four that others need. It hands over what it reads and
// waits while JavaScript is busy: then the kernel's buffer fills, and says so (ENOBUFS). It owns both descriptors.
struct watch {
  int fd, stop_fd;
  napi_threadsafe_function tell;
};

struct news {
  int error;
  struct bytes bytes;
};

#define NEWS_BYTES (1 << 20)

static void watch_call(napi_env env, napi_value callback, void *context, void *data) {
  (void)context;
  struct news *news = data;
  if (env) {
    napi_value undefined, told;
    napi_get_undefined(env, &undefined);
    if (news->error) {
      told = make_error(env, "recvmsg", news->error);
      free(news->bytes.data);
    } else {
      told = take_bytes(env, &news->bytes);
    }
    if (told) napi_call_function(env, undefined, callback, 1, &told, NULL);
  } else {
    free(news->bytes.data);
  }
  free(news);
}

static void *watch_thread(void *data) {
  struct watch *watch = data;
  struct pollfd watched[2] = {{.fd = watch->stop_fd, .events = POLLIN}, {.fd = watch->fd, .events = POLLIN}};
  for (;;) {
    if (poll(watched, 2, -1) < 0 && errno != EINTR) break;
    if (watched[0].revents) break;
    if (!watched[1].revents) continue;
    struct news *news = calloc(1, sizeof *news);
    if (!news) break;
    int got;
    do got = receive(watch->fd, &news->bytes);
    while (got == 1 && news->bytes.length < NEWS_BYTES);
    if (got < 0) news->error = errno;
    if (napi_call_threadsafe_function(watch->tell, news, napi_tsfn_blocking) != napi_ok) {
      free(news->bytes.data);
      free(news);
      break;
    }
    if (got < 0 && news->error != ENOBUFS && news->error != EMSGSIZE) break;
  }
  napi_release_threadsafe_function(watch->tell, napi_tsfn_release);
  close(watch->fd);
  close(watch->stop_fd);
  free(watch);
  return NULL;
}

// netlinkWatch(fd, callback(bytes | error)) -> descriptor that ends it when it is closed. Takes the socket over. Does not
// keep the process alive.
static napi_value NetlinkWatch(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  int ends[2];
  struct watch *watch = calloc(1, sizeof *watch);
  if (!watch || pipe2(ends, O_CLOEXEC) < 0) {
    int saved = watch ? errno : ENOMEM;
    free(watch);
    return fail(env, "pipe2", saved);
  }
  napi_value name;
  napi_create_string_utf8(env, "netlinkWatch", NAPI_AUTO_LENGTH, &name);
  watch->fd = fd;
  watch->stop_fd = ends[0];
  int error = EINVAL;
  if (napi_create_threadsafe_function(env, argument[1], NULL, name, 4, 1, NULL, NULL, NULL, watch_call, &watch->tell) == napi_ok) {
    napi_unref_threadsafe_function(env, watch->tell);
    error = start_detached(watch_thread, watch);
    if (error) napi_release_threadsafe_function(watch->tell, napi_tsfn_abort);
  }
  if (error) {
    close(ends[0]);
    close(ends[1]);
    free(watch);
    return fail(env, "pthread_create", error);
  }
  return number(env, ends[1]);
}

// --------------------------------------------------------------------------------------- other calls in a namespace

#include "own-proc.inc.c"

// Opens a network namespace. -1: errno; -2: what is there is something else.
static int open_network_namespace(const char *path, struct stat *file) {
  struct statfs system;
  // Before open(2), which would block on a fifo and act on a device.
  if (statfs(path, &system) < 0) return -1;
  if (system.f_type != NSFS_MAGIC) return -2;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -1;
  // Looked at again, as the file at the path may have changed: to other files the same number may mean anything.
  bool is = fstatfs(fd, &system) == 0 && system.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
  if (is && fstat(fd, file) == 0) return fd;
  close(fd);
  return -2;
}

// openNetworkNamespace(path) -> { fd, dev, ino }; undefined for what is there and is no network namespace
static napi_value OpenNetworkNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  struct stat file;
  int fd = open_network_namespace(path, &file);
  if (fd < 0) return fd == -1 ? fail(env, "open", errno) : NULL;
  napi_value result, dev, ino;
  napi_create_object(env, &result);
  napi_create_double(env, (double)file.st_dev, &dev);
  napi_create_double(env, (double)file.st_ino, &ino);
  napi_set_named_property(env, result, "fd", number(env, fd));
  napi_set_named_property(env, result, "dev", dev);
  napi_set_named_property(env, result, "ino", ino);
  return result;
}

// identifyNetworkNamespace(path) -> { dev, ino }; undefined for what is there and is no network namespace
static napi_value IdentifyNetworkNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  struct stat file;
  int fd = open_network_namespace(path, &file);
  if (fd < 0) return fd == -1 ? fail(env, "open", errno) : NULL;
  close(fd);
  napi_value result, dev, ino;
  napi_create_object(env, &result);
  napi_create_double(env, (double)file.st_dev, &dev);
  napi_create_double(env, (double)file.st_ino, &ino);
  napi_set_named_property(env, result, "dev", dev);
  napi_set_named_property(env, result, "ino", ino);
  return result;
}

// socketIn(namespaceFd | -1, domain, type, protocol) -> fd
static napi_value SocketIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  int32_t value[4];
  for (int i = 0; i < 4; i++)
    if (!int_argument(env, argument[i], &value[i])) return NULL;
  int fd = socket_in(value[0], value[1], value[2] | SOCK_CLOEXEC, value[3]);
  return fd < 0 ? fail(env, "socket", errno) : number(env, fd);
}

// packetSocketIn(namespaceFd | -1, ifindex, udpPort) -> fd: whole Ethernet frames of one link, of which the kernel hands up
// only IPv4 packets, no later fragments, with UDP to that port. It sends frames as they are given.
static napi_value PacketSocketIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(3)
  int32_t value[3];
  for (int i = 0; i < 3; i++)
    if (!int_argument(env, argument[i], &value[i])) return NULL;
  // Bound to no protocol, it gets nothing before the filter is there.
  int fd = socket_in(value[0], AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(env, "socket", errno);
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),                        // EtherType
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 8),             // IPv4
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),                        // protocol
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 6),                 // UDP
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),                        // flags and fragment offset
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),            // the first fragment has the ports
      BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),                       // length of the IP header
      BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),                        // destination port
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value[2] & 0xffff, 0, 1),  //
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),                         //
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = value[1]};
  const char *failed = NULL;
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) failed = "setsockopt";
  else if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) failed = "bind";
  if (!failed) return number(env, fd);
  int error = errno;
  close(fd);
  return fail(env, failed, error);
}

// readFileIn(namespaceFd | -1, path) -> text, at most 64 KiB. /proc/sys/net shows the opener's namespace; some handlers
// look at the reader's, so all of open, read and close happen inside.
static napi_value ReadFileIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t namespace;
  char path[PATH_BYTES];
  if (!int_argument(env, argument[0], &namespace) || !text_argument(env, argument[1], path, sizeof path, "open")) return NULL;
  char *text = malloc(FILE_BYTES);
  if (!text) return fail(env, "malloc", ENOMEM);
  const char *failed = NULL;
  int error = 0;
  size_t length = 0;
  int back = enter(namespace);
  if (back == -1) {
    error = errno, failed = "setns";
  } else {
    int fd = open_file(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) error = errno, failed = "open";
    while (fd >= 0 && length < FILE_BYTES) {
      ssize_t got = read(fd, text + length, FILE_BYTES - length);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) error = errno, failed = "read";
      if (got <= 0) break;
      length += (size_t)got;
    }
    if (fd >= 0) close(fd);
    leave(back);
  }
  napi_value result = NULL;
  if (failed) fail(env, failed, error);
  else napi_create_string_utf8(env, text, length, &result);
  free(text);
  return result;
}

// Writes the whole text at once, as sysctls want it, into a file that exists; 0 or an errno.
static int write_file(const char *path, const char *text) {
  int fd = open_file(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  ssize_t put;
  do put = write(fd, text, strlen(text));
  while (put < 0 && errno == EINTR);
  int error = put < 0 ? errno : 0;
  close(fd);
  return error;
}

// writeFilesIn(namespaceFd | -1, [path, text, path, text ...]) -> [errno or 0 ...], in one visit
static napi_value WriteFilesIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t namespace;
  uint32_t length = 0;
  if (!int_argument(env, argument[0], &namespace)) return NULL;
  if (napi_get_array_length(env, argument[1], &length) != napi_ok || length % 2 != 0 || length > 2 * MAX_FILES) {
    napi_throw_type_error(env, NULL, "native call: expected an array of at most 32 paths, a text after each");
    return NULL;
  }
  // All strings are fetched before the visit: a call of JavaScript may not be made in between.
  char (*strings)[PATH_BYTES] = malloc((length ? length : 1) * sizeof *strings);
  if (!strings) return fail(env, "malloc", ENOMEM);
  for (uint32_t i = 0; i < length; i++) {
    napi_value string;
    napi_get_element(env, argument[1], i, &string);
    if (!text_argument(env, string, strings[i], sizeof strings[i], i % 2 ? "write" : "open")) {
      free(strings);
      return NULL;
    }
  }
  int errors[MAX_FILES];
  int back = enter(namespace), failed = back == -1 ? errno : 0;
  if (!failed) {
    for (uint32_t i = 0; i < length; i += 2) errors[i / 2] = write_file(strings[i], strings[i + 1]);
    leave(back);
  }
  free(strings);
  if (failed) return fail(env, "setns", failed);
  napi_value result;
  napi_create_array_with_length(env, length / 2, &result);
  for (uint32_t i = 0; i < length / 2; i++) napi_set_element(env, result, i, number(env, errors[i]));
  return result;
}

// flock(fd, operation) -> false where LOCK_NB found it taken
static napi_value Flock(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd, operation;
  if (!int_argument(env, argument[0], &fd) || !int_argument(env, argument[1], &operation)) return NULL;
  int result;
  do result = flock(fd, operation);
  while (result < 0 && errno == EINTR);
  if (result == 0) return boolean(env, true);
  return errno == EWOULDBLOCK ? boolean(env, false) : fail(env, "flock", errno);
}

// lockFile(path, operation) -> fd that holds the lock, or -1 where LOCK_NB found it taken. The file is made if missing.
static napi_value LockFile(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  char path[PATH_BYTES];
  int32_t operation;
  if (!text_argument(env, argument[0], path, sizeof path, "open") || !int_argument(env, argument[1], &operation)) return NULL;
  for (;;) {
    int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail(env, "open", errno);
    int result;
    do result = flock(fd, operation);
    while (result < 0 && errno == EINTR);
    struct stat file;
    if (result == 0 && fstat(fd, &file) == 0 && file.st_nlink > 0) return number(env, fd);
    int saved = errno;
    close(fd);
    if (result == 0) continue; // somebody has removed it meanwhile: others lock its successor by now
    return saved == EWOULDBLOCK ? number(env, -1) : fail(env, "flock", saved);
  }
}

// modificationTime(path) -> nanoseconds as a bigint; undefined where there is nothing
static napi_value ModificationTime(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "stat")) return NULL;
  struct stat file;
  if (stat(path, &file) < 0) return errno == ENOENT ? NULL : fail(env, "stat", errno);
  napi_value result;
  napi_create_bigint_int64(env, file.st_mtim.tv_sec * INT64_C(1000000000) + file.st_mtim.tv_nsec, &result);
  return result;
}

// readLink(path) -> text of a symbolic link; undefined where there is none
static napi_value ReadLink(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES], text[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "readlink")) return NULL;
  ssize_t length = readlink(path, text, sizeof text);
  // EINVAL: something else than a link.
  if (length < 0) return errno == ENOENT || errno == EINVAL ? NULL : fail(env, "readlink", errno);
  napi_value result;
  napi_create_string_utf8(env, text, (size_t)length, &result);
  return result;
}

// readText(path) -> all of a file, as UTF-8; undefined where there is none
static napi_value ReadText(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES], small[FILE_BYTES / 8];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? NULL : fail(env, "open", errno);
  struct bytes text = {0};
  napi_value result = NULL;
  for (;;) {
    ssize_t got = read(fd, small, sizeof small);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 || !reserve(&text, (size_t)got)) {
      fail(env, "read", got < 0 ? errno : ENOMEM);
      break;
    }
    // One read tells all of a small file; the second one, that there is no more of it, is for the others.
    if (text.length == 0 && got < (ssize_t)sizeof small) {
      napi_create_string_utf8(env, small, (size_t)got, &result);
      break;
    }
    if (got == 0) {
      napi_create_string_utf8(env, (char *)text.data, text.length, &result);
      break;
    }
    memcpy(text.data + text.length, small, (size_t)got);
    text.length += (size_t)got;
  }
  close(fd);
  free(text.data);
  return result;
}

// crc32(bytes), as in gzip (RFC 1952 section 8)
static napi_value Crc32(napi_env env, napi_callback_info info) {
  // Remainders of the reflected polynomial 0xedb88320 for each four bits.
  static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                     0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
  ARGUMENTS(1)
  uint8_t *data;
  size_t length;
  if (!bytes_argument(env, argument[0], &data, &length)) return NULL;
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; i++) {
    crc ^= data[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  napi_value result;
  napi_create_uint32(env, ~crc, &result);
  return result;
}

// sha256(bytes) -> 64 hexadecimal digits (FIPS 180-4)
static const uint32_t sha256_round[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void sha256_block(uint32_t state[8], const uint8_t *block) {
  uint32_t w[64], s[8];
  for (int t = 0; t < 16; t++, block += 4)
    w[t] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
  for (int t = 16; t < 64; t++)
    w[t] = w[t - 16] + (rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3) + w[t - 7] +
           (rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10);
  memcpy(s, state, sizeof s);
  for (int t = 0; t < 64; t++) {
    uint32_t first = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                     sha256_round[t] + w[t];
    uint32_t second = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += first;
    s[0] = first + second;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

static napi_value Sha256(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  uint8_t *data, last[128] = {0};
  size_t length;
  if (!bytes_argument(env, argument[0], &data, &length)) return NULL;
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  size_t whole = length / 64 * 64, rest = length - whole, end = rest < 56 ? 64 : 128;
  for (size_t at = 0; at < whole; at += 64) sha256_block(state, data + at);
  // Section 5.1.1: a one bit, zeros, and the length in bits.
  if (rest > 0) memcpy(last, data + whole, rest);
  last[rest] = 0x80;
  for (int i = 0; i < 8; i++) last[end - 1 - i] = (uint8_t)((uint64_t)length * 8 >> 8 * i);
  for (size_t at = 0; at < end; at += 64) sha256_block(state, last + at);
  char digits[65];
  for (int i = 0; i < 8; i++) snprintf(digits + 8 * i, 9, "%08x", state[i]);
  napi_value result;
  napi_create_string_latin1(env, digits, 64, &result);
  return result;
}

// peerUid(fd) -> effective user id of the process that connected a unix socket
static napi_value PeerUid(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return fail(env, "getsockopt", errno);
  napi_value uid;
  napi_create_uint32(env, peer.uid, &uid);
  return uid;
}

// hasHungUp(fd) -> whether the other end of a stream socket sends nothing any more
static napi_value HasHungUp(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  struct pollfd socket = {.fd = fd, .events = POLLRDHUP};
  int found;
  do found = poll(&socket, 1, 0);
  while (found < 0 && errno == EINTR);
  if (found < 0) return fail(env, "poll", errno);
  return boolean(env, (socket.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0);
}

// sendNow(fd, bytes) -> how many of them a socket has taken at once
static napi_value SendNow(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t sent;
  do sent = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  // Whatever is wrong with it shows with the rest, which goes the ordinary way.
  return number(env, sent < 0 ? 0 : (int32_t)sent);
}

// receiveNow(fd, bytes) -> how many of them a socket had; 0 where it has none for the moment, or none any more
static napi_value ReceiveNow(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t got;
  do got = recv(fd, data, length, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  return number(env, got < 0 ? 0 : (int32_t)got);
}

// createNamespace(path): a new network namespace, kept by a bind mount on the file `path`, which is made here
static napi_value CreateNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  if (!knows_way_back()) return fail(env, "open", ENOENT);
  int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (file < 0) return fail(env, "open", errno);
  close(file);
  const char *failed = NULL;
  int error = 0;
  if (unshare(CLONE_NEWNET) < 0) {
    error = errno, failed = "unshare";
  } else {
    if (mount(OWN_NAMESPACE, path, "none", MS_BIND, NULL) < 0) error = errno, failed = "mount";
    leave(way_back);
  }
  if (!failed) return NULL;
  unlink(path);
  return fail(env, failed, error);
}

// removeNamespace(path): unmounts and unlinks; does nothing where there is no such file
static napi_value RemoveNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "umount2")) return NULL;
  // EINVAL: a file that nothing is mounted on, as a creation that was killed half-way leaves it.
  if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT) return fail(env, "umount2", errno);
  if (unlink(path) < 0 && errno != ENOENT) return fail(env, "unlink", errno);
  return NULL;
}

// createTap(namespaceFd | -1, name, flags, owner | -1, group | -1): a device that stays until somebody deletes it
static napi_value CreateTap(napi_env env, napi_callback_info info) {
  ARGUMENTS(5)
  int32_t namespace, flags;
  int64_t owner, group;
  struct ifreq request = {0};
  if (!int_argument(env, argument[0], &namespace) || !int_argument(env, argument[2], &flags) ||
      !text_argument(env, argument[1], request.ifr_name, sizeof request.ifr_name, "TUNSETIFF"))
    return NULL;
  if (napi_get_value_int64(env, argument[3], &owner) != napi_ok || napi_get_value_int64(env, argument[4], &group) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a number");
    return NULL;
  }
  // Without IFF_TUN_EXCL the kernel would take a device that is there already.
  request.ifr_flags = (short)(flags | IFF_TAP | IFF_TUN_EXCL);
  const char *failed = "setns";
  int error = 0;
  int back = enter(namespace);
  if (back == -1) return fail(env, failed, errno);
  // The file belongs to the namespace in which it is opened.
  int fd = open(failed = "/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) error = errno;
  else if (ioctl(fd, TUNSETIFF, &request) < 0) error = errno, failed = "TUNSETIFF";
  else if (owner >= 0 && ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0) error = errno, failed = "TUNSETOWNER";
  else if (group >= 0 && ioctl(fd, TUNSETGROUP, (unsigned long)group) < 0) error = errno, failed = "TUNSETGROUP";
  // Last: until then the device goes with the file.
  else if (ioctl(fd, TUNSETPERSIST, 1) < 0) error = errno, failed = "TUNSETPERSIST";
  if (fd >= 0) close(fd);
  leave(back);
  return error ? fail(env, failed, error) : NULL;
}

// keepMallocSmall()
static napi_value KeepMallocSmall(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
#ifdef __GLIBC__
  // V8's compiler and collector take and free megabytes in short-lived threads: with an arena for each of them, and
  // blocks of them in the middle of the heap, little of that ever goes back.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
  return NULL;
}

#include "poller.inc.c"

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"netlinkOpen", NetlinkOpen},
      {"netlinkClose", NetlinkClose},
      {"netlinkExchange", NetlinkExchange},
      {"netlinkExchangeAsync", NetlinkExchangeAsync},
      {"netlinkDeleteLinks", NetlinkDeleteLinks},
      {"deleteLinksByChild", DeleteLinksByChild},
      {"netlinkJoin", NetlinkJoin},
      {"netlinkReceive", NetlinkReceive},
      {"netlinkIgnore", NetlinkIgnore},
      {"netlinkWatch", NetlinkWatch},
      {"openNetworkNamespace", OpenNetworkNamespace},
      {"identifyNetworkNamespace", IdentifyNetworkNamespace},
      {"socketIn", SocketIn},
      {"packetSocketIn", PacketSocketIn},
      {"readFileIn", ReadFileIn},
      {"writeFilesIn", WriteFilesIn},
      {"useOwnProc", UseOwnProc},
      {"keepMallocSmall", KeepMallocSmall},
      {"flock", Flock},
      {"lockFile", LockFile},
      {"modificationTime", ModificationTime},
      {"readLink", ReadLink},
      {"readText", ReadText},
      {"crc32", Crc32},
      {"sha256", Sha256},
      {"peerUid", PeerUid},
      {"hasHungUp", HasHungUp},
      {"sendNow", SendNow},
      {"receiveNow", ReceiveNow},
      {"createNamespace", CreateNamespace},
      {"removeNamespace", RemoveNamespace},
      {"createTap", CreateTap},
      {"pollerCreate", PollerCreate},
      {"pollerAdd", PollerAdd},
      {"pollerWatch", PollerWatch},
      {"pollerClose", PollerClose},
      {"pollerDisown", PollerDisown},
      {"pollerWait", PollerWait},
      {"pollerTellAll", PollerTellAll},
      {"pollerAnswer", PollerAnswer},
      {"pollerAnswered", PollerAnswered},
      {"answersCreate", AnswersCreate},
      {"answersKeep", AnswersKeep},
      {"answersClear", AnswersClear},
      {"datagramsSend", DatagramsSend},
      {"socketBind", SocketBind},
      {"socketConnect", SocketConnect},
      {"socketListen", SocketListen},
      {"socketAccept", SocketAccept},
      {"socketReceive", SocketReceive},
      {"socketSend", SocketSend},
      {"socketOption", SocketOption},
      {"eventFd", EventFd},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    napi_value function;
    napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, NULL, &function);
    napi_set_named_property(env, exports, calls[i].name, function);
  }
  return exports;
}
