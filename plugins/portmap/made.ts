import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, int, ip, oneOf, textList } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { protocols } from "#nftables/field.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import type { Attachment } from "./attachment.ts";

const port = int({ min: 1, max: 65535 });

const schema = goObject({
  published: v.array(
    goObject({
      protocol: oneOf(protocols),
      hostIp: v.optional(ip),
      /** The first and the last; the latter is absent where it is the same. */
      hostPort: port,
      lastHostPort: v.optional(port),
      containerIp: ip,
      containerPort: port,
    }),
  ),
  routed: v.optional(
    v.array(goObject({ containerIp: ip, protocol: oneOf(protocols), port, lastPort: v.optional(port) })),
    [],
  ),
  hairpin: v.array(cidr),
  masqueradeAll: v.boolean(),
  backend: oneOf(["nftables", "iptables"]),
  conditionsV4: textList,
  conditionsV6: textList,
  markMasqBit: int({ min: 0, max: 31 }),
  externalSetMarkChain: v.exactOptional(v.string()),
});

/**
 * What the journal keeps of an attachment: enough to take everything away when configuration and result are gone.
 * Written before anything is made, so all of it may be missing.
 */
export type Made = Omit<Attachment, "key">;

export function encodeMade(made: Made): JsonObject {
  const { published, routed, hairpin, masqueradeAll, backend, conditions, setMark } = made;
  return {
    published: published.map(
      ({ protocol, hostIp, hostPorts: { first, last }, container, containerPort }) => ({
        protocol,
        ...(hostIp ? { hostIp: formatIp(hostIp) } : {}),
        hostPort: first,
        ...(last === first ? {} : { lastHostPort: last }),
        containerIp: formatIp(container),
        containerPort,
      }),
    ),
    ...(routed.length === 0
      ? {}
      : {
          routed: routed.map(({ container, protocol, ports: { first, last } }) => ({
            containerIp: formatIp(container),
            protocol,
            port: first,
            ...(last === first ? {} : { lastPort: last }),
          })),
        }),
    hairpin: hairpin.map(formatCidr),
    masqueradeAll,
    backend,
    conditionsV4: conditions[4],
    conditionsV6: conditions[6],
    ...setMark,
  };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  if (!success) return undefined;
  const published = output.published.map(
    ({ protocol, hostIp, hostPort, lastHostPort, containerIp, containerPort }): PublishedPorts => ({
      protocol,
      hostIp,
      hostPorts: { first: hostPort, last: lastHostPort ?? hostPort },
      container: containerIp,
      containerPort,
    }),
  );
  const { hairpin, masqueradeAll, backend, conditionsV4, conditionsV6, ...setMark } = output;
  return {
    published,
    routed: output.routed.map(({ containerIp, protocol, port, lastPort }) => ({
      container: containerIp,
      protocol,
      ports: { first: port, last: lastPort ?? port },
    })),
    hairpin,
    masqueradeAll,
    backend,
    conditions: { 4: conditionsV4, 6: conditionsV6 },
    setMark: {
      markMasqBit: setMark.markMasqBit,
      ...(setMark.externalSetMarkChain === undefined
        ? {}
        : { externalSetMarkChain: setMark.externalSetMarkChain }),
    },
  };
}
