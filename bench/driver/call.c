/* Plugin calls, as libcni makes them: one process each, environment, config on stdin, answer on stdout. */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const char *plugin_directory, *interface_name = "eth0", *error_log, *nothing_program;
char *extra_environment[16];
static char *plan_type[MAX_PLUGINS], *plan_config[MAX_PLUGINS];
static int plugins, error_fd = -1;

/* A plan is one plugin a line: its type, a tab, its config (what libcni would give it, without prevResult). */
void read_plan(const char *name) {
  FILE *file = fopen(name, "re");
  if (!file) die("%s: %s", name, strerror(errno));
  char *line = NULL;
  size_t capacity = 0;
  for (plugins = 0; getline(&line, &capacity, file) > 0;) {
    char *tab = strchr(line, '\t');
    if (!tab || plugins == MAX_PLUGINS) die("%s: not a plan", name);
    *tab = 0;
    tab[1 + strcspn(tab + 1, "\n")] = 0;
    plan_type[plugins] = strdup(line);
    plan_config[plugins++] = strdup(tab + 1);
  }
  free(line);
  fclose(file);
  if (error_fd < 0) error_fd = open(error_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (error_fd < 0) die("%s: %s", error_log, strerror(errno));
}

/* The config of one container: {port}, {ten} and {thousand} become numbers (a digit after {ten} makes ten ports of it), prevResult goes in before the last brace. */
static size_t write_config(char *out, const char *config, int index, const char *previous) {
  size_t size = 0, limit = MAX_REQUEST - 64;
  for (const char *c = config; *c;) {
    if (size > limit) die("config too long");
    if (!strncmp(c, "{port}", 6)) size += (size_t)sprintf(out + size, "%d", 2000 + index), c += 6;
    else if (!strncmp(c, "{ten}", 5)) size += (size_t)sprintf(out + size, "%d", 200 + index % 6000), c += 5;
    else if (!strncmp(c, "{thousand}", 10)) size += (size_t)sprintf(out + size, "%d", index / 1000), c += 10;
    else out[size++] = *c++;
  }
  if (!previous) return size;
  if (size + strlen(previous) > limit) die("prevResult too long");
  return size - 1 + (size_t)sprintf(out + size - 1, ",\"prevResult\":%s}", previous);
}

/* 64 hexadecimal digits, like the ids of container engines, different from the first one on. */
static void container_id(int index, char *id) {
  uint64_t x = (uint64_t)index * 0x9e3779b97f4a7c15u + 1;
  for (int i = 0; i < 4; i++, x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u) sprintf(id + 16 * i, "%016llx", (unsigned long long)x);
}

static bool readable_within(int fd, int64_t deadline) {
  while (!stopping) {
    int64_t left = (deadline - now_ns()) / 1000000;
    if (left <= 0) return false;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, left < 200 ? (int)left : 200) > 0) return true;
  }
  return false;
}

static int wait_for(pid_t pid, int64_t deadline) {
  int status;
  if (waitpid(pid, &status, WNOHANG) == pid) return status;
  int handle = (int)syscall(SYS_pidfd_open, pid, 0);
  if (handle < 0 || !readable_within(handle, deadline)) kill(pid, SIGKILL);
  if (handle >= 0) close(handle);
  waitpid(pid, &status, 0);
  return status;
}

/* Calls one executable. The reply is NUL-terminated; NULL is success, else what went wrong. */
static char *call(const char *program, const char *verb, int index, const char *input, size_t size, char *reply) {
  char variables[6][512], id[65], ns[300];
  container_id(index, id);
  namespace_path(index, ns, sizeof ns);
  snprintf(variables[0], 512, "CNI_COMMAND=%s", verb);
  snprintf(variables[1], 512, "CNI_CONTAINERID=%s", id);
  snprintf(variables[2], 512, "CNI_NETNS=%s", ns);
  snprintf(variables[3], 512, "CNI_IFNAME=%s", interface_name);
  snprintf(variables[4], 512, "CNI_PATH=%s", plugin_directory ? plugin_directory : "/");
  snprintf(variables[5], 512, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  char *environment[24], *argv[] = {(char *)program, NULL};
  int count = 0;
  for (; count < 6; count++) environment[count] = variables[count];
  for (char **more = extra_environment; *more; more++) environment[count++] = *more;
  environment[count] = NULL;

  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) die("pipe: %s", strerror(errno));
  if (write(in[1], input, size) != (ssize_t)size) die("cannot write %zu bytes into a pipe", size);
  close(in[1]);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, standard;
  sigemptyset(&none);
  sigemptyset(&standard);
  sigaddset(&standard, SIGPIPE);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, error_fd < 0 ? 2 : error_fd, 2);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &standard);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid;
  int error = posix_spawn(&pid, program, &actions, &attributes, argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(in[0]);
  close(out[1]);
  if (error) {
    close(out[0]);
    return text("cannot run %s: %s", program, strerror(error));
  }
  const int64_t deadline = now_ns() + CALL_TIMEOUT_MS * 1000000LL;
  size_t got = 0;
  for (ssize_t n = 1; n > 0 && got < MAX_REPLY - 1 && readable_within(out[0], deadline); got += n > 0 ? (size_t)n : 0)
    n = read(out[0], reply + got, MAX_REPLY - 1 - got);
  while (got > 0 && (reply[got - 1] == '\n' || reply[got - 1] == ' ')) got--;
  reply[got] = 0;
  close(out[0]);
  int status = wait_for(pid, deadline);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return NULL;
  if (WIFEXITED(status)) return text("exit code %d: %.800s", WEXITSTATUS(status), reply);
  return text("ended by signal %d%s", WTERMSIG(status), now_ns() >= deadline ? " after the time limit" : "");
}

static char *call_plugin(int plugin, const char *verb, int index, const char *previous, char *reply) {
  static _Thread_local char input[MAX_REQUEST];
  char program[512];
  snprintf(program, sizeof program, "%s/%s", plugin_directory, plan_type[plugin]);
  size_t size = write_config(input, plan_config[plugin], index, previous);
  char *failure = call(program, verb, index, input, size, reply);
  if (!failure) return NULL;
  char *named = text("%s: %s", plan_type[plugin], failure);
  free(failure);
  return named;
}

static void attach(struct container *container) {
  static _Thread_local char reply[MAX_REPLY];
  struct outcome *outcome = &container->attach;
  int64_t start = now_ns(), from = start;
  for (int i = 0; i < plugins && !outcome->failure; i++) {
    outcome->failure = call_plugin(i, "ADD", container->index, container->result, reply);
    int64_t to = now_ns();
    outcome->part_ns[i] = to - from;
    from = to;
    if (outcome->failure) break;
    free(container->result);
    container->result = strdup(reply);
  }
  outcome->ns = now_ns() - start;
  outcome->parts = plugins;
  outcome->done = true;
}

/* In reverse, each with ADD's result. The first failure is kept, the others are called all the same. */
static void detach(struct container *container) {
  static _Thread_local char reply[MAX_REPLY];
  struct outcome *outcome = &container->detach;
  int64_t start = now_ns(), from = start;
  for (int i = plugins - 1; i >= 0; i--) {
    char *failure = call_plugin(i, "DEL", container->index, container->result, reply);
    int64_t to = now_ns();
    outcome->part_ns[i] = to - from;
    from = to;
    if (outcome->failure) free(failure);
    else outcome->failure = failure;
  }
  outcome->ns = now_ns() - start;
  outcome->parts = plugins;
  outcome->done = true;
}

/* VERSION or STATUS of the plan's first plugin; without a plan: the program that does nothing. */
static void probe(const char *verb, struct outcome *outcome) {
  static char reply[MAX_REPLY];
  const char *version = "{\"cniVersion\":\"1.0.0\"}";
  int64_t start = now_ns();
  if (plugins == 0) outcome->failure = call(nothing_program, verb, 0, version, strlen(version), reply);
  else if (strcmp(verb, "VERSION")) outcome->failure = call_plugin(0, verb, 0, NULL, reply);
  else {
    char program[512];
    snprintf(program, sizeof program, "%s/%s", plugin_directory, plan_type[0]);
    outcome->failure = call(program, verb, 0, version, strlen(version), reply);
  }
  outcome->ns = now_ns() - start;
  outcome->done = true;
}

const struct worker plugin_worker = {.attach = attach, .detach = detach, .probe = probe};
