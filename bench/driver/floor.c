/*
 * The floor: what the kernel alone takes for an attachment, asked for by a warm process that knows everything.
 * One message makes the veth pair, puts the peer into the container and the host's end on the bridge; that end is
 * set up without IPv6; one datagram inside gives address, up and default route; one batch changes the nft sets.
 *
 * A deleted link is gone when the kernel says so to those who listen (RTM_DELLINK); the call itself comes back
 * later, after the kernel has waited for its readers (RCU). The floor's DEL is the first of the two; the second
 * goes out as its part.
 */
#include "driver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *floor_kind; /* loopback | bridge | masq | chain | many */
static int bridge_index[MAX_INDEX / 1000];
static bool has_link, has_masq, has_chain, has_many;

/* Each thread has its sockets: a netlink socket serves one conversation at a time. */
static _Thread_local int route_socket = -1, nft_socket = -1;

/*
 * Deletions run on threads of their own, because the call waits for the kernel's readers long after the link is
 * gone. A thread takes all that are asked for at that moment (one link group, one wait); another thread sees them go.
 */
enum { DELETERS = 16 };
struct deletion {
  struct deletion *next;
  char name[IFNAMSIZ];
  int64_t gone, returned;
  int error;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct deletion *asked, *of_index[MAX_INDEX];

static const char ruleset[] =
    "table inet bench {\n"
    " set masq { type ipv4_addr; }\n"
    " set open { type ipv4_addr; }\n"
    " map port { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    " chain before { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . th dport map @port; }\n"
    " chain between { type filter hook forward priority filter; ip daddr @open accept; ip saddr @open accept; }\n"
    " chain after { type nat hook postrouting priority srcnat; ip saddr @masq masquerade; }\n"
    "}\n";

static void load_ruleset(void) {
  FILE *nft = popen("nft -f -", "we");
  if (!nft || fputs(ruleset, nft) < 0 || pclose(nft) != 0) die("cannot load the floor's ruleset with nft");
}

static void put_deletion(struct message *m, const char *name, int group) {
  struct ifinfomsg link = {0};
  begin_message(m, RTM_DELLINK, NLM_F_ACK, &link, sizeof link);
  if (name) put_string(m, IFLA_IFNAME, name);
  else put_attribute(m, IFLA_GROUP, &group, 4);
  end_message(m);
}

static int delete_all(int fd, struct deletion *first) {
  const int group = 1000 + fd; /* no two threads the same */
  struct message m = {0};
  struct ifinfomsg link = {0};
  if (!first->next) {
    put_deletion(&m, first->name, 0);
    return exchange(fd, &m);
  }
  for (struct deletion *one = first; one; one = one->next) {
    begin_message(&m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
    put_string(&m, IFLA_IFNAME, one->name);
    put_attribute(&m, IFLA_GROUP, &group, 4);
    end_message(&m);
  }
  put_deletion(&m, NULL, group);
  return exchange(fd, &m);
}

static void *delete_links(void *none) {
  (void)none;
  int fd = open_netlink(NETLINK_ROUTE, 0);
  pthread_mutex_lock(&lock);
  for (;;) {
    while (!asked) pthread_cond_wait(&changed, &lock);
    struct deletion *taken = asked;
    asked = NULL;
    pthread_mutex_unlock(&lock);
    int error = delete_all(fd, taken);
    int64_t returned = now_ns();
    pthread_mutex_lock(&lock);
    for (struct deletion *one = taken; one; one = one->next) one->error = error, one->returned = returned;
    pthread_cond_broadcast(&changed);
  }
  return NULL;
}

static void saw_gone(const char *name, int64_t when) {
  int index = -1;
  if (sscanf(name, "f%d", &index) != 1 || index < 0 || index >= MAX_INDEX) return;
  pthread_mutex_lock(&lock);
  if (of_index[index] && !of_index[index]->gone) of_index[index]->gone = when;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void *watch_links(void *none) {
  (void)none;
  static char bytes[65536];
  int fd = open_netlink(NETLINK_ROUTE, RTMGRP_LINK), size = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  for (;;) {
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    int64_t when = now_ns();
    for (struct nlmsghdr *h = (struct nlmsghdr *)bytes; got > 0 && NLMSG_OK(h, (unsigned)got); h = NLMSG_NEXT(h, got)) {
      struct ifinfomsg *link = NLMSG_DATA(h);
      if (h->nlmsg_type != RTM_DELLINK || link->ifi_family != AF_UNSPEC) continue; /* AF_BRIDGE: it only left the bridge */
      int left = (int)IFLA_PAYLOAD(h);
      for (struct rtattr *a = IFLA_RTA(link); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == IFLA_IFNAME) saw_gone(RTA_DATA(a), when);
    }
  }
  return NULL;
}

static void start_thread(void *(*run)(void *)) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, NULL) != 0) die("cannot start a thread");
}

/* 10.66.0.0/16 on one bridge, or of "many" one network for each thousand: 10.0.0.0/16, 10.1.0.0/16 and so on. */
static int bridge_of(int index) { return has_many ? index / 1000 : 0; }
static uint32_t network_of(int index) { return has_many ? 0x0a000000u + ((unsigned)(index / 1000) << 16) : 0x0a420000u; }
static uint32_t gateway_of(int index) { return htonl(network_of(index) + 1); }
static uint32_t address_of(int index) { return htonl(network_of(index) + 2 + (unsigned)(has_many ? index % 1000 : index)); }

static void make_bridge(int index) {
  char name[IFNAMSIZ];
  unsigned char mac[6] = {2, 0, 0, 0, 1, (unsigned char)bridge_of(index)};
  snprintf(name, sizeof name, "floor%d", bridge_of(index));
  int fd = open_netlink(NETLINK_ROUTE, 0);
  struct message m = {0};
  struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_message(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
  put_string(&m, IFLA_IFNAME, name);
  put_attribute(&m, IFLA_ADDRESS, mac, sizeof mac);
  size_t info = begin_nested(&m, IFLA_LINKINFO);
  put_string(&m, IFLA_INFO_KIND, "bridge");
  end_nested(&m, info);
  end_message(&m);
  int error = exchange(fd, &m);
  if (error) die("cannot make the floor's bridge: %s", strerror(-error));
  unsigned made = if_nametoindex(name);
  struct message a = {0};
  struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = made};
  uint32_t gateway = gateway_of(index);
  begin_message(&a, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, &address, sizeof address);
  put_attribute(&a, IFA_LOCAL, &gateway, 4);
  end_message(&a);
  error = exchange(fd, &a);
  if (error) die("cannot address the floor's bridge: %s", strerror(-error));
  close(fd);
  bridge_index[bridge_of(index)] = (int)made;
}

void prepare_floor(void) {
  has_link = strcmp(floor_kind, "loopback") != 0;
  has_chain = !strcmp(floor_kind, "chain");
  has_many = !strcmp(floor_kind, "many");
  has_masq = has_chain || has_many || !strcmp(floor_kind, "masq");
  if (!has_link) return;
  for (int index = 0; index < (has_many ? MAX_INDEX : 1); index += 1000) make_bridge(index);
  if (has_masq) load_ruleset();
  start_thread(watch_links);
  for (int i = 0; i < DELETERS; i++) start_thread(delete_links);
}

static void link_name(int index, char *name) { snprintf(name, IFNAMSIZ, "f%d", index); }

static int make_link(int index, int namespace) {
  struct message m = {0};
  struct ifinfomsg host = {0};
  /* Not up yet: the kernel opens the peer before the two know each other, and that fails with ENOTCONN. */
  struct ifinfomsg inside = {.ifi_index = 2};
  char name[IFNAMSIZ];
  link_name(index, name);
  begin_message(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &host, sizeof host);
  put_string(&m, IFLA_IFNAME, name);
  put_attribute(&m, IFLA_MASTER, &bridge_index[bridge_of(index)], 4);
  size_t info = begin_nested(&m, IFLA_LINKINFO);
  put_string(&m, IFLA_INFO_KIND, "veth");
  size_t data = begin_nested(&m, IFLA_INFO_DATA);
  size_t peer = m.size;
  put_attribute(&m, VETH_INFO_PEER, &inside, sizeof inside);
  put_string(&m, IFLA_IFNAME, "eth0");
  put_attribute(&m, IFLA_NET_NS_FD, &namespace, 4);
  end_nested(&m, peer);
  end_nested(&m, data);
  end_nested(&m, info);
  end_message(&m);
  int error = exchange(route_socket, &m);
  if (error) return error;
  /*
   * A bridge port needs no IPv6 of its own. With it, the kernel walks the host's whole IPv6 table (some routes for
   * each port) whenever one comes or goes: 2 ms for a deletion with 3,000 ports on the host, 0.3 without.
   */
  char path[80];
  snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (write(fd, "1", 1) != 1) error = -errno;
    close(fd);
  }
  if (error) return error;
  struct message up = {0};
  host.ifi_flags = host.ifi_change = IFF_UP;
  begin_message(&up, RTM_SETLINK, NLM_F_ACK, &host, sizeof host);
  put_string(&up, IFLA_IFNAME, name);
  end_message(&up);
  return exchange(route_socket, &up);
}

static int address_link(int index, int namespace) {
  int fd = socket_in(namespace, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (fd < 0) return fd;
  struct message m = {0};
  struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = 2};
  uint32_t own = address_of(index), gateway = gateway_of(index), out = 2;
  begin_message(&m, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &address, sizeof address);
  put_attribute(&m, IFA_LOCAL, &own, 4);
  end_message(&m);
  struct ifinfomsg link = {.ifi_index = 2, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_message(&m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
  end_message(&m);
  struct rtmsg route = {
      .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  begin_message(&m, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
  put_attribute(&m, RTA_GATEWAY, &gateway, 4);
  put_attribute(&m, RTA_OIF, &out, 4);
  end_message(&m);
  int error = exchange(fd, &m);
  close(fd);
  return error;
}

static int set_loopback(int namespace, bool up) {
  int fd = socket_in(namespace, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (fd < 0) return fd;
  struct message m = {0};
  struct ifinfomsg link = {.ifi_index = 1, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
  begin_message(&m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
  end_message(&m);
  int error = exchange(fd, &m);
  close(fd);
  return error;
}

static void put_element(struct message *m, const char *set, bool add, const void *key, size_t key_size, const void *data, size_t data_size) {
  struct nfgenmsg header = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};
  begin_message(m, NFNL_SUBSYS_NFTABLES << 8 | (add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM), NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0),
                &header, sizeof header);
  put_string(m, NFTA_SET_ELEM_LIST_TABLE, "bench");
  put_string(m, NFTA_SET_ELEM_LIST_SET, set);
  size_t list = begin_nested(m, NFTA_SET_ELEM_LIST_ELEMENTS), element = begin_nested(m, NFTA_LIST_ELEM);
  size_t value = begin_nested(m, NFTA_SET_ELEM_KEY);
  put_attribute(m, NFTA_DATA_VALUE, key, key_size);
  end_nested(m, value);
  if (data) {
    value = begin_nested(m, NFTA_SET_ELEM_DATA);
    put_attribute(m, NFTA_DATA_VALUE, data, data_size);
    end_nested(m, value);
  }
  end_nested(m, element);
  end_nested(m, list);
  end_message(m);
}

static int change_sets(int index, bool add) {
  struct message m = {0};
  struct nfgenmsg batch = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
  uint32_t own = address_of(index);
  begin_message(&m, NFNL_MSG_BATCH_BEGIN, 0, &batch, sizeof batch);
  end_message(&m);
  put_element(&m, "masq", add, &own, 4, NULL, 0);
  if (has_chain) {
    put_element(&m, "open", add, &own, 4, NULL, 0);
    uint16_t port = htons((uint16_t)(2000 + index)), inside = htons(80);
    unsigned char key[8] = {IPPROTO_TCP}, target[8];
    memcpy(key + 4, &port, 2);
    memset(target, 0, sizeof target);
    memcpy(target, &own, 4);
    memcpy(target + 4, &inside, 2);
    put_element(&m, "port", add, key, 8, target, 8);
  }
  begin_message(&m, NFNL_MSG_BATCH_END, 0, &batch, sizeof batch);
  end_message(&m);
  return exchange(nft_socket, &m);
}

static void attach(struct container *container) {
  struct outcome *outcome = &container->attach;
  char path[300];
  namespace_path(container->index, path, sizeof path);
  if (route_socket < 0) {
    route_socket = open_netlink(NETLINK_ROUTE, 0);
    nft_socket = open_netlink(NETLINK_NETFILTER, 0);
  }
  const char *step = "netns";
  int64_t start = now_ns();
  int namespace = open(path, O_RDONLY | O_CLOEXEC), error = namespace < 0 ? -errno : 0;
  if (!error && !has_link) step = "lo up", error = set_loopback(namespace, true);
  if (!error && has_link) step = "veth", error = make_link(container->index, namespace);
  if (!error && has_link) step = "address", error = address_link(container->index, namespace);
  if (!error && has_masq) step = "nft", error = change_sets(container->index, true);
  if (!error && has_chain) write_sysctl_in(namespace, "/proc/sys/net/core/somaxconn", "500");
  if (namespace >= 0) close(namespace);
  outcome->ns = now_ns() - start;
  outcome->done = true;
  if (error) outcome->failure = text("%s: %s", step, strerror(-error));
}

/* Returns when the link is gone for those who look. The kernel call may still wait then. */
static int delete_link(int index, int64_t *end) {
  struct deletion *deletion = calloc(1, sizeof *deletion);
  if (!deletion) die("out of memory");
  link_name(index, deletion->name);
  pthread_mutex_lock(&lock);
  of_index[index] = deletion;
  deletion->next = asked;
  asked = deletion;
  pthread_cond_broadcast(&changed);
  while (!deletion->gone && !deletion->returned) pthread_cond_wait(&changed, &lock);
  *end = deletion->gone ? deletion->gone : deletion->returned;
  int error = deletion->returned ? deletion->error : 0;
  pthread_mutex_unlock(&lock);
  return error;
}

static void detach(struct container *container) {
  struct outcome *outcome = &container->detach;
  char path[300];
  namespace_path(container->index, path, sizeof path);
  const char *step = "netns";
  int error = 0;
  int64_t end = 0, start = outcome->start = now_ns();
  if (nft_socket < 0) nft_socket = open_netlink(NETLINK_NETFILTER, 0);
  if (!has_link) {
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    error = namespace < 0 ? -errno : set_loopback(namespace, false);
    if (namespace >= 0) close(namespace);
  }
  if (has_masq) step = "nft", error = change_sets(container->index, false);
  if (!error && has_link) step = "link", error = delete_link(container->index, &end);
  outcome->ns = (end ? end : now_ns()) - start;
  outcome->done = true;
  if (error) outcome->failure = text("%s: %s", step, strerror(-error));
}

/* Waits for the kernel call of a detach, whose length is the detach's part. */
static void finish(struct container *container) {
  struct deletion *deletion = of_index[container->index];
  if (!deletion) return;
  pthread_mutex_lock(&lock);
  while (!deletion->returned) pthread_cond_wait(&changed, &lock);
  of_index[container->index] = NULL;
  pthread_mutex_unlock(&lock);
  struct outcome *outcome = &container->detach;
  outcome->part_ns[outcome->parts++] = deletion->returned - outcome->start;
  if (deletion->error && !outcome->failure) outcome->failure = text("link: %s", strerror(-deletion->error));
  free(deletion);
}

/* What a process costs that does nothing. */
static void probe(const char *verb, struct outcome *outcome) { plugin_worker.probe(verb, outcome); }

const struct worker floor_worker = {.attach = attach, .detach = detach, .finish = finish, .probe = probe};
