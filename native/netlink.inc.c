// Netlink sockets: opened in a namespace, asked, and closed.

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
