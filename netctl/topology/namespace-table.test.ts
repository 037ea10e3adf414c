import { expect, test } from "vitest";
import { mountedFiles } from "./namespace-table.ts";

test("mountedFiles() takes the network namespaces, whatever is in their names", () => {
  const text = `22 1 0:20 / / rw - ext4 /dev/vda rw
50 42 0:4 net:[4026532673] /run/netns/blue rw shared:7 - nsfs nsfs rw
51 42 0:4 mnt:[4026532742] /run/other/mounts rw shared:8 - nsfs nsfs rw
52 42 0:4 net:[4026532743] /run/netns/with\\040space rw - nsfs nsfs rw
`;
  expect(mountedFiles(text)).toEqual(["/run/netns/blue", "/run/netns/with space"]);
});
