import { expect, test } from "vitest";
import { formatIp } from "./ip.ts";
import { linkLocalOf } from "./link-local.ts";
import { parseMac } from "./mac.ts";

test("the address is that of RFC 4291 appendix A", () => {
  expect(formatIp(linkLocalOf(parseMac("34:56:78:9a:bc:de")))).toBe("fe80::3656:78ff:fe9a:bcde");
  expect(formatIp(linkLocalOf(parseMac("02:00:00:00:00:01")))).toBe("fe80::ff:fe00:1");
});
