/*
 * The bench's driver: a small process that stands for a container runtime on a host of its own (a network and a
 * mount namespace that end with it). It makes namespaces, calls plugin executables in them as libcni does, and
 * says how long each call took. bench/driver.mjs speaks with it over stdin and stdout.
 *
 * With --floor it calls no plugin: it does the bare kernel work of the same attachment itself, in a warm process,
 * which is the least that any plugin can take.
 */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  MAX_PLUGINS = 16,
  MAX_INDEX = 60000,       /* containers in the life of one driver */
  MAX_REPLY = 256 << 10,
  MAX_REQUEST = 60 << 10,  /* fits into a pipe, so that it can be written before the plugin runs */
  CALL_TIMEOUT_MS = 60000,
};

/* What one attach or detach took. */
struct outcome {
  int64_t start, ns;                /* the whole verb */
  int64_t part_ns[MAX_PLUGINS];     /* each plugin; of a floor's detach: until the kernel call returned */
  int parts;
  bool done;                        /* was run at all */
  char *failure;                    /* NULL: it worked */
};

struct container {
  int index;
  char *result;                     /* what ADD answered; prevResult of DEL */
  struct outcome attach, detach;
};

/* The two ways of making an attachment. */
struct worker {
  void (*attach)(struct container *container);
  void (*detach)(struct container *container);
  void (*finish)(struct container *container); /* waits for what detach left to do; may be NULL */
  void (*probe)(const char *verb, struct outcome *outcome);
};
extern const struct worker plugin_worker, floor_worker;

/* main.c */
extern volatile int stopping;
int64_t now_ns(void);
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
__attribute__((format(printf, 1, 2))) char *text(const char *format, ...);

/* host.c */
extern int host_namespace;
void enter_host(const char *directory);
void leave_host(void);
void make_uplink(const char *name);
void namespace_path(int index, char *path, size_t size);
void make_namespace(int index);
void remove_namespace(int index);
/* A socket that lives in a container's namespace; the calling thread is back on the host when it returns. */
int socket_in(int namespace, int domain, int type, int protocol);
/* Writes net.core.somaxconn in a container's namespace. */
void write_sysctl_in(int namespace, const char *path, const char *value);
/* Waits until nobody holds the kernel's RTNL lock, and for `rounds` looks in a row, 2 ms apart. */
void settle(int rounds);
void print_services(void);

/* call.c */
extern const char *plugin_directory, *interface_name, *error_log, *nothing_program;
extern char *extra_environment[];
void read_plan(const char *file);

/* netlink.c */
struct message { _Alignas(4) unsigned char data[8192]; size_t size; size_t start; };
void begin_message(struct message *m, int type, int flags, const void *header, size_t size);
void put_attribute(struct message *m, int type, const void *value, size_t size);
void put_string(struct message *m, int type, const char *value);
size_t begin_nested(struct message *m, int type);
void end_nested(struct message *m, size_t at);
void end_message(struct message *m);
int open_netlink(int protocol, unsigned groups);
/* Sends everything in one datagram and reads the answers; 0, or the first error as a negative errno. */
int exchange(int fd, struct message *m);

/* floor.c */
extern const char *floor_kind;
void prepare_floor(void);

/* blocks.c */
void run_pairs(const struct worker *worker, int first, int count, bool settled);
void run_burst(const struct worker *worker, int first, int count, int parallel, bool attach, bool detach);
void run_probe(const struct worker *worker, const char *verb, int count);

#endif
