/*
 * Runs a command inside a network namespace that has a path, and becomes that command: stdio, signals, process
 * group and exit code are the command's own.
 *
 *   sandbox-enter --netns PATH [--hostname NAME] [--resolv-conf FILE] [--hosts FILE] -- CMD [ARG...]
 *
 * Like `ip netns exec`, it also shows the namespace's own interfaces in /sys where the kernel permits a new
 * sysfs. FILEs are bind-mounted over /etc/resolv.conf and /etc/hosts for this command alone.
 * Exit codes: 125 the namespace could not be entered, 126 CMD cannot be run, 127 CMD was not found.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_NOT_ENTERED = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

struct options {
  const char *netns;
  const char *hostname;
  const char *resolv_conf;
  const char *hosts;
  char **command;
};

/* Says what failed, on which value, and why; the reason is left out where errno is 0. */
static void __attribute__((noreturn, format(printf, 2, 3))) fail(int code, const char *format, ...) {
  int reason = errno;
  va_list arguments;
  va_start(arguments, format);
  fputs("sandbox-enter: ", stderr);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (reason != 0) fprintf(stderr, ": %s", strerror(reason));
  fputc('\n', stderr);
  exit(code);
}

static const char *value_of(int argc, char **argv, int *index) {
  if (*index + 1 >= argc) {
    errno = 0;
    fail(EXIT_NOT_ENTERED, "option %s needs a value", argv[*index]);
  }
  *index += 1;
  return argv[*index];
}

static struct options parse(int argc, char **argv) {
  struct options options = {0};
  int index = 1;
  for (; index < argc && strcmp(argv[index], "--") != 0; index++) {
    const char *name = argv[index];
    if (strcmp(name, "--netns") == 0) options.netns = value_of(argc, argv, &index);
    else if (strcmp(name, "--hostname") == 0) options.hostname = value_of(argc, argv, &index);
    else if (strcmp(name, "--resolv-conf") == 0) options.resolv_conf = value_of(argc, argv, &index);
    else if (strcmp(name, "--hosts") == 0) options.hosts = value_of(argc, argv, &index);
    else {
      errno = 0;
      fail(EXIT_NOT_ENTERED, "unknown option %s", name);
    }
  }
  errno = 0;
  if (options.netns == NULL) fail(EXIT_NOT_ENTERED, "option --netns is missing");
  if (index + 1 >= argc) fail(EXIT_NOT_ENTERED, "no command after --");
  options.command = &argv[index + 1];
  return options;
}

static void bind_file(const char *source, const char *target) {
  if (mount(source, target, NULL, MS_BIND, NULL) == 0) return;
  /* An image without the file has nothing to be hidden; the mount needs something to stand on all the same. */
  if (errno != ENOENT || access(source, F_OK) != 0) fail(EXIT_NOT_ENTERED, "cannot mount %s over %s", source, target);
  errno = 0;
  fail(EXIT_NOT_ENTERED, "cannot mount %s over %s: there is no %s on this machine", source, target, target);
}

/* /sys shows the interfaces of the namespace in which it was mounted, so it has to be mounted again. The cgroup
 * tree hangs below the old one and is carried over. Where the kernel refuses, the old /sys is as good as before. */
static void remount_sysfs(void) {
  struct stat cgroup;
  int old_cgroup = open("/sys/fs/cgroup", O_PATH | O_CLOEXEC);
  if (mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) {
    if (old_cgroup >= 0) close(old_cgroup);
    return;
  }
  if (old_cgroup < 0) return;
  char source[64];
  snprintf(source, sizeof source, "/proc/self/fd/%d", old_cgroup);
  if (stat("/sys/fs/cgroup", &cgroup) == 0) (void)mount(source, "/sys/fs/cgroup", NULL, MS_BIND | MS_REC, NULL);
  close(old_cgroup);
}

static void enter(const struct options *options) {
  int netns = open(options->netns, O_RDONLY | O_CLOEXEC);
  if (netns < 0) fail(EXIT_NOT_ENTERED, "cannot open network namespace %s", options->netns);
  if (setns(netns, CLONE_NEWNET) != 0) fail(EXIT_NOT_ENTERED, "cannot enter network namespace %s", options->netns);
  close(netns);

  if (unshare(CLONE_NEWNS) != 0) fail(EXIT_NOT_ENTERED, "cannot make a mount namespace");
  /* Slave: mounts made on the host still arrive here, ours never leave. */
  if (mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) != 0) fail(EXIT_NOT_ENTERED, "cannot keep mounts apart");
  remount_sysfs();
  if (options->resolv_conf != NULL) bind_file(options->resolv_conf, "/etc/resolv.conf");
  if (options->hosts != NULL) bind_file(options->hosts, "/etc/hosts");

  if (options->hostname == NULL) return;
  if (unshare(CLONE_NEWUTS) != 0) fail(EXIT_NOT_ENTERED, "cannot make a UTS namespace");
  if (sethostname(options->hostname, strlen(options->hostname)) != 0)
    fail(EXIT_NOT_ENTERED, "cannot set host name %s", options->hostname);
}

int main(int argc, char **argv) {
  struct options options = parse(argc, argv);
  enter(&options);
  execvp(options.command[0], options.command);
  fail(errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE, "cannot run %s", options.command[0]);
}
