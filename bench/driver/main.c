/* Options and the command loop. One command a line on stdin, JSON lines on stdout, {"end":...} after each. */
#include "driver.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

volatile int stopping;

int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("bench driver: ", stderr);
  vfprintf(stderr, format, list);
  fputs("\n", stderr);
  va_end(list);
  leave_host();
  _exit(1);
}

char *text(const char *format, ...) {
  char *made = NULL;
  va_list list;
  va_start(list, format);
  if (vasprintf(&made, format, list) < 0) abort();
  va_end(list);
  return made;
}

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: a read of the next command must end */
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

/* false: the end of the work */
static bool obey(const struct worker *worker, char *line) {
  char command[32] = "", word[64] = "";
  int first = 0, count = 0, parallel = 1;
  sscanf(line, "%31s", command);
  if (!strcmp(command, "quit")) return false;
  if (!strcmp(command, "plan")) {
    read_plan(line + strlen("plan "));
  } else if (!strcmp(command, "services")) {
    print_services();
  } else if (sscanf(line, "probe %63s %d", word, &count) == 2) {
    run_probe(worker, word, count);
  } else if (sscanf(line, "%31s %d %d %d", command, &first, &count, &parallel) >= 3) {
    if (first < 0 || count < 0 || first + count > MAX_INDEX) die("containers %d to %d: at most %d", first, first + count, MAX_INDEX);
    if (!strcmp(command, "pairs")) run_pairs(worker, first, count, true);
    else if (!strcmp(command, "chase")) run_pairs(worker, first, count, false);
    else if (!strcmp(command, "burst")) run_burst(worker, first, count, parallel, true, true);
    else if (!strcmp(command, "fill")) run_burst(worker, first, count, parallel, true, false);
    else if (!strcmp(command, "drain")) run_burst(worker, first, count, parallel, false, true);
    else die("unknown command \"%s\"", line);
  } else {
    die("unknown command \"%s\"", line);
  }
  printf("{\"end\":\"%s\"}\n", command);
  fflush(stdout);
  return true;
}

int main(int argc, char **argv) {
  const char *directory = NULL, *uplink = NULL;
  int extra = 0, option;
  while ((option = getopt(argc, argv, "d:b:i:f:e:l:n:u:")) > 0) {
    switch (option) {
      case 'd': directory = optarg; break;
      case 'b': plugin_directory = optarg; break;
      case 'i': interface_name = optarg; break;
      case 'f': floor_kind = optarg; break;
      case 'n': nothing_program = optarg; break;
      case 'u': uplink = optarg; break;
      case 'l': error_log = optarg; break;
      case 'e':
        if (extra == 15) die("too many -e");
        extra_environment[extra++] = optarg;
        break;
      default: die("usage: -d DIRECTORY -l LOG (-b PLUGINS | -f KIND -n NOTHING) [-i IFNAME] [-u UPLINK] [-e NAME=VALUE]...");
    }
  }
  if (!directory || !error_log) die("-d and -l are needed");
  catch_signals();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  /* What a plugin leaves running (a warm service) becomes a child of this process, so that its end is ours to see to. */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  static char buffer[1 << 16];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  enter_host(directory);
  if (uplink) make_uplink(uplink);
  const struct worker *worker = floor_kind ? &floor_worker : &plugin_worker;
  if (floor_kind) prepare_floor();
  puts("{\"end\":\"start\"}");
  fflush(stdout);
  char *line = NULL;
  size_t capacity = 0;
  while (!stopping) {
    ssize_t size = getline(&line, &capacity, stdin);
    if (size <= 0) break;
    if (line[size - 1] == '\n') line[size - 1] = 0;
    if (!obey(worker, line)) break;
  }
  leave_host();
  return 0;
}
