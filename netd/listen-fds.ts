type Environment = Readonly<Record<string, string | undefined>>;

/** SD_LISTEN_FDS_START */
const firstFd = 3;

/** What the units in deploy/systemd call the socket (FileDescriptorName=). */
const socketName = "netd";

/**
 * The socket that systemd has opened for this process, by the protocol of sd_listen_fds(3): the only one, or that of
 * several which is named "netd".
 * @throws {RangeError} where there are several, and none of that name
 */
export function listenFd(environment: Environment, pid: number): number | undefined {
  if (environment["LISTEN_PID"] !== String(pid)) return undefined;
  const text = environment["LISTEN_FDS"] ?? "";
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (count === 0) return undefined;
  if (count === 1) return firstFd;
  const names = (environment["LISTEN_FDNAMES"] ?? "").split(":");
  const index = names.indexOf(socketName);
  if (index >= 0 && index < count) return firstFd + index;
  throw new RangeError(
    `Cannot choose one of ${count} sockets: LISTEN_FDNAMES "${names.join(":")}" has none called "${socketName}"`,
  );
}
