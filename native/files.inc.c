// Files, sysctls of a namespace and locks, with one call each.

// readFileIn(namespaceFd | -1, path) -> text, at most 64 KiB. /proc/sys/net shows the opener's namespace; some handlers
// look at the reader's, so all of open, read and close happen inside.
static napi_value ReadFileIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t namespace;
  char path[PATH_BYTES];
  if (!int_argument(env, argument[0], &namespace) || !text_argument(env, argument[1], path, sizeof path, "open")) return NULL;
  char *text = malloc(FILE_BYTES);
  if (!text) return fail(env, "malloc", ENOMEM);
  const char *failed = NULL;
  int error = 0;
  size_t length = 0;
  int back = enter(namespace);
  if (back == -1) {
    error = errno, failed = "setns";
  } else {
    int fd = open_file(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) error = errno, failed = "open";
    while (fd >= 0 && length < FILE_BYTES) {
      ssize_t got = read(fd, text + length, FILE_BYTES - length);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) error = errno, failed = "read";
      if (got <= 0) break;
      length += (size_t)got;
    }
    if (fd >= 0) close(fd);
    leave(back);
  }
  napi_value result = NULL;
  if (failed) fail(env, failed, error);
  else napi_create_string_utf8(env, text, length, &result);
  free(text);
  return result;
}

// Writes the whole text at once, as sysctls want it, into a file that exists; 0 or an errno.
static int write_file(const char *path, const char *text) {
  int fd = open_file(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  ssize_t put;
  do put = write(fd, text, strlen(text));
  while (put < 0 && errno == EINTR);
  int error = put < 0 ? errno : 0;
  close(fd);
  return error;
}

// writeFilesIn(namespaceFd | -1, [path, text, path, text ...]) -> [errno or 0 ...], in one visit
static napi_value WriteFilesIn(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t namespace;
  uint32_t length = 0;
  if (!int_argument(env, argument[0], &namespace)) return NULL;
  if (napi_get_array_length(env, argument[1], &length) != napi_ok || length % 2 != 0 || length > 2 * MAX_FILES) {
    napi_throw_type_error(env, NULL, "native call: expected an array of at most 32 paths, a text after each");
    return NULL;
  }
  // All strings are fetched before the visit: a call of JavaScript may not be made in between.
  char (*strings)[PATH_BYTES] = malloc((length ? length : 1) * sizeof *strings);
  if (!strings) return fail(env, "malloc", ENOMEM);
  for (uint32_t i = 0; i < length; i++) {
    napi_value string;
    napi_get_element(env, argument[1], i, &string);
    if (!text_argument(env, string, strings[i], sizeof strings[i], i % 2 ? "write" : "open")) {
      free(strings);
      return NULL;
    }
  }
  int errors[MAX_FILES];
  int back = enter(namespace), failed = back == -1 ? errno : 0;
  if (!failed) {
    for (uint32_t i = 0; i < length; i += 2) errors[i / 2] = write_file(strings[i], strings[i + 1]);
    leave(back);
  }
  free(strings);
  if (failed) return fail(env, "setns", failed);
  napi_value result;
  napi_create_array_with_length(env, length / 2, &result);
  for (uint32_t i = 0; i < length / 2; i++) napi_set_element(env, result, i, number(env, errors[i]));
  return result;
}

// flock(fd, operation) -> false where LOCK_NB found it taken
static napi_value Flock(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  int32_t fd, operation;
  if (!int_argument(env, argument[0], &fd) || !int_argument(env, argument[1], &operation)) return NULL;
  int result;
  do result = flock(fd, operation);
  while (result < 0 && errno == EINTR);
  if (result == 0) return boolean(env, true);
  return errno == EWOULDBLOCK ? boolean(env, false) : fail(env, "flock", errno);
}

// lockFile(path, operation) -> fd that holds the lock, or -1 where LOCK_NB found it taken. The file is made if missing.
static napi_value LockFile(napi_env env, napi_callback_info info) {
  ARGUMENTS(2)
  char path[PATH_BYTES];
  int32_t operation;
  if (!text_argument(env, argument[0], path, sizeof path, "open") || !int_argument(env, argument[1], &operation)) return NULL;
  for (;;) {
    int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail(env, "open", errno);
    int result;
    do result = flock(fd, operation);
    while (result < 0 && errno == EINTR);
    struct stat file;
    if (result == 0 && fstat(fd, &file) == 0 && file.st_nlink > 0) return number(env, fd);
    int saved = errno;
    close(fd);
    if (result == 0) continue; // somebody has removed it meanwhile: others lock its successor by now
    return saved == EWOULDBLOCK ? number(env, -1) : fail(env, "flock", saved);
  }
}

// modificationTime(path) -> nanoseconds as a bigint; undefined where there is nothing
static napi_value ModificationTime(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "stat")) return NULL;
  struct stat file;
  if (stat(path, &file) < 0) return errno == ENOENT ? NULL : fail(env, "stat", errno);
  napi_value result;
  napi_create_bigint_int64(env, file.st_mtim.tv_sec * INT64_C(1000000000) + file.st_mtim.tv_nsec, &result);
  return result;
}

// readLink(path) -> text of a symbolic link; undefined where there is none
static napi_value ReadLink(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES], text[PATH_BYTES];
  if (!text_argument(env, argument[0], path, sizeof path, "readlink")) return NULL;
  ssize_t length = readlink(path, text, sizeof text);
  // EINVAL: something else than a link.
  if (length < 0) return errno == ENOENT || errno == EINVAL ? NULL : fail(env, "readlink", errno);
  napi_value result;
  napi_create_string_utf8(env, text, (size_t)length, &result);
  return result;
}

// readText(path) -> all of a file, as UTF-8; undefined where there is none
static napi_value ReadText(napi_env env, napi_callback_info info) {
  ARGUMENTS(1)
  char path[PATH_BYTES], small[FILE_BYTES / 8];
  if (!text_argument(env, argument[0], path, sizeof path, "open")) return NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? NULL : fail(env, "open", errno);
  struct bytes text = {0};
  napi_value result = NULL;
  for (;;) {
    ssize_t got = read(fd, small, sizeof small);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 || !reserve(&text, (size_t)got)) {
      fail(env, "read", got < 0 ? errno : ENOMEM);
      break;
    }
    // One read tells all of a small file; the second one, that there is no more of it, is for the others.
    if (text.length == 0 && got < (ssize_t)sizeof small) {
      napi_create_string_utf8(env, small, (size_t)got, &result);
      break;
    }
    if (got == 0) {
      napi_create_string_utf8(env, (char *)text.data, text.length, &result);
      break;
    }
    memcpy(text.data + text.length, small, (size_t)got);
    text.length += (size_t)got;
  }
  close(fd);
  free(text.data);
  return result;
}
