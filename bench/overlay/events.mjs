// Lets hosts that do not exist do something, one after the other: events.mjs URL NETWORK SUBNET join|rename COUNT PAUSE-MS
// "join": a host comes with a block, and goes again. "rename": a container gets another name.
const [url, network, subnet, kind, countText, pauseText] = process.argv.slice(2);
const base = "/netctl/v1/default/";
const text = (value) => Buffer.from(value).toString("base64");
const [a, b] = subnet.split(".").map(Number);

async function transact(success) {
  const answer = await fetch(`${url}/v3/kv/txn`, { method: "POST", body: JSON.stringify({ success }) });
  if (!answer.ok) throw new Error(await answer.text());
}
const put = (key, value) => ({
  request_put: { key: text(base + key), value: text(JSON.stringify(value)) },
});
const remove = (key) => ({ request_delete_range: { key: text(base + key) } });
const pause = () => new Promise((resolve) => setTimeout(resolve, Number(pauseText)));

for (let at = 0; at < Number(countText); at++) {
  if (kind === "rename") {
    const host = `f${String(at % 1000).padStart(15, "0")}`;
    const key = `name/${network}/${host}/${"0".repeat(26)}`;
    await transact([put(key, { v: 1, names: [`again${at}`], addresses: [`${a}.${b}.250.${at % 200}/26`] })]);
    await pause();
    continue;
  }
  const id = `e${String(at).padStart(15, "0")}`;
  const keys = [`host/${id}`, `block/${network}/4/${Buffer.from([a, b, 255, 192]).toString("hex")}-26`];
  const underlay = { v4: `10.78.${at >> 8}.${at & 255}` };
  await transact([
    put(keys[0], { v: 1, id, name: `e${at}`, underlay, mtu: 1500, state: "active" }),
    put(keys[1], { v: 1, cidr: `${a}.${b}.255.192/26`, host: id, nonce: "0".repeat(12) }),
  ]);
  await pause();
  await transact(keys.map(remove));
  await pause();
}
