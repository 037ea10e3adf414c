import { errnoMeaning, errnoName } from "./errno.ts";

export interface NetlinkErrorDetails {
  /** Positive. */
  readonly errno: number;
  /** What was attempted, as it reads after "Cannot": `create link "br0"`. */
  readonly op: string;
  /** The kernel's own words (NLMSGERR_ATTR_MSG), where it has some. */
  readonly kernelMessage?: string | undefined;
  /** Where in the request the offending attribute starts (NLMSGERR_ATTR_OFFS), in bytes from its header. */
  readonly offset?: number | undefined;
  /** Which of the requests sent together failed. */
  readonly index?: number | undefined;
  /** Those of them that took effect: the kernel goes on after a failed one, except in an nf_tables batch. */
  readonly succeeded?: readonly number[] | undefined;
  readonly cause?: unknown;
}

/** The kernel refused a request. Callers ask `error.errno === Errno.EEXIST`, never the text. */
export class NetlinkError extends Error {
  readonly errno: number;
  /** "EEXIST" */
  readonly code: string;
  readonly op: string;
  readonly kernelMessage: string | undefined;
  readonly offset: number | undefined;
  readonly index: number;
  readonly succeeded: readonly number[];

  constructor(details: NetlinkErrorDetails) {
    const code = errnoName(details.errno);
    const reason = details.kernelMessage || errnoMeaning(details.errno);
    super(
      `Cannot ${details.op}: ${reason} (${code})`,
      details.cause === undefined ? {} : { cause: details.cause },
    );
    this.name = "NetlinkError";
    this.errno = details.errno;
    this.code = code;
    this.op = details.op;
    this.kernelMessage = details.kernelMessage;
    this.offset = details.offset;
    this.index = details.index ?? 0;
    this.succeeded = details.succeeded ?? [];
  }
}

/** Whether the kernel refused with one of these: `isNetlinkError(error, Errno.ENODEV, Errno.ENOENT)`; any, if none. */
export function isNetlinkError(error: unknown, ...errnos: readonly number[]): error is NetlinkError {
  return error instanceof NetlinkError && (errnos.length === 0 || errnos.includes(error.errno));
}
