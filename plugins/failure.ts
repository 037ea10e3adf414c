import { CniError, ErrorCode } from "#cni/error.ts";
import { NameServiceError } from "#dns-resolver/registry.ts";
import { RouteExistsError } from "#kernel/host-route.ts";
import { DuplicateAddressError } from "#kernel/interface.ts";
import {
  BridgeFullError,
  LinkExistsError,
  NotABridgeError,
  ParentRefusedError,
  UnsupportedByKernelError,
} from "#kernel/link-error.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { WaitTimeoutError } from "#kernel/wait.ts";
import { IoError } from "#machine/io-error.ts";
import { LockTimeoutError } from "#machine/lock.ts";
import { ConflictError, NftablesUnavailableError } from "#nftables/error.ts";
import { ProgramError } from "#nftables/program.ts";

type ErrorClass = abstract new (...args: never[]) => Error;

/** What an error of the folders below means to a container runtime. */
const codes: readonly (readonly [type: ErrorClass, code: ErrorCode])[] = [
  [NotABridgeError, ErrorCode.InvalidNetworkConfig],
  [ParentRefusedError, ErrorCode.InvalidNetworkConfig],
  [RouteExistsError, ErrorCode.InvalidNetworkConfig],
  [DuplicateAddressError, ErrorCode.InvalidNetworkConfig],
  [ConflictError, ErrorCode.InvalidNetworkConfig],
  [LinkExistsError, ErrorCode.InvalidEnvironment],
  [NamespaceError, ErrorCode.InvalidNamespace],
  [IoError, ErrorCode.IoFailure],
  [LockTimeoutError, ErrorCode.TryAgainLater],
  [BridgeFullError, ErrorCode.TryAgainLater],
  [WaitTimeoutError, ErrorCode.TryAgainLater],
  [NftablesUnavailableError, ErrorCode.PluginNotAvailable],
  [ProgramError, ErrorCode.PluginNotAvailable],
  [UnsupportedByKernelError, ErrorCode.PluginNotAvailable],
  [NameServiceError, ErrorCode.PluginNotAvailable],
];

/** What another moment may have again. */
const exhaustion = {
  EMFILE: ErrorCode.TryAgainLater,
  ENFILE: ErrorCode.TryAgainLater,
  ENOMEM: ErrorCode.TryAgainLater,
  ENOBUFS: ErrorCode.TryAgainLater,
} as const;

/** The same for what the kernel or the file system answered: NetlinkError, SysctlError and Node's own errors have it. */
const codesByErrno: Readonly<Record<string, ErrorCode>> = {
  EROFS: ErrorCode.IoFailure,
  ENOSPC: ErrorCode.IoFailure,
  EDQUOT: ErrorCode.IoFailure,
  EIO: ErrorCode.IoFailure,
  // Of an address or a route that the configuration asks for.
  EADDRNOTAVAIL: ErrorCode.InvalidNetworkConfig,
  ENETUNREACH: ErrorCode.InvalidNetworkConfig,
  EHOSTUNREACH: ErrorCode.InvalidNetworkConfig,
  EPERM: ErrorCode.PluginNotAvailable,
  EOPNOTSUPP: ErrorCode.PluginNotAvailable,
  EPROTONOSUPPORT: ErrorCode.PluginNotAvailable,
  EAFNOSUPPORT: ErrorCode.PluginNotAvailable,
  ...exhaustion,
};

/**
 * The CNI error for whatever a verb has thrown: its message, under the code that its cause has in the specification's
 * table; 999 for what nobody expected. What could not be taken back after it stays attached as its cause.
 */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  if (thrown instanceof AggregateError) {
    const first = toCniError(thrown.cause ?? thrown.errors[0]);
    return new CniError(first.code, first.message, { details: first.details, cause: thrown });
  }
  if (!(thrown instanceof Error)) return CniError.from(thrown);
  const code = codeOf(thrown);
  return code === undefined ? CniError.from(thrown) : new CniError(code, thrown.message, { cause: thrown });
}

function codeOf(error: Error): ErrorCode | undefined {
  if (error.name === "AbortError") return ErrorCode.TryAgainLater;
  // A namespace that could not be opened for want of descriptors is a good one.
  if (error instanceof NamespaceError && errnoOf(error.cause) in exhaustion) return ErrorCode.TryAgainLater;
  const row = codes.find(([type]) => error instanceof type);
  if (row) return row[1];
  const errno = errnoOf(error);
  return Object.hasOwn(codesByErrno, errno) ? codesByErrno[errno] : undefined;
}

function errnoOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** Runs a verb, with every error as a CNI error. */
export async function withCniErrors<Value>(verb: () => Promise<Value>): Promise<Value> {
  try {
    return await verb();
  } catch (error) {
    throw toCniError(error);
  }
}
