/* Traffic for bench/published/throughput.mjs.
 *   flow server PORT                       until it is killed; says "ready"
 *   flow stream ADDRESS PORT MILLISECONDS  one TCP connection as fast as it goes: Gbit/s
 *   flow packets ADDRESS PORT MILLISECONDS datagrams of 64 bytes: those that arrived, a second
 *   flow connects ADDRESS PORT MILLISECONDS connections made and closed, one after the other, a second
 *   flow latency ADDRESS PORT MILLISECONDS half of what a ping takes there and back, ns: what a tenth stay below */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t datagrams;

static void die(const char *what) {
  fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static struct sockaddr_in address_of(const char *ip, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) die(ip);
  return address;
}

static void *count_datagrams(void *data) {
  int fd = *(int *)data;
  enum { batch = 64 };
  static char bytes[batch][2048];
  struct iovec vectors[batch];
  struct mmsghdr messages[batch] = {0};
  for (int i = 0; i < batch; i++) {
    vectors[i] = (struct iovec){bytes[i], sizeof bytes[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
  }
  for (;;) {
    int got = recvmmsg(fd, messages, batch, MSG_WAITFORONE, NULL);
    if (got > 0) datagrams += (uint64_t)got;
  }
  return NULL;
}

/* The first byte says what is wanted: 's' takes all that comes, 'u' answers with the datagrams since the last question. */
static void *serve(void *data) {
  int fd = (int)(intptr_t)data;
  static _Thread_local char bytes[1 << 18];
  char wanted = 0;
  if (read(fd, &wanted, 1) == 1 && wanted == 's') {
    while (read(fd, bytes, sizeof bytes) > 0) {}
  } else if (wanted == 'u') {
    uint64_t count = atomic_exchange(&datagrams, 0);
    if (write(fd, &count, sizeof count) < 0) perror("flow");
  }
  close(fd);
  return NULL;
}

static int server(const char *port) {
  struct sockaddr_in address = address_of("0.0.0.0", port);
  int on = 1, udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0), size = 8 << 20;
  setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  if (bind(udp, (struct sockaddr *)&address, sizeof address) || bind(tcp, (struct sockaddr *)&address, sizeof address)) die("bind");
  if (listen(tcp, 1024)) die("listen");
  pthread_t thread;
  pthread_create(&thread, NULL, count_datagrams, &udp);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int fd = accept(tcp, NULL, NULL);
    if (fd < 0) continue;
    if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) pthread_detach(thread);
    else close(fd);
  }
  return 0;
}

static int connected(struct sockaddr_in address, int type) {
  int fd = socket(AF_INET, type, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  return fd;
}

static double stream(struct sockaddr_in address, int64_t for_ns) {
  static char bytes[1 << 17];
  int fd = connected(address, SOCK_STREAM);
  if (write(fd, "s", 1) != 1) die("write");
  uint64_t sent = 0;
  int64_t start = now_ns();
  while (now_ns() - start < for_ns) {
    ssize_t put = write(fd, bytes, sizeof bytes);
    if (put < 0) die("write");
    sent += (uint64_t)put;
  }
  double gigabits = (double)sent * 8 / (double)(now_ns() - start);
  close(fd);
  return gigabits;
}

static uint64_t arrived(struct sockaddr_in address) {
  uint64_t count = 0;
  int fd = connected(address, SOCK_STREAM);
  if (write(fd, "u", 1) != 1 || read(fd, &count, sizeof count) != sizeof count) die("ask");
  close(fd);
  return count;
}

static double packets(struct sockaddr_in address, int64_t for_ns) {
  arrived(address);
  enum { batch = 32 };
  static char bytes[64];
  struct iovec vector = {bytes, sizeof bytes};
  struct mmsghdr messages[batch] = {0};
  for (int i = 0; i < batch; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
  int fd = connected(address, SOCK_DGRAM);
  int64_t start = now_ns();
  while (now_ns() - start < for_ns) sendmmsg(fd, messages, batch, 0);
  double seconds = (double)(now_ns() - start) / 1e9;
  usleep(20000);
  close(fd);
  return (double)arrived(address) / seconds;
}

static double connects(struct sockaddr_in address, int64_t for_ns) {
  uint64_t count = 0;
  int64_t start = now_ns();
  struct linger reset = {.l_onoff = 1};
  while (now_ns() - start < for_ns) {
    int fd = connected(address, SOCK_STREAM);
    // No TIME_WAIT, which would use up the client's ports.
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    count++;
  }
  return (double)count * 1e9 / (double)(now_ns() - start);
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* The kernel over there answers by itself, so that no program has to be woken. */
static double latency(struct sockaddr_in address, int64_t for_ns) {
  enum { most = 1 << 16 };
  static int64_t times[most];
  int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  struct { struct icmphdr head; char bytes[56]; } ping = {.head = {.type = ICMP_ECHO, .un.echo.id = htons((uint16_t)getpid())}};
  int64_t start = now_ns(), asked;
  size_t count = 0;
  while ((asked = now_ns()) - start < for_ns && count < most) {
    uint16_t sequence = htons((uint16_t)count);
    ping.head.un.echo.sequence = sequence;
    ping.head.checksum = 0;
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof ping / 2; i++) sum += ((uint16_t *)&ping)[i];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    ping.head.checksum = (uint16_t)~sum;
    if (send(fd, &ping, sizeof ping, 0) < 0) die("send");
    for (int64_t now; (now = now_ns()) - asked < 100000000;) {
      char answer[256];
      ssize_t got = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
      struct icmphdr *head = (struct icmphdr *)(answer + sizeof(struct iphdr));
      if (got < (ssize_t)(sizeof(struct iphdr) + sizeof *head) || head->type != ICMP_ECHOREPLY) continue;
      if (head->un.echo.id != ping.head.un.echo.id || head->un.echo.sequence != sequence) continue;
      times[count++] = now_ns() - asked;
      break;
    }
  }
  close(fd);
  if (count == 0) die("no answer");
  qsort(times, count, sizeof times[0], ascending);
  return (double)times[count / 10] / 2;
}

int main(int count, char **words) {
  if (count == 3 && !strcmp(words[1], "server")) return server(words[2]);
  if (count != 5) {
    fputs("flow server PORT | flow stream|packets|connects|latency ADDRESS PORT MILLISECONDS\n", stderr);
    return 2;
  }
  struct sockaddr_in address = address_of(words[2], words[3]);
  int64_t for_ns = atoll(words[4]) * 1000000;
  double result = !strcmp(words[1], "stream")    ? stream(address, for_ns)
                  : !strcmp(words[1], "packets") ? packets(address, for_ns)
                  : !strcmp(words[1], "latency") ? latency(address, for_ns)
                                                 : connects(address, for_ns);
  printf("%.3f\n", result);
  return 0;
}
