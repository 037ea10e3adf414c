// Network namespaces: found, made and removed; sockets and tap devices in them.

// Opens a network namespace. -1: errno; -2: what is there is something else.
static int open_network_namespace(const char *path, struct stat *file) {
  struct statfs system;
  // Before open(2), which would block on a fifo and act on a device.
  if (statfs(path, &system) < 0) return -1;
  if (system.f_type != NSFS_MAGIC) return -2;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -1;
  // Looked at again, as the file at the path may have changed: to other files the same number may mean anything.
  bool is = fstatfs(fd, &system) == 0 && system.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
  if (is && fstat(fd, file) == 0) return fd;
  close(fd);
  return -2;
}

// openNetworkNamespace(path) -> { fd, dev, ino }; undefined for what is there and is no network namespace
static napi_value OpenNetworkNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  struct stat file;
  int fd = open_network_namespace(path, &file);
  if (fd < 0) return fd == -1 ? fail(env, "open", errno) : NULL;
  napi_value result, dev, ino;
  napi_create_object(env, &result);
  napi_create_double(env, (double)file.st_dev, &dev);
  napi_create_double(env, (double)file.st_ino, &ino);
  napi_set_named_property(env, result, "fd", number(env, fd));
  napi_set_named_property(env, result, "dev", dev);
  napi_set_named_property(env, result, "ino", ino);
  return result;
}

// identifyNetworkNamespace(path) -> { dev, ino }; undefined for what is there and is no network namespace
static napi_value IdentifyNetworkNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  struct stat file;
  int fd = open_network_namespace(path, &file);
  if (fd < 0) return fd == -1 ? fail(env, "open", errno) : NULL;
  close(fd);
  napi_value result, dev, ino;
  napi_create_object(env, &result);
  napi_create_double(env, (double)file.st_dev, &dev);
  napi_create_double(env, (double)file.st_ino, &ino);
  napi_set_named_property(env, result, "dev", dev);
  napi_set_named_property(env, result, "ino", ino);
  return result;
}

// socketIn(namespaceFd | -1, domain, type, protocol) -> fd
static napi_value SocketIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(4)
  int32_t value[4];
  for (int i = 0; i < 4; i++)
    if (!int_argument(env, argument[i], &value[i])) return NULL;
  int fd = socket_in(value[0], value[1], value[2] | SOCK_CLOEXEC, value[3]);
  return fd < 0 ? fail(env, "socket", errno) : number(env, fd);
}

// packetSocketIn(namespaceFd | -1, ifindex, udpPort) -> fd: whole Ethernet frames of one link, of which the kernel hands up
// only IPv4 packets, no later fragments, with UDP to that port. It sends frames as they are given.
static napi_value PacketSocketIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(3)
  int32_t value[3];
  for (int i = 0; i < 3; i++)
    if (!int_argument(env, argument[i], &value[i])) return NULL;
  // Bound to no protocol, it gets nothing before the filter is there.
  int fd = socket_in(value[0], AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(env, "socket", errno);
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),                        // EtherType
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 8),             // IPv4
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),                        // protocol
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 6),                 // UDP
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),                        // flags and fragment offset
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),            // the first fragment has the ports
      BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),                       // length of the IP header
      BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),                        // destination port
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value[2] & 0xffff, 0, 1),  //
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),                         //
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = value[1]};
  const char *failed = NULL;
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) failed = "setsockopt";
  else if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) failed = "bind";
  if (!failed) return number(env, fd);
  int error = errno;
  close(fd);
  return fail(env, failed, error);
}

// createNamespace(path): a new network namespace, kept by a bind mount on the file `path`, which is made here
static napi_value CreateNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  if (!knows_way_back()) return fail(env, "open", ENOENT);
  int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (file < 0) return fail(env, "open", errno);
  close(file);
  const char *failed = NULL;
  int error = 0;
  if (unshare(CLONE_NEWNET) < 0) {
    error = errno, failed = "unshare";
  } else {
    if (mount(OWN_NAMESPACE, path, "none", MS_BIND, NULL) < 0) error = errno, failed = "mount";
    leave(way_back);
  }
  if (!failed) return NULL;
  unlink(path);
  return fail(env, failed, error);
}

// removeNamespace(path): unmounts and unlinks; does nothing where there is no such file
static napi_value RemoveNamespace(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "umount2")) return NULL;
  // EINVAL: a file that nothing is mounted on, as a creation that was killed half-way leaves it.
  if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT) return fail(env, "umount2", errno);
  if (unlink(path) < 0 && errno != ENOENT) return fail(env, "unlink", errno);
  return NULL;
}

// createTap(namespaceFd | -1, name, flags, owner | -1, group | -1): a device that stays until somebody deletes it
static napi_value CreateTap(napi_env env, napi_callback_info info) {
  ARGUMENTS(5)
  int32_t namespace, flags;
  int64_t owner, group;
  struct ifreq request = {0};
  if (!int_argument(env, argument[0], &namespace) || !int_argument(env, argument[2], &flags) ||
      !text_argument(env, argument[1], request.ifr_name, sizeof request.ifr_name, "TUNSETIFF"))
    return NULL;
  if (napi_get_value_int64(env, argument[3], &owner) != napi_ok || napi_get_value_int64(env, argument[4], &group) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a number");
    return NULL;
  }
  // Without IFF_TUN_EXCL the kernel would take a device that is there already.
  request.ifr_flags = (short)(flags | IFF_TAP | IFF_TUN_EXCL);
  const char *failed = "setns";
  int error = 0;
  int back = enter(namespace);
  if (back == -1) return fail(env, failed, errno);
  // The file belongs to the namespace in which it is opened.
  int fd = open(failed = "/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) error = errno;
  else if (ioctl(fd, TUNSETIFF, &request) < 0) error = errno, failed = "TUNSETIFF";
  else if (owner >= 0 && ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0) error = errno, failed = "TUNSETOWNER";
  else if (group >= 0 && ioctl(fd, TUNSETGROUP, (unsigned long)group) < 0) error = errno, failed = "TUNSETGROUP";
  // Last: until then the device goes with the file.
  else if (ioctl(fd, TUNSETPERSIST, 1) < 0) error = errno, failed = "TUNSETPERSIST";
  if (fd >= 0) close(fd);
  leave(back);
  return error ? fail(env, failed, error) : NULL;
}
