// Deletions of links, answered as soon as the kernel tells of them.

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
