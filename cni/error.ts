import { messageOf } from "./error-causes.ts";

/** Error codes of the CNI specification 1.1.0, section "Error"; 8 is in the reference code only. */
export const ErrorCode = {
  IncompatibleVersion: 1,
  UnsupportedField: 2,
  UnknownContainer: 3,
  InvalidEnvironment: 4,
  IoFailure: 5,
  DecodingFailure: 6,
  InvalidNetworkConfig: 7,
  InvalidNamespace: 8,
  TryAgainLater: 11,
  PluginNotAvailable: 50,
  LimitedConnectivity: 51,
  Internal: 999,
} as const;

/** 1-99 belong to the specification, 100 and up to a plugin: a delegate may answer with any number. */
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode] | (number & {});

/**
 * Codes for errors of the folders below, which know nothing of CNI, by the name of their class: this one table is
 * the border between the two.
 */
const codesByErrorName: Readonly<Record<string, ErrorCode>> = {
  IoError: ErrorCode.IoFailure,
  NamespaceError: ErrorCode.InvalidNamespace,
  LockTimeoutError: ErrorCode.TryAgainLater,
  AbortError: ErrorCode.TryAgainLater,
  TimeoutError: ErrorCode.TryAgainLater,
  ConflictError: ErrorCode.TryAgainLater,
  NftablesUnavailableError: ErrorCode.PluginNotAvailable,
};

export interface CniErrorOptions {
  readonly details?: string;
  readonly cause?: unknown;
}

/** Thrown anywhere below the plugin's door; `cni/skel.ts` prints it once, as the specification's error object. */
export class CniError extends Error {
  readonly code: ErrorCode;
  readonly details: string;

  constructor(code: ErrorCode, message: string, options: CniErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "CniError";
    this.code = code;
    this.details = options.details ?? "";
  }

  /**
   * The error itself; or any other thrown value as cause of one, with the code that the table above gives its kind,
   * else 999. An AggregateError, which collects what went wrong after a first error, keeps that one's code and text.
   */
  static from(thrown: unknown): CniError {
    if (thrown instanceof CniError) return thrown;
    const first: unknown = thrown instanceof AggregateError ? (thrown.cause ?? thrown.errors[0]) : undefined;
    if (first instanceof Error) {
      const { code, message, details } = CniError.from(first);
      return new CniError(code, message, { details, cause: thrown });
    }
    return new CniError(codeOf(thrown), messageOf(thrown), { cause: thrown });
  }
}

function codeOf(thrown: unknown): ErrorCode {
  const name = thrown instanceof Error ? thrown.name : "";
  return (Object.hasOwn(codesByErrorName, name) ? codesByErrorName[name] : undefined) ?? ErrorCode.Internal;
}
