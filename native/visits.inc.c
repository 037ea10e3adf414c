// Visits to other network namespaces: see the rule in addon.c.

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
