// A procfs of this process's own, for /proc/sys/net as the containers' namespaces see it. Part of addon.c.
//
// The kernel caches the name of every file looked up below /proc/sys. What one network namespace calls
// net/ipv4/conf/eth0 is another file in the next, of the same name in the same folder: all of them stand in one list, and
// each look-up walks it (proc_sys_compare in fs/proc/proc_sysctl.c). With 1,000 containers an open(2) takes 340 us in place
// of 8, in the host's namespace too. Each mounted procfs has names of its own (Linux 5.8), and loses them with the mount:
// so one that is in no folder, and is replaced before its lists get long.

#include <linux/mount.h>

// glibc has them from 2.36 on.
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif

#define PROC_SYS "/proc/sys/"

enum {
  // Between the 25 us that a new one costs and the 0.3 us that each visit adds to the next.
  OWN_PROC_VISITS = 64,
  CREATE_SUPERBLOCK = 6, // FSCONFIG_CMD_CREATE
  // MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
  OWN_PROC_ATTRIBUTES = 0x2 | 0x4 | 0x8,
};

static pthread_mutex_t own_proc_lock = PTHREAD_MUTEX_INITIALIZER;
static int own_proc = -1, own_proc_visits;
static bool wants_own_proc;

// The last close(2) unmounts, which waits for the kernel's readers (RCU).
static void *close_elsewhere(void *data) {
  close((int)(intptr_t)data);
  return NULL;
}

static void discard_own_proc(void) {
  if (own_proc < 0) return;
  void *fd = (void *)(intptr_t)own_proc;
  if (start_detached(close_elsewhere, fd) != 0) close_elsewhere(fd);
  own_proc = -1;
}

// What is read-only in the caller's /proc is not to be written by a way around it.
static bool may_write_proc(void) {
  struct statfs file;
  return statfs(PROC_SYS, &file) == 0 && file.f_type == PROC_SUPER_MAGIC && !(file.f_flags & MS_RDONLY);
}

// -1 where there can be none: older kernels, no CAP_SYS_ADMIN over the process's pid namespace.
static int mount_own_proc(void) {
  if (!may_write_proc()) return -1;
  int context = (int)syscall(SYS_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */);
  if (context < 0) return -1;
  int made = -1;
  if (syscall(SYS_fsconfig, context, CREATE_SUPERBLOCK, NULL, NULL, 0) == 0)
    made = (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, OWN_PROC_ATTRIBUTES);
  close(context);
  return made;
}

// open(2); below /proc/sys in the own procfs, where it is wanted and to be had.
static int open_file(const char *path, int flags) {
  if (strncmp(path, PROC_SYS, strlen(PROC_SYS)) != 0) return open(path, flags);
  pthread_mutex_lock(&own_proc_lock);
  if (!wants_own_proc) {
    pthread_mutex_unlock(&own_proc_lock);
    return open(path, flags);
  }
  if (own_proc_visits++ % OWN_PROC_VISITS == 0) {
    discard_own_proc();
    own_proc = mount_own_proc();
  }
  int fd = own_proc < 0 ? open(path, flags) : openat(own_proc, path + strlen("/proc/"), flags);
  int saved = errno;
  pthread_mutex_unlock(&own_proc_lock);
  errno = saved;
  return fd;
}

// useOwnProc(whether)
static napi_value UseOwnProc(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  bool whether;
  if (napi_get_value_bool(env, argument[0], &whether) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a boolean");
    return NULL;
  }
  pthread_mutex_lock(&own_proc_lock);
  wants_own_proc = whether;
  own_proc_visits = 0;
  if (!whether) discard_own_proc();
  pthread_mutex_unlock(&own_proc_lock);
  return NULL;
}
