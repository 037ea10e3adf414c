// Arguments, results and errors of the addon's calls.

// ---------------------------------------------------------------------------------------------------------- errors

// strerrorname_np is glibc's alone; these are the numbers that the kernel's network code answers with.
static const char *error_name(int number) {
  switch (number) {
#define NAME(name) case name: return #name;
    NAME(EPERM) NAME(ENOENT) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(E2BIG) NAME(EBADF) NAME(EAGAIN) NAME(ENOMEM)
    NAME(EACCES) NAME(EFAULT) NAME(EBUSY) NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR)
    NAME(EINVAL) NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(EFBIG) NAME(ENOSPC) NAME(EROFS) NAME(EMLINK)
    NAME(ERANGE) NAME(ENAMETOOLONG) NAME(ENOLCK) NAME(ENOSYS) NAME(ELOOP) NAME(ENOTSOCK) NAME(EMSGSIZE)
    NAME(EPROTONOSUPPORT) NAME(ESOCKTNOSUPPORT) NAME(EOPNOTSUPP) NAME(EAFNOSUPPORT) NAME(EADDRINUSE)
    NAME(EADDRNOTAVAIL) NAME(ENETDOWN) NAME(ENETUNREACH) NAME(ENOBUFS) NAME(ENOTCONN) NAME(ETIMEDOUT)
    NAME(ECONNREFUSED) NAME(EUSERS) NAME(EOVERFLOW)
#undef NAME
    default: return NULL;
  }
}

// Error with `errno` (positive), `code` ("ENOENT") and `syscall`, the shape of Node's own, and with text like theirs.
static napi_value make_error(napi_env env, const char *call, int number) {
  char text[256], unnamed[16];
  const char *name = error_name(number);
  if (!name) {
    snprintf(unnamed, sizeof unnamed, "E%d", number);
    name = unnamed;
  }
  snprintf(text, sizeof text, "%s: %s, %s", name, strerror(number), call);
  napi_value message, code, syscall, value, error;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &syscall);
  napi_create_int32(env, number, &value);
  napi_create_error(env, code, message, &error);
  napi_set_named_property(env, error, "errno", value);
  napi_set_named_property(env, error, "syscall", syscall);
  return error;
}

static napi_value fail(napi_env env, const char *call, int number) {
  napi_throw(env, make_error(env, call, number));
  return NULL;
}

// ------------------------------------------------------------------------------------------------------- arguments

#define PATH_BYTES 4096
#define FILE_BYTES (64 << 10)
#define MAX_FILES 32

static bool int_argument(napi_env env, napi_value value, int32_t *into) {
  if (napi_get_value_int32(env, value, into) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "native call: expected a number");
  return false;
}

static bool bytes_argument(napi_env env, napi_value value, uint8_t **data, size_t *length) {
  napi_typedarray_type type;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is &&
      napi_get_typedarray_info(env, value, &type, length, (void **)data, NULL, NULL) == napi_ok && type == napi_uint8_array)
    return true;
  napi_throw_type_error(env, NULL, "native call: expected a Uint8Array");
  return false;
}

static bool text_argument(napi_env env, napi_value value, char *into, size_t size, const char *call) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    napi_throw_type_error(env, NULL, "native call: expected a string");
    return false;
  }
  if (length >= size) {
    fail(env, call, ENAMETOOLONG);
    return false;
  }
  napi_get_value_string_utf8(env, value, into, size, &length);
  if (strlen(into) != length) {
    fail(env, call, EINVAL);
    return false;
  }
  return true;
}

#define ARGUMENTS(n)                                                              \
  napi_value argument[n];                                                         \
  size_t count = n;                                                               \
  napi_get_cb_info(env, info, &count, argument, NULL, NULL);                      \
  if (count < n) {                                                                \
    napi_throw_type_error(env, NULL, "native call: too few arguments");           \
    return NULL;                                                                  \
  }

static napi_value number(napi_env env, int32_t value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static napi_value boolean(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}
