/* Just enough netlink for the floor: build messages, send them in one datagram, read the answers. */
#include "driver.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void put_bytes(struct message *m, const void *bytes, size_t size) {
  size_t padded = NLMSG_ALIGN(size);
  if (m->size + padded > sizeof m->data) die("netlink message too long");
  memset(m->data + m->size, 0, padded);
  if (size > 0) memcpy(m->data + m->size, bytes, size);
  m->size += padded;
}

void begin_message(struct message *m, int type, int flags, const void *header, size_t size) {
  struct nlmsghdr h = {.nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
  m->start = m->size;
  put_bytes(m, &h, sizeof h);
  put_bytes(m, header, size);
}

void put_attribute(struct message *m, int type, const void *value, size_t size) {
  struct nlattr a = {.nla_type = (uint16_t)type, .nla_len = (uint16_t)(sizeof a + size)};
  put_bytes(m, &a, sizeof a);
  put_bytes(m, value, size);
}

void put_string(struct message *m, int type, const char *value) { put_attribute(m, type, value, strlen(value) + 1); }

size_t begin_nested(struct message *m, int type) {
  size_t at = m->size;
  put_attribute(m, type | NLA_F_NESTED, NULL, 0);
  return at;
}

void end_nested(struct message *m, size_t at) {
  uint16_t size = (uint16_t)(m->size - at);
  memcpy(m->data + at, &size, sizeof size); /* nla_len is the first field */
}

void end_message(struct message *m) {
  uint32_t size = (uint32_t)(m->size - m->start);
  memcpy(m->data + m->start, &size, sizeof size); /* so is nlmsg_len */
}

int open_netlink(int protocol, unsigned groups) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("netlink socket: %s", strerror(errno));
  return fd;
}

int exchange(int fd, struct message *m) {
  static _Thread_local char replies[32768];
  if (send(fd, m->data, m->size, 0) < 0) return -errno;
  int error = 0;
  /* The kernel works inside send(), so all its answers are queued by now. */
  for (;;) {
    ssize_t size = recv(fd, replies, sizeof replies, MSG_DONTWAIT);
    if (size < 0) return errno == EAGAIN ? error : -errno;
    for (struct nlmsghdr *h = (struct nlmsghdr *)replies; NLMSG_OK(h, (unsigned)size); h = NLMSG_NEXT(h, size))
      if (h->nlmsg_type == NLMSG_ERROR && !error) error = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
  }
}
