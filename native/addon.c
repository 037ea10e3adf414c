// The few system calls that Node lacks, as one Node-API addon in plain C (no libuv, no V8: one file runs on every Node).
//
// Rule that everything here keeps: a thread that enters another network namespace leaves it again before the call
// returns to JavaScript. Whatever runs in between (a thread of the pool being started, a child process) would stay in
// the wrong namespace for ever. Where the way back fails, the process aborts: there is no state it could go on from.
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#define NAPI_VERSION 8
#include <node_api.h>

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif
#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

#include "napi.inc.c"
#include "visits.inc.c"
#include "netlink.inc.c"
#include "link-deletion.inc.c"
#include "netlink-news.inc.c"
#include "own-proc.inc.c"
#include "namespaces.inc.c"
#include "files.inc.c"
#include "digests.inc.c"
#include "peer.inc.c"
#include "poller.inc.c"

// keepMallocSmall()
static napi_value KeepMallocSmall(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
#ifdef __GLIBC__
  // V8's compiler and collector take and free megabytes in short-lived threads: with an arena for each of them, and
  // blocks of them in the middle of the heap, little of that ever goes back.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
  return NULL;
}

// trimMalloc()
static napi_value TrimMalloc(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return NULL;
}

// forgetProgramPages()
static napi_value ForgetProgramPages(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  FILE *mappings = fopen("/proc/self/smaps", "re");
  if (!mappings) return NULL;
  char line[4096];
  unsigned long from = 0, to = 0;
  bool is_candidate = false;
  while (fgets(line, sizeof line, mappings)) {
    char access[5];
    unsigned long start, end, inode, anonymous;
    if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &start, &end, access, &inode) == 4) {
      from = start, to = end;
      is_candidate = inode != 0 && access[0] == 'r' && access[1] == '-' && access[3] == 'p';
    } else if (is_candidate && sscanf(line, "Anonymous: %lu kB", &anonymous) == 1) {
      // What was written to while it could be (relocated, moved to large pages, a debugger's) is in no file.
      if (anonymous == 0) madvise((void *)from, to - from, MADV_DONTNEED);
      is_candidate = false;
    }
  }
  fclose(mappings);
  return NULL;
}

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"netlinkOpen", NetlinkOpen},
      {"netlinkClose", NetlinkClose},
      {"netlinkExchange", NetlinkExchange},
      {"netlinkExchangeAsync", NetlinkExchangeAsync},
      {"netlinkDeleteLinks", NetlinkDeleteLinks},
      {"deleteLinksByChild", DeleteLinksByChild},
      {"netlinkJoin", NetlinkJoin},
      {"netlinkReceive", NetlinkReceive},
      {"netlinkIgnore", NetlinkIgnore},
      {"netlinkWatch", NetlinkWatch},
      {"openNetworkNamespace", OpenNetworkNamespace},
      {"identifyNetworkNamespace", IdentifyNetworkNamespace},
      {"socketIn", SocketIn},
      {"packetSocketIn", PacketSocketIn},
      {"readFileIn", ReadFileIn},
      {"writeFilesIn", WriteFilesIn},
      {"useOwnProc", UseOwnProc},
      {"keepMallocSmall", KeepMallocSmall},
      {"trimMalloc", TrimMalloc},
      {"forgetProgramPages", ForgetProgramPages},
      {"flock", Flock},
      {"lockFile", LockFile},
      {"modificationTime", ModificationTime},
      {"readLink", ReadLink},
      {"readText", ReadText},
      {"crc32", Crc32},
      {"sha256", Sha256},
      {"peerUid", PeerUid},
      {"hasHungUp", HasHungUp},
      {"sendNow", SendNow},
      {"receiveNow", ReceiveNow},
      {"createNamespace", CreateNamespace},
      {"removeNamespace", RemoveNamespace},
      {"createTap", CreateTap},
      {"pollerCreate", PollerCreate},
      {"pollerAdd", PollerAdd},
      {"pollerWatch", PollerWatch},
      {"pollerClose", PollerClose},
      {"pollerDisown", PollerDisown},
      {"pollerWait", PollerWait},
      {"pollerTellAll", PollerTellAll},
      {"pollerAnswer", PollerAnswer},
      {"pollerAnswered", PollerAnswered},
      {"answersCreate", AnswersCreate},
      {"answersKeep", AnswersKeep},
      {"answersClear", AnswersClear},
      {"datagramsSend", DatagramsSend},
      {"socketBind", SocketBind},
      {"socketConnect", SocketConnect},
      {"socketListen", SocketListen},
      {"socketAccept", SocketAccept},
      {"socketReceive", SocketReceive},
      {"socketSend", SocketSend},
      {"socketOption", SocketOption},
      {"eventFd", EventFd},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    napi_value function;
    napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, NULL, &function);
    napi_set_named_property(env, exports, calls[i].name, function);
  }
  return exports;
}
