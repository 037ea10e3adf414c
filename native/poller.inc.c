// Part of addon.c: many sockets behind one epoll, read and written in batches, for the resolver's thread (dns-resolver/).
//
// A poller owns every descriptor that was added to it. They are closed with the thread that made it, however that ends:
// a socket in a container's namespace would keep that alive.
//
// A socket of datagrams may have a table of answers: what is asked in the very same bytes gets its answer here, and
// JavaScript hears only of what is not in the table.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>

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

#include "answers.inc.c"

// A descriptor in the poller.
struct watched {
  int fd;
  int32_t tag;
  bool is_datagrams;
  // Somebody else closes it.
  bool is_borrowed;
  struct answers *answers;
  // How many datagrams were answered by that table.
  uint64_t answered;
};

struct poller {
  int fd;
  // By descriptor.
  struct watched **watched;
  size_t size;
  // Whether tables are not asked for now.
  bool tells_all;
  struct answer_store store;
  // What recvmmsg(2) is called with; all that does not change stays from call to call.
  struct mmsghdr messages[POLL_MESSAGES];
  struct iovec vectors[POLL_MESSAGES];
  struct sockaddr_storage from[POLL_MESSAGES];
  struct mmsghdr answered[POLL_MESSAGES];
};

static void watched_free(struct watched *watched) {
  if (watched->answers) answers_release(watched->answers);
  if (!watched->is_borrowed) close(watched->fd);
  free(watched);
}

static void poller_close(void *data) {
  struct poller *poller = data;
  for (size_t i = 0; i < poller->size; i++)
    if (poller->watched[i]) watched_free(poller->watched[i]);
  answer_store_close(&poller->store);
  close(poller->fd);
  free(poller->watched);
  free(poller);
}

static struct watched *watched_of(struct poller *poller, int32_t fd) {
  return fd >= 0 && (size_t)fd < poller->size ? poller->watched[fd] : NULL;
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
  if (!answer_store_open(&poller->store)) {
    int saved = errno;
    free(poller);
    return fail(env, "getrandom", saved);
  }
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
  if (fd < 0) return fail(env, "epoll_ctl", EBADF);
  if ((size_t)fd >= poller->size) {
    size_t size = poller->size ? poller->size : 64;
    while (size <= (size_t)fd) size *= 2;
    struct watched **watched = realloc(poller->watched, size * sizeof *watched);
    if (!watched) return fail(env, "malloc", ENOMEM);
    memset(watched + poller->size, 0, (size - poller->size) * sizeof *watched);
    poller->watched = watched;
    poller->size = size;
  }
  if (poller->watched[fd]) return fail(env, "epoll_ctl", EEXIST);
  struct watched *watched = calloc(1, sizeof *watched);
  if (!watched) return fail(env, "malloc", ENOMEM);
  *watched = (struct watched){.fd = fd, .tag = tag, .is_datagrams = datagrams};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = watched};
  if (epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event) < 0) {
    int saved = errno;
    free(watched);
    return fail(env, "epoll_ctl", saved);
  }
  poller->watched[fd] = watched;
  return NULL;
}

// pollerWatch(poller, fd, events): for what is not read as datagrams
static napi_value PollerWatch(napi_env env, napi_callback_info info) {
  ARGUMENTS(3)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd, events;
  if (!poller || !int_argument(env, argument[1], &fd) || !int_argument(env, argument[2], &events)) return NULL;
  struct watched *watched = watched_of(poller, fd);
  if (!watched) return fail(env, "epoll_ctl", ENOENT);
  struct epoll_event event = {.events = (uint32_t)events, .data.ptr = watched};
  if (epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event) < 0) return fail(env, "epoll_ctl", errno);
  return NULL;
}

// pollerClose(poller, fd): closes the descriptor as well, unless it was borrowed
static napi_value PollerClose(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  struct watched *watched = watched_of(poller, fd);
  if (!watched) return NULL;
  // A child that has not yet become another program has the socket as well, and would keep it in the epoll.
  epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, NULL);
  poller->watched[fd] = NULL;
  watched_free(watched);
  return NULL;
}

// pollerDisown(poller, fd): it is not closed with the poller; somebody else has it
static napi_value PollerDisown(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  struct watched *watched = watched_of(poller, fd);
  if (watched) watched->is_borrowed = true;
  return NULL;
}

// pollerTellAll(poller, whether): tables are not asked for as long as it is so
static napi_value PollerTellAll(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  if (!poller) return NULL;
  if (napi_get_value_bool(env, argument[1], &poller->tells_all) != napi_ok)
    napi_throw_type_error(env, NULL, "native call: expected a boolean");
  return NULL;
}

// answersCreate(poller) -> table
static napi_value AnswersCreate(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  struct poller *poller = poller_argument(env, argument[0]);
  if (!poller) return NULL;
  struct answers *answers = answers_open(&poller->store);
  if (!answers) return fail(env, "malloc", ENOMEM);
  napi_value result;
  if (napi_create_external(env, answers, answers_finalize, NULL, &result) == napi_ok) return result;
  answers_release(answers);
  return NULL;
}

static struct answers *answers_argument(napi_env env, napi_value value) {
  void *data = NULL;
  if (napi_get_value_external(env, value, &data) == napi_ok && data) return data;
  napi_throw_type_error(env, NULL, "native call: expected a table of answers");
  return NULL;
}

// answersKeep(table, key, holdsMs, ageMs, messages, lengths, ttlOffsets)
//
// `messages`: the variants, one after the other, of `lengths` each.
static napi_value AnswersKeep(napi_env env, napi_callback_info info) {
  ARGUMENTS(7)
  struct answers *answers = answers_argument(env, argument[0]);
  uint8_t *key, *messages;
  size_t key_length, messages_length, variants, ttls;
  int32_t *lengths, *ttl_offsets;
  double holds, age;
  if (!answers || !bytes_argument(env, argument[1], &key, &key_length)) return NULL;
  if (napi_get_value_double(env, argument[2], &holds) != napi_ok ||
      napi_get_value_double(env, argument[3], &age) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected milliseconds");
    return NULL;
  }
  if (!bytes_argument(env, argument[4], &messages, &messages_length) ||
      !int32s_argument(env, argument[5], &lengths, &variants) ||
      !int32s_argument(env, argument[6], &ttl_offsets, &ttls))
    return NULL;
  if (!answers_keep(answers, key, key_length, holds, age, messages, messages_length, lengths, variants, ttl_offsets, ttls))
    napi_throw_range_error(env, NULL, "native call: no such answer can be kept");
  return NULL;
}

// answersClear(table)
static napi_value AnswersClear(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  struct answers *answers = answers_argument(env, argument[0]);
  if (answers) answers_clear(answers);
  return NULL;
}

// pollerAnswer(poller, fd, table): from now on the socket's datagrams are answered by it
static napi_value PollerAnswer(napi_env env, napi_callback_info info) {
  ARGUMENTS(3)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  struct answers *answers = answers_argument(env, argument[2]);
  if (!answers) return NULL;
  struct watched *watched = watched_of(poller, fd);
  if (!watched || !watched->is_datagrams) return fail(env, "epoll_ctl", ENOENT);
  answers->references++;
  if (watched->answers) answers_release(watched->answers);
  watched->answers = answers;
  return NULL;
}

// pollerAnswered(poller, fd) -> how many of the socket's datagrams were answered by a table
static napi_value PollerAnswered(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t fd;
  if (!poller || !int_argument(env, argument[1], &fd)) return NULL;
  struct watched *watched = watched_of(poller, fd);
  napi_value result;
  napi_create_double(env, watched ? (double)watched->answered : 0, &result);
  return result;
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

// Where a round has got to in what JavaScript has given for it.
struct round {
  uint8_t *buffer;
  size_t slot, slots;
  int32_t *records;
  uint8_t *addresses;
  // Records that are written, and slots that they are in: what was answered here takes none.
  size_t used, next_slot;
};

static int32_t *next_record(struct round *round) {
  return round->records + round->used++ * RECORD_INTS;
}

static void prepare_message(struct poller *poller, const struct round *round, size_t index) {
  poller->vectors[index] = (struct iovec){round->buffer + (round->next_slot + index) * round->slot, round->slot};
  poller->messages[index].msg_hdr = (struct msghdr){.msg_name = &poller->from[index],
                                                    .msg_namelen = sizeof poller->from[index],
                                                    .msg_iov = &poller->vectors[index],
                                                    .msg_iovlen = 1};
}

static void read_datagrams(struct poller *poller, struct watched *watched, struct round *round, int64_t now) {
  for (size_t i = 0; i < POLL_MESSAGES; i++) {
    // Those that are as they should be: all, where everything was answered here.
    const struct msghdr *header = &poller->messages[i].msg_hdr;
    if (header->msg_namelen != sizeof poller->from[i] || poller->vectors[i].iov_len != round->slot ||
        poller->vectors[i].iov_base != round->buffer + (round->next_slot + i) * round->slot)
      prepare_message(poller, round, i);
  }
  int got = recvmmsg(watched->fd, poller->messages, POLL_MESSAGES, MSG_DONTWAIT, NULL);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    int32_t *record = next_record(round);
    record[0] = watched->tag, record[1] = RECORD_ERROR, record[2] = watched->fd, record[3] = errno;
    return;
  }
  struct answers *answers = poller->tells_all ? NULL : watched->answers;
  unsigned answered = 0;
  size_t first_slot = round->next_slot;
  for (int i = 0; i < got; i++) {
    struct mmsghdr *message = &poller->messages[i];
    bool is_cut = message->msg_hdr.msg_flags & MSG_TRUNC;
    if (answers && !is_cut) {
      struct iovec *vector = &poller->vectors[i];
      size_t length = answers_find(answers, vector->iov_base, message->msg_len, round->slot, now);
      if (length > 0) {
        vector->iov_len = length;
        poller->answered[answered++] = *message;
        continue;
      }
    }
    write_address(round->addresses + round->used * ADDRESS_BYTES, &poller->from[i]);
    int32_t *record = next_record(round);
    record[0] = watched->tag, record[1] = RECORD_DATAGRAM, record[2] = (int32_t)((first_slot + (size_t)i) * round->slot);
    record[3] = is_cut ? -1 : (int32_t)message->msg_len;
    round->next_slot = first_slot + (size_t)i + 1;
  }
  if (answered == 0) return;
  watched->answered += answered;
  for (unsigned done = 0; done < answered;) {
    int sent = sendmmsg(watched->fd, poller->answered + done, answered - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    // The one that failed is lost, as datagrams are: the next may be for somebody else.
    done += sent > 0 ? (unsigned)sent : 1;
  }
}

// pollerWait(poller, timeoutMs | -1, buffer, records, addresses) -> number of records
//
// Each record is four integers: tag, what (-1 datagram, -2 error, else EPOLL*), offset into the buffer, length (of a
// datagram that did not fit: -1; of an error: errno). Datagram i is from address i. The buffer is cut into as many
// slots as there is room for records. Where everything that came was answered here, it waits on.
static napi_value PollerWait(napi_env env, napi_callback_info info) {
  ARGUMENTS(5)
  struct poller *poller = poller_argument(env, argument[0]);
  int32_t timeout;
  size_t buffer_length, records_length, addresses_length;
  struct round round = {0};
  if (!poller || !int_argument(env, argument[1], &timeout) ||
      !bytes_argument(env, argument[2], &round.buffer, &buffer_length) ||
      !int32s_argument(env, argument[3], &round.records, &records_length) ||
      !bytes_argument(env, argument[4], &round.addresses, &addresses_length))
    return NULL;
  round.slots = records_length / RECORD_INTS;
  if (round.slots > addresses_length / ADDRESS_BYTES) round.slots = addresses_length / ADDRESS_BYTES;
  round.slot = round.slots ? buffer_length / round.slots : 0;
  if (round.slots < POLL_MESSAGES || round.slot == 0) {
    napi_throw_range_error(env, NULL, "native call: no room for records");
    return NULL;
  }
  struct epoll_event events[POLL_EVENTS];
  size_t wanted = round.slots / POLL_MESSAGES < POLL_EVENTS ? round.slots / POLL_MESSAGES : POLL_EVENTS;
  int64_t until = timeout > 0 ? monotonic_ns() + timeout * INT64_C(1000000) : 0;
  for (;;) {
    int ready = epoll_wait(poller->fd, events, (int)wanted, timeout);
    if (ready < 0) return errno == EINTR ? number(env, 0) : fail(env, "epoll_wait", errno);
    int64_t now = monotonic_ns();
    for (int i = 0; i < ready; i++) {
      struct watched *watched = events[i].data.ptr;
      if (watched->is_datagrams) {
        read_datagrams(poller, watched, &round, now);
        continue;
      }
      int32_t *record = next_record(&round);
      // Offsets of datagrams and numbers of records both stay below `slots`.
      round.next_slot++;
      record[0] = watched->tag, record[1] = (int32_t)(events[i].events & 0x7fffffff), record[2] = watched->fd, record[3] = 0;
    }
    if (round.used > 0 || ready == 0 || timeout == 0) return number(env, (int32_t)round.used);
    if (timeout < 0) continue;
    if (now >= until) return number(env, 0);
    timeout = (int32_t)((until - now + 999999) / 1000000);
  }
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
