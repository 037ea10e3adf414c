// Writes hosts that do not exist into an etcd, with a block and names each: fill.mjs URL NETWORK SUBNET HOSTS NAMES
const [url, network, subnet, hostsText, namesText] = process.argv.slice(2);
const base = "/netctl/v1/default/";
const text = (value) => Buffer.from(value).toString("base64");
const [a, b] = subnet.split(".").map(Number);

async function write(puts) {
  for (let at = 0; at < puts.length; at += 100) {
    const success = puts.slice(at, at + 100).map(([key, value]) => ({
      request_put: { key: text(base + key), value: text(JSON.stringify(value)) },
    }));
    const answer = await fetch(`${url}/v3/kv/txn`, { method: "POST", body: JSON.stringify({ success }) });
    if (!answer.ok) throw new Error(await answer.text());
  }
}

const taken = await fetch(`${url}/v3/kv/range`, {
  method: "POST",
  body: JSON.stringify({
    key: text(`${base}block/`),
    range_end: text(`${base}block0`),
    keys_only: true,
  }),
});
const { kvs = [] } = await taken.json();
const keys = new Set(kvs.map(({ key }) => Buffer.from(key, "base64").toString().slice(base.length)));

const puts = [];
let block = 0;
for (let host = 0; host < Number(hostsText); host++) {
  const id = `f${String(host).padStart(15, "0")}`;
  const underlay = `10.77.${host >> 8}.${host & 255}`;
  let key;
  let address;
  do {
    const hex = Buffer.from([a, b, block >> 2, (block & 3) * 64]).toString("hex");
    address = `${a}.${b}.${block >> 2}.${(block & 3) * 64}`;
    key = `block/${network}/4/${hex}-26`;
    block++;
  } while (keys.has(key));
  puts.push(
    [`host/${id}`, { v: 1, id, name: `f${host}`, underlay: { v4: underlay }, mtu: 1500, state: "active" }],
    [key, { v: 1, cidr: `${address}/26`, host: id, nonce: "0".repeat(12) }],
  );
  const first = Number(address.split(".")[3]);
  for (let name = 0; name < Number(namesText); name++) {
    const ip = address.replace(/\d+$/, String(first + 2 + name));
    puts.push([
      `name/${network}/${id}/${String(name).padStart(26, "0")}`,
      { v: 1, names: [`c${host}-${name}`, `${id}${name}`.slice(-12)], addresses: [`${ip}/26`] },
    ]);
  }
}
await write(puts);
