// The few system calls that Node lacks, as one Node-API addon in plain C (no libuv, no V8: one file runs on every Node).
//
// Rule that everything here keeps: a thread that enters another network namespace leaves it again before the call
// returns to JavaScript. Whatever runs in between (a thread of the pool being started, a child process) would stay in
// the wrong namespace for ever. Where the way back fails, the process aborts: there is no state it could go on from.
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <link.h>
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

// Of one program or library, what nobody ever writes to: text and constants.
static int ForgetReadOnly(struct dl_phdr_info *object, size_t size, void *page_size) {
  (void)size;
  const uintptr_t rest = *(long *)page_size - 1;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[i];
    if (part->p_type != PT_LOAD || (part->p_flags & PF_W)) continue;
    // Whole pages alone: what is in the first and last one may be of a neighbour that is written to.
    uintptr_t from = (object->dlpi_addr + part->p_vaddr + rest) & ~rest;
    uintptr_t to = (object->dlpi_addr + part->p_vaddr + part->p_memsz) & ~rest;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
  }
  return 0;
}

// forgetProgramPages()
static napi_value ForgetProgramPages(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  long page_size = sysconf(_SC_PAGESIZE);
  dl_iterate_phdr(ForgetReadOnly, &page_size);
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
