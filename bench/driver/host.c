/* The driver's host: a network namespace and a mount namespace of its own, and the containers' namespaces in it. */
#include "driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int host_namespace = -1;
static char run_directory[256];
static int settle_socket = -1;

static void sleep_ms(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

/* A request that takes the RTNL lock and changes nothing: `up` for the loopback link that is up. */
static int raise_loopback(int fd) {
  struct message m = {0};
  struct ifinfomsg link = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_message(&m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
  end_message(&m);
  return exchange(fd, &m);
}

void enter_host(const char *directory) {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0) die("unshare: %s", strerror(errno));
  /* Private: no mount made here reaches the machine, and all of them end with this process. */
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) die("mount --make-rprivate /: %s", strerror(errno));
  if (snprintf(run_directory, sizeof run_directory, "%s/run", directory) >= (int)sizeof run_directory - 32) die("path too long");
  mkdir(run_directory, 0700);
  if (mount("tmpfs", run_directory, "tmpfs", 0, "mode=0700") < 0) die("mount tmpfs on %s: %s", run_directory, strerror(errno));
  char path[300];
  snprintf(path, sizeof path, "%s/ns", run_directory);
  mkdir(path, 0700);
  host_namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (host_namespace < 0) die("/proc/self/ns/net: %s", strerror(errno));
  settle_socket = open_netlink(NETLINK_ROUTE, 0);
  int error = raise_loopback(settle_socket);
  if (error) die("ip link set lo up: %s", strerror(-error));
}

/* What a macvlan lies on: a veth pair, both ends up, since not every kernel has dummy links. */
void make_uplink(const char *name) {
  struct message m = {0};
  struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_message(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
  put_string(&m, IFLA_IFNAME, name);
  size_t info = begin_nested(&m, IFLA_LINKINFO);
  put_string(&m, IFLA_INFO_KIND, "veth");
  end_nested(&m, info);
  end_message(&m);
  int error = exchange(settle_socket, &m);
  if (error) die("cannot make %s: %s", name, strerror(-error));
}

void namespace_path(int index, char *path, size_t size) {
  if (snprintf(path, size, "%s/ns/c%d", run_directory, index) >= (int)size) die("path too long");
}

static void back_to_host(void) {
  if (setns(host_namespace, CLONE_NEWNET) < 0) abort(); /* anything else would now happen in the wrong namespace */
}

void make_namespace(int index) {
  char path[300];
  namespace_path(index, path, sizeof path);
  int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (fd < 0) die("%s: %s", path, strerror(errno));
  close(fd);
  if (unshare(CLONE_NEWNET) < 0) die("unshare: %s", strerror(errno));
  int mounted = mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL), error = errno;
  back_to_host();
  if (mounted < 0) die("mount %s: %s", path, strerror(error));
}

void remove_namespace(int index) {
  char path[300];
  namespace_path(index, path, sizeof path);
  umount2(path, MNT_DETACH);
  unlink(path);
}

int socket_in(int namespace, int domain, int type, int protocol) {
  if (setns(namespace, CLONE_NEWNET) < 0) return -errno;
  int fd = socket(domain, type | SOCK_CLOEXEC, protocol), error = errno;
  back_to_host();
  return fd < 0 ? -error : fd;
}

void write_sysctl_in(int namespace, const char *path, const char *value) {
  if (setns(namespace, CLONE_NEWNET) < 0) die("setns: %s", strerror(errno));
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  ssize_t wrote = fd < 0 ? -1 : write(fd, value, strlen(value));
  if (fd >= 0) close(fd);
  back_to_host();
  if (wrote < 0) die("%s: %s", path, strerror(errno));
}

void settle(int rounds) {
  const int64_t quick = 500000, giveup = now_ns() + 3000000000LL;
  for (int calm = 0; calm < rounds && now_ns() < giveup && !stopping;) {
    sleep_ms(2);
    int64_t from = now_ns();
    raise_loopback(settle_socket);
    calm = now_ns() - from < quick ? calm + 1 : 0;
  }
}

/* Parent of a process, 0 when it is gone; its name without the path's parentheses. */
static int parent_of(int pid, char *name, size_t size) {
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  size_t got = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[got] = 0;
  char *open = strchr(line, '('), *close = strrchr(line, ')');
  int parent = 0;
  char state = 0;
  if (!open || !close || sscanf(close + 1, " %c %d", &state, &parent) != 2 || state == 'Z') return 0;
  snprintf(name, size, "%.*s", (int)(close - open - 1), open + 1);
  return parent;
}

/* Processes that plugins left behind. None of ours runs when this is asked. */
static int list_services(int *pids, int capacity, char names[][32]) {
  int count = 0;
  DIR *proc = opendir("/proc");
  if (!proc) return 0;
  for (struct dirent *entry; count < capacity && (entry = readdir(proc));) {
    int pid = atoi(entry->d_name);
    if (pid > 0 && parent_of(pid, names[count], 32) == getpid()) pids[count++] = pid;
  }
  closedir(proc);
  return count;
}

static long resident_kib(int pid) {
  char path[64], line[256];
  long kib = -1;
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *file = fopen(path, "re");
  while (file && fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kib);
  if (file) fclose(file);
  return kib;
}

static int open_files(int pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *directory = opendir(path);
  int count = -2; /* . and .. */
  while (directory && readdir(directory)) count++;
  if (directory) closedir(directory);
  return count;
}

/* The command line, cut to what fits and to what needs no escape in JSON. */
static void command_line(int pid, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
  FILE *file = fopen(path, "re");
  size_t got = file ? fread(out, 1, size - 1, file) : 0;
  if (file) fclose(file);
  while (got > 0 && !out[got - 1]) got--;
  out[got] = 0;
  for (size_t i = 0; i < got; i++)
    if (out[i] < ' ' || out[i] == '"' || out[i] == '\\') out[i] = ' ';
}

void print_services(void) {
  char command[512];
  int pids[64];
  char names[64][32];
  int count = list_services(pids, 64, names);
  for (int i = 0; i < count; i++) {
    command_line(pids[i], command, sizeof command);
    printf("{\"service\":\"%s\",\"pid\":%d,\"residentKib\":%ld,\"files\":%d}\n", command, pids[i], resident_kib(pids[i]), open_files(pids[i]));
  }
}

static void end_services(void) {
  int pids[64];
  char names[64][32];
  for (int round = 0; round < 40; round++) {
    int count = list_services(pids, 64, names);
    for (int i = 0; i < count; i++)
      if (round == 0 || round == 20) kill(pids[i], round == 0 ? SIGTERM : SIGKILL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    if (count == 0) return;
    sleep_ms(100);
  }
}

void leave_host(void) {
  if (host_namespace < 0) return;
  host_namespace = -1;
  end_services();
  /* The namespaces' files are in the tmpfs: one detached mount takes them all. */
  umount2(run_directory, MNT_DETACH);
}
