import { DecodeError } from "#netlink/decode-error.ts";

/**
 * The comment of a set element: userdata that the kernel keeps without looking at it, as type-length-value
 * entries of one byte each for type and length (libnftnl, include/libnftnl/udata.h).
 */

/** NFTNL_UDATA_SET_ELEM_COMMENT */
const commentType = 0;

/** NFTNL_UDATA_COMMENT_MAXLEN, with the terminating zero: nft shows no longer ones. */
export const maxCommentBytes = 128;

/** @throws {RangeError} longer than 127 bytes of UTF-8, or with a zero in it */
export function encodeComment(comment: string): Uint8Array {
  const text = Buffer.from(comment);
  if (text.length >= maxCommentBytes || text.includes(0)) {
    throw new RangeError(
      `Cannot use ${JSON.stringify(comment)} as comment: must be at most ${maxCommentBytes - 1} bytes without a zero`,
    );
  }
  return Uint8Array.of(commentType, text.length + 1, ...text, 0);
}

/** The comment, "" if there is none. @throws {DecodeError} entries that reach beyond the end */
export function decodeComment(userdata: Uint8Array): string {
  let at = 0;
  while (at < userdata.length) {
    const type = userdata[at] ?? 0;
    const length = userdata[at + 1];
    if (length === undefined || at + 2 + length > userdata.length) {
      throw new DecodeError(`userdata entry ${type} reaches beyond ${userdata.length} bytes`);
    }
    const value = userdata.subarray(at + 2, at + 2 + length);
    if (type === commentType) {
      const end = value.indexOf(0);
      return Buffer.from(end === -1 ? value : value.subarray(0, end)).toString();
    }
    at += 2 + length;
  }
  return "";
}
