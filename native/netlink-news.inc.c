// Notifications of the kernel, as they come.

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
