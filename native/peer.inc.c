// The other end of a unix socket.

// peerUid(fd) -> effective user id of the process that connected a unix socket
static napi_value PeerUid(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return fail(env, "getsockopt", errno);
  napi_value uid;
  napi_create_uint32(env, peer.uid, &uid);
  return uid;
}

// hasHungUp(fd) -> whether the other end of a stream socket sends nothing any more
static napi_value HasHungUp(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  int32_t fd;
  if (!int_argument(env, argument[0], &fd)) return NULL;
  struct pollfd socket = {.fd = fd, .events = POLLRDHUP};
  int found;
  do found = poll(&socket, 1, 0);
  while (found < 0 && errno == EINTR);
  if (found < 0) return fail(env, "poll", errno);
  return boolean(env, (socket.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0);
}

// sendNow(fd, bytes) -> how many of them a socket has taken at once
static napi_value SendNow(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t sent;
  do sent = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  // Whatever is wrong with it shows with the rest, which goes the ordinary way.
  return number(env, sent < 0 ? 0 : (int32_t)sent);
}

// receiveNow(fd, bytes) -> how many of them a socket had; 0 where it has none for the moment, or none any more
static napi_value ReceiveNow(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd;
  uint8_t *data;
  size_t length;
  if (!int_argument(env, argument[0], &fd) || !bytes_argument(env, argument[1], &data, &length)) return NULL;
  ssize_t got;
  do got = recv(fd, data, length, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  return number(env, got < 0 ? 0 : (int32_t)got);
}
