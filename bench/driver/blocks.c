/* Blocks of timed calls: one after the other, or several at a time. Namespaces are made before and removed after. */
#include "driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct container *containers[MAX_INDEX];

static struct container *container_of(int index) {
  if (!containers[index]) {
    containers[index] = calloc(1, sizeof(struct container));
    if (!containers[index]) die("out of memory");
    containers[index]->index = index;
  }
  return containers[index];
}

static void forget(int index) {
  struct container *container = containers[index];
  containers[index] = NULL;
  free(container->result);
  free(container->attach.failure);
  free(container->detach.failure);
  free(container);
}

static void print_text(const char *value) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
    if (*c == '"' || *c == '\\') printf("\\%c", *c);
    else if (*c < 0x20 || *c == 0x7f) printf("\\u%04x", *c);
    else putchar(*c);
  }
  putchar('"');
}

static void print_outcome(const char *verb, int index, const struct outcome *outcome) {
  if (!outcome->done) return;
  printf("{\"verb\":\"%s\",\"index\":%d", verb, index);
  if (outcome->failure) {
    printf(",\"failure\":");
    print_text(outcome->failure);
  } else {
    printf(",\"ns\":%lld,\"parts\":[", (long long)outcome->ns);
    for (int i = 0; i < outcome->parts; i++) printf("%s%lld", i ? "," : "", (long long)outcome->part_ns[i]);
    putchar(']');
  }
  puts("}");
}

/* Half an attachment says nothing about time: what follows a failed ADD is done, and not counted. */
static void print_container(const struct container *container) {
  print_outcome("ADD", container->index, &container->attach);
  if (!container->attach.failure) print_outcome("DEL", container->index, &container->detach);
}

void run_pairs(const struct worker *worker, int first, int count, bool settled) {
  for (int i = first; i < first + count; i++) make_namespace(i);
  settle(5);
  for (int i = first; i < first + count && !stopping; i++) {
    struct container *container = container_of(i);
    worker->attach(container);
    if (settled) settle(2);
    worker->detach(container);
    if (settled) settle(2);
  }
  for (int i = first; i < first + count; i++) {
    remove_namespace(i);
    if (!containers[i]) continue;
    if (worker->finish) worker->finish(containers[i]);
    print_container(containers[i]);
    forget(i);
  }
  settle(5);
}

struct crowd {
  const struct worker *worker;
  int next, end;
  bool attach;
};

static void *work_through(void *argument) {
  struct crowd *crowd = argument;
  while (!stopping) {
    int index = __sync_fetch_and_add(&crowd->next, 1);
    if (index >= crowd->end) break;
    struct container *container = container_of(index);
    if (crowd->attach) crowd->worker->attach(container);
    else crowd->worker->detach(container);
  }
  return NULL;
}

static int64_t run_crowd(const struct worker *worker, int first, int count, int parallel, bool attach) {
  pthread_t threads[256];
  struct crowd crowd = {.worker = worker, .next = first, .end = first + count, .attach = attach};
  if (parallel < 1 || parallel > 256) die("%d in parallel: 1 to 256", parallel);
  int64_t start = now_ns();
  for (int i = 0; i < parallel; i++)
    if (pthread_create(&threads[i], NULL, work_through, &crowd) != 0) die("cannot start a thread");
  for (int i = 0; i < parallel; i++) pthread_join(threads[i], NULL);
  return now_ns() - start;
}

void run_burst(const struct worker *worker, int first, int count, int parallel, bool attach, bool detach) {
  if (attach) {
    for (int i = first; i < first + count && !stopping; i++) make_namespace(i);
    settle(5);
    int64_t ns = run_crowd(worker, first, count, parallel, true);
    printf("{\"all\":\"ADD\",\"count\":%d,\"ns\":%lld}\n", count, (long long)ns);
    settle(5);
  }
  if (detach) {
    int64_t ns = run_crowd(worker, first, count, parallel, false);
    printf("{\"all\":\"DEL\",\"count\":%d,\"ns\":%lld}\n", count, (long long)ns);
    for (int i = first; i < first + count; i++) remove_namespace(i);
  }
  for (int i = first; i < first + count; i++) {
    if (!containers[i]) continue;
    if (detach && worker->finish) worker->finish(containers[i]);
    if (attach && detach) print_container(containers[i]);
    else print_outcome(attach ? "ADD" : "DEL", i, attach ? &containers[i]->attach : &containers[i]->detach);
    if (detach) forget(i);
  }
  settle(5);
}

void run_probe(const struct worker *worker, const char *verb, int count) {
  for (int i = 0; i < count && !stopping; i++) {
    struct outcome outcome = {0};
    worker->probe(verb, &outcome);
    print_outcome(verb, i, &outcome);
    free(outcome.failure);
  }
}
