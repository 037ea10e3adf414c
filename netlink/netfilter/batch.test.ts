import { describe, expect, it } from "vitest";
import { encodeRequests, messagesIn } from "#netlink/message.ts";
import { nftBatch } from "./batch.ts";
import { NetfilterFamily } from "./header.ts";
import { deleteElements } from "./set-element.ts";

const request = deleteElements("test", { family: NetfilterFamily.inet, table: "t", set: "s" }, []);

describe("nftBatch", () => {
  it("stands between the brackets that nft sends", () => {
    const [begin, own, end] = [...messagesIn(encodeRequests(nftBatch([request]), 1, 0))];
    // nft 1.0.6: type 16 and 17, nfgenmsg 00 00 000a, no acknowledgement asked for
    expect(begin).toMatchObject({ type: 0x10, flags: 1, body: Uint8Array.of(0, 0, 0, 10) });
    expect(end).toMatchObject({ type: 0x11, flags: 1, body: Uint8Array.of(0, 0, 0, 10) });
    expect(own).toMatchObject({ type: 2574, flags: 5 });
  });

  it("carries the generation that it was made for in network byte order", () => {
    const [begin] = nftBatch([request], 0x01020304);
    // NFNL_BATCH_GENID
    expect(Buffer.from(begin?.body ?? []).toString("hex")).toBe("0000000a0800010001020304");
  });
});
