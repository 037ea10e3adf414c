// Part of addon.c: many sockets behind one epoll, read and written in batches, for the resolver's thread (dns-resolver/).
//
// A poller owns every descriptor that was added to it. They are closed with the thread that made it, however that ends:
// a socket in a container's namespace would keep that alive.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>

enum {
  POLL_EVENTS = 128,
  // Of one socket in one round, so that whoever floods waits for the others.
  POLL_MESSAGES = 16,
  SEND_MESSAGES = 64,
  RECORD_INTS = 4,
  // family (u16, host order), port (u16, network order), address: 4 or 16 bytes, scope (u32, host order)
  ADDRESS_BYTES = 24,
};

// What a record is about, in its second integer; anything above 0 is EPOLL*.
enum { RECORD_DATAGRAM = -1, RECORD_ERROR = -2 };

struct poller {
  int fd;
  int *owned;
  size_t count, size;
};

static void poller_close(void *data) {
  struct poller *poller = data;
  for (size_t i = 0; i < poller->count; i++) close(poller->owned[i]);
  close(poller->fd);
  free(poller->owned);
  free(poller);
}

static struct poller *poller_argument(napi_env env, napi_value value) {
  void *data = NULL;
  if (napi_get_value_external(env, value, &data) == napi_ok && data) return data;
  napi_throw_type_error(env, NULL, "native call: expected a poller");
  return NULL;
}

static bool int32s_argument(napi_env env, napi_value value, int32_t **data, size_t *length) {
  napi_typedarray_type type;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is &&
      napi_get_typedarray_info(env, value, &type, length, (void **)data, NULL, NULL) == napi_ok && type == napi_int32_array)
    return true;
  napi_throw_type_error(env, NULL, "native call: expected an Int32Array");
  return false;
}

// pollerCreate() -> poller
static napi_value PollerCreate(napi_env env, napi_callback_info info) {
  (void)info;
  struct poller *poller = calloc(1, sizeof *poller);
  if (!poller) return fail(env, "malloc", ENOMEM);
  poller->fd = epoll_create1(EPOLL_CLOEXEC);
  if (poller->fd < 0) {
    int saved = errno;
    free(poller);
    return fail(env, "epoll_create1", saved);
  }
  napi_value result;
  napi_create_external(env, poller, NULL, NULL, &result);
  napi_add_env_cleanup_hook(env, poller_close, poller);
  return result;
}

// pollerAdd(poller, fd, tag, isDatagrams)
static napi_value PollerAdd(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd, tag;
  bool datagrams;
  if (!poller || !int_argument(env, argument[1], &fd) || !int_argument(env, argument[2], &tag)) return NULL;
  if (napi_get_value_bool(env, argument[3], &datagrams) != napi_ok || tag < 0) {
    napi_throw_type_error(env, NULL, "native call: expected a tag and a boolean");
    return NULL;
  }
  if (poller->count == poller->size) {
    size_t size = poller->size ? poller->size * 2 : 64;
    int *owned = realloc(poller->owned, size * sizeof *owned);
    if (!owned) return fail(env, "malloc", ENOMEM);
    poller->owned = owned;
    poller->size = size;
  }
  uint32_t mark = (uint32_t)tag << 1 | (datagrams ? 1 : 0);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(uint32_t)fd << 32 | mark};
  if (epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event) < 0) return fail(env, "epoll_ctl", errno);
  poller->owned[poller->count++] = fd;
  return NULL;
}

// pollerWatch(poller, fd, tag, events): for what is not read as datagrams
static napi_value PollerWatch(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd, tag, events;
  if (!poller || !int_argument(env, argument[1], &fd) || !int_argument(env, argument[2], &tag) ||
      !int_argument(env, argument[3], &events))
    return NULL;
  struct epoll_event event = {.events = (uint32_t)events, .data.u64 = (uint64_t)(uint32_t)fd << 32 | (uint32_t)tag << 1};
  if (epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event) < 0) return fail(env, "epoll_ctl", errno);
  return NULL;
}

// pollerClose(poller, fd): closes the descriptor as well
static napi_value PollerClose(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  for (size_t i = poller->count; i-- > 0;)
    if (poller->owned[i] == fd) {
      poller->owned[i] = poller->owned[--poller->count];
      close(fd);
      break;
    }
  return NULL;
}

// pollerDisown(poller, fd): it is not closed with the poller; somebody else has it
static napi_value PollerDisown(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  for (size_t i = poller->count; i-- > 0;)
    if (poller->owned[i] == fd) {
      poller->owned[i] = poller->owned[--poller->count];
      break;
    }
  return NULL;
}

static void write_address(uint8_t *into, const struct sockaddr_storage *from) {
  memset(into, 0, ADDRESS_BYTES);
  uint16_t family = from->ss_family;
  memcpy(into, &family, 2);
  if (family == AF_INET) {
    const struct sockaddr_in *address = (const struct sockaddr_in *)from;
    memcpy(into + 2, &address->sin_port, 2);
    memcpy(into + 4, &address->sin_addr, 4);
  } else if (family == AF_INET6) {
    const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)from;
    memcpy(into + 2, &address->sin6_port, 2);
    memcpy(into + 4, &address->sin6_addr, 16);
    memcpy(into + 20, &address->sin6_scope_id, 4);
  }
}

static socklen_t read_address(const uint8_t *from, struct sockaddr_storage *into) {
  memset(into, 0, sizeof *into);
  uint16_t family;
  memcpy(&family, from, 2);
  if (family == AF_INET) {
    struct sockaddr_in *address = (struct sockaddr_in *)into;
    address->sin_family = AF_INET;
    memcpy(&address->sin_port, from + 2, 2);
    memcpy(&address->sin_addr, from + 4, 4);
    return sizeof *address;
  }
  struct sockaddr_in6 *address = (struct sockaddr_in6 *)into;
  address->sin6_family = AF_INET6;
  memcpy(&address->sin6_port, from + 2, 2);
  memcpy(&address->sin6_addr, from + 4, 16);
  memcpy(&address->sin6_scope_id, from + 20, 4);
  return sizeof *address;
}

// pollerWait(poller, timeoutMs | -1, buffer, records, addresses) -> number of records
//
// Each record is four integers: tag, what (-1 datagram, -2 error, else EPOLL*), offset into the buffer, length (of a
// datagram that did not fit: -1; of an error: errno). Datagram i is from address i. The buffer is cut into as many
// slots as there is room for records.
static napi_value PollerWait(napi_env env, napi_callback_info info) {
  ARGUMENTS(5)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t timeout;
  uint8_t *buffer, *addresses;
  size_t buffer_length, records_length, addresses_length;
  int32_t *records;
  if (!poller || !int_argument(env, argument[1], &timeout) ||
      !bytes_argument(env, argument[2], &buffer, &buffer_length) ||
      !int32s_argument(env, argument[3], &records, &records_length) ||
      !bytes_argument(env, argument[4], &addresses, &addresses_length))
    return NULL;
  size_t room = records_length / RECORD_INTS;
  if (room > addresses_length / ADDRESS_BYTES) room = addresses_length / ADDRESS_BYTES;
  size_t slot = room ? buffer_length / room : 0;
  if (room < POLL_MESSAGES || slot == 0) {
    napi_throw_range_error(env, NULL, "native call: no room for records");
    return NULL;
  }
  struct epoll_event events[POLL_EVENTS];
  size_t wanted = room / POLL_MESSAGES < POLL_EVENTS ? room / POLL_MESSAGES : POLL_EVENTS;
  int ready = epoll_wait(poller->fd, events, (int)wanted, timeout);
  if (ready < 0) return errno == EINTR ? number(env, 0) : fail(env, "epoll_wait", errno);
  size_t used = 0;
  for (int i = 0; i < ready; i++) {
    uint32_t mark = (uint32_t)events[i].data.u64;
    int32_t fd = (int32_t)(events[i].data.u64 >> 32), tag = (int32_t)(mark >> 1);
    if (!(mark & 1)) {
      int32_t *record = records + used++ * RECORD_INTS;
      record[0] = tag, record[1] = (int32_t)(events[i].events & 0x7fffffff), record[2] = fd, record[3] = 0;
      continue;
    }
    struct mmsghdr messages[POLL_MESSAGES];
    struct iovec vectors[POLL_MESSAGES];
    struct sockaddr_storage from[POLL_MESSAGES];
    memset(messages, 0, sizeof messages);
    for (size_t j = 0; j < POLL_MESSAGES; j++) {
      vectors[j] = (struct iovec){buffer + (used + j) * slot, slot};
      messages[j].msg_hdr = (struct msghdr){
          .msg_name = &from[j], .msg_namelen = sizeof from[j], .msg_iov = &vectors[j], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, messages, POLL_MESSAGES, MSG_DONTWAIT, NULL);
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      int32_t *record = records + used++ * RECORD_INTS;
      record[0] = tag, record[1] = RECORD_ERROR, record[2] = fd, record[3] = errno;
      continue;
    }
    for (int j = 0; j < got; j++) {
      int32_t *record = records + used * RECORD_INTS;
      record[0] = tag, record[1] = RECORD_DATAGRAM, record[2] = (int32_t)(used * slot);
      record[3] = messages[j].msg_hdr.msg_flags & MSG_TRUNC ? -1 : (int32_t)messages[j].msg_len;
      write_address(addresses + used * ADDRESS_BYTES, &from[j]);
      used++;
    }
  }
  return number(env, (int32_t)used);
}

// datagramsSend(buffer, records, count, addresses) -> number of those that the kernel took
//
// Each record: fd, offset, length, index of the address (-1: the socket is connected). What can't be sent is lost.
static napi_value DatagramsSend(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  uint8_t *buffer, *addresses;
  size_t buffer_length, records_length, addresses_length;
  int32_t *records, count_;
  if (!bytes_argument(env, argument[0], &buffer, &buffer_length) ||
      !int32s_argument(env, argument[1], &records, &records_length) || !int_argument(env, argument[2], &count_) ||
      !bytes_argument(env, argument[3], &addresses, &addresses_length))
    return NULL;
  size_t total = count_ < 0 ? 0 : (size_t)count_, taken = 0;
  if (total > records_length / RECORD_INTS) total = records_length / RECORD_INTS;
  for (size_t at = 0; at < total;) {
    struct mmsghdr messages[SEND_MESSAGES];
    struct iovec vectors[SEND_MESSAGES];
    struct sockaddr_storage to[SEND_MESSAGES];
    int fd = records[at * RECORD_INTS];
    size_t n = 0;
    memset(messages, 0, sizeof messages);
    for (; at < total && n < SEND_MESSAGES && records[at * RECORD_INTS] == fd; at++) {
      const int32_t *record = records + at * RECORD_INTS;
      size_t offset = (size_t)record[1], length = (size_t)record[2];
      if (record[1] < 0 || record[2] < 0 || offset > buffer_length || length > buffer_length - offset ||
          (record[3] >= 0 && ((size_t)record[3] + 1) * ADDRESS_BYTES > addresses_length)) {
        napi_throw_range_error(env, NULL, "native call: a record beyond the buffer");
        return NULL;
      }
      vectors[n] = (struct iovec){buffer + offset, length};
      messages[n].msg_hdr = (struct msghdr){.msg_iov = &vectors[n], .msg_iovlen = 1};
      if (record[3] >= 0) {
        messages[n].msg_hdr.msg_name = &to[n];
        messages[n].msg_hdr.msg_namelen = read_address(addresses + (size_t)record[3] * ADDRESS_BYTES, &to[n]);
      }
      n++;
    }
    for (size_t done = 0; done < n;) {
      int sent = sendmmsg(fd, messages + done, (unsigned)(n - done), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent > 0) taken += (size_t)sent;
      // The one that failed is skipped: the next may be for somebody else.
      done += sent > 0 ? (size_t)sent : 1;
    }
  }
  return number(env, (int32_t)taken);
}

static bool address_argument(napi_env env, napi_value value, struct sockaddr_storage *into, socklen_t *length) {
  uint8_t *data;
  size_t size;
  if (!bytes_argument(env, value, &data, &size)) return false;
  if (size != ADDRESS_BYTES) {
    napi_throw_range_error(env, NULL, "native call: expected an address of 24 bytes");
    return false;
  }
  *length = read_address(data, into);
  return true;
}

// socketBind(fd, address)
static napi_value SocketBind(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  struct sockaddr_storage address;
  socklen_t length;
  if (!int_argument(env, argument[0], &fd) || !address_argument(env, argument[1], &address, &length)) return NULL;
  if (bind(fd, (struct sockaddr *)&address, length) < 0) return fail(env, "bind", errno);
  return NULL;
}

// socketConnect(fd, address): a connection that is under way is no error
static napi_value SocketConnect(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  struct sockaddr_storage address;
  socklen_t length;
  if (!int_argument(env, argument[0], &fd) || !address_argument(env, argument[1], &address, &length)) return NULL;
  if (connect(fd, (struct sockaddr *)&address, length) < 0 && errno != EINPROGRESS) return fail(env, "connect", errno);
  return NULL;
}

// socketListen(fd, backlog)
static napi_value SocketListen(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd, backlog;
  if (!int_argument(env, argument[0], &fd) || !int_argument(env, argument[1], &backlog)) return NULL;
  if (listen(fd, backlog) < 0) return fail(env, "listen", errno);
  return NULL;
}

// socketAccept(fd) -> fd of a connection, or -errno
static napi_value SocketAccept(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return number(env, got < 0 ? -errno : got);
}

// socketReceive(fd, bytes) -> how many, 0 at the end, or -errno
static napi_value SocketReceive(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t got = recv(fd, data, length, MSG_DONTWAIT);
  return number(env, got < 0 ? -errno : (int32_t)got);
}

// socketSend(fd, bytes) -> how many, or -errno
static napi_value SocketSend(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t put = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return number(env, put < 0 ? -errno : (int32_t)put);
}

// socketOption(fd, level, name, value)
static napi_value SocketOption(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  int32_t value[4];
  for (int i = 0; i < 4; i++)
    if (!int_argument(env, argument[i], &value[i])) return NULL;
  if (setsockopt(value[0], value[1], value[2], &value[3], sizeof value[3]) < 0) return fail(env, "setsockopt", errno);
  return NULL;
}

// eventFd() -> a descriptor that becomes readable when eight bytes are written to it
static napi_value EventFd(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? fail(env, "eventfd", errno) : number(env, fd);
}
