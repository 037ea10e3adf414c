import {
  bodyBytes,
  decodeHeader,
  decodeRequest,
  headerBytes,
  ProtocolError,
  type Request,
  type RequestHeader,
} from "./protocol.ts";

/**
 * Puts a request together from the pieces in which it comes. Holds at most one whole request and one piece: what is
 * announced is within the protocol's limits, and memory is only touched as bytes come in.
 */
export class RequestReader {
  #header: RequestHeader | undefined;
  #bytes: Buffer = Buffer.alloc(0);
  #received = 0;

  /**
   * @param piece the caller's again after this call
   * @returns the request, with the piece that completes it
   * @throws {ProtocolError} for anything that is no request, and for what follows one
   */
  push(piece: Buffer): Request | undefined {
    if (!this.#header) {
      const bytes = this.#received === 0 ? piece : Buffer.concat([this.#bytes, piece]);
      this.#bytes = bytes;
      this.#received = bytes.length;
      if (bytes.length < headerBytes) {
        this.#bytes = Buffer.from(bytes);
        return undefined;
      }
      this.#header = decodeHeader(bytes);
      return this.#request(this.#header) ?? this.#makeRoom(this.#header);
    }
    const room = this.#bytes.length - this.#received;
    if (piece.length > room) throw tooLong(piece.length - room);
    piece.copy(this.#bytes, this.#received);
    this.#received += piece.length;
    return this.#request(this.#header);
  }

  #request(header: RequestHeader): Request | undefined {
    const missing = headerBytes + bodyBytes(header) - this.#received;
    if (missing < 0) throw tooLong(-missing);
    return missing === 0 ? decodeRequest(header, this.#bytes.subarray(headerBytes)) : undefined;
  }

  /** So that many small pieces cost no more than one large one. */
  #makeRoom(header: RequestHeader): undefined {
    const whole = Buffer.allocUnsafe(headerBytes + bodyBytes(header));
    this.#bytes.copy(whole);
    this.#bytes = whole;
  }
}

function tooLong(bytes: number): ProtocolError {
  return new ProtocolError(`Cannot read a request: ${bytes} bytes follow it`);
}
