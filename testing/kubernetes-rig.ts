import { randomInt } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubernetesSettings } from "#engine/kubernetes/settings.ts";
import { TestKubernetesApi } from "./kubernetes-api.ts";
import { KubernetesServer, netctlNamespace } from "./kubernetes-server.ts";
import { LossyLink } from "./lossy-link.ts";
import type { Feature } from "./requires.ts";

/** What a test of the engine does with an API server, be it the fake or a real one. */
export interface KubernetesRig {
  /** With the rights of deploy/kubernetes. */
  readonly settings: KubernetesSettings;
  /** Those of a server that next carries out so many writes whose answers are lost. */
  losingAnswers(count: number): Promise<KubernetesSettings>;
  /** The server ends and is started again at once: watches end, and history is forgotten. */
  restart(): Promise<void>;
  /** Continuations of lists are forgotten. */
  compact(): Promise<void>;
  /** Deletes the custom resource definition, with all that is of it. @returns what applies it again */
  deleteKind(): Promise<() => Promise<void>>;
  /** Makes a copy of all there is. @returns what restores the server from it */
  copy(): Promise<() => Promise<void>>;
  /** A bearer token that is good until it is revoked. */
  token(): Promise<{ readonly text: string; readonly revoke: () => Promise<void> }>;
  /** Carries out two requests at a time from now on, and refuses what comes meanwhile; the fake refuses the next two. */
  beBusy(): Promise<void>;
  remove(): Promise<void>;
}

/** Each with what a machine needs for it. */
export const kubernetesRigs: readonly (readonly [
  name: string,
  needs: readonly Feature[],
  start: () => Promise<KubernetesRig>,
])[] = [
  ["a fake API server", [], startFake],
  ["a real API server", ["kube-apiserver"], startReal],
];

async function startFake(): Promise<KubernetesRig> {
  const api = await TestKubernetesApi.start();
  const settings = { server: api.url, namespace: netctlNamespace };
  let nextToken = 0;
  return {
    settings,
    losingAnswers: (count) => {
      api.loseAnswers(count);
      return Promise.resolve(settings);
    },
    restart: () => Promise.resolve(api.restart()),
    compact: () => Promise.resolve(api.compact()),
    deleteKind: () => {
      api.uninstall();
      return Promise.resolve(() => Promise.resolve(api.install()));
    },
    copy: () => Promise.resolve(api.copy()).then((restore) => () => Promise.resolve(restore())),
    token: () => {
      const text = `token-${nextToken++}`;
      api.tokens.add(text);
      const revoke = () => Promise.resolve(void api.tokens.delete(text));
      return Promise.resolve({ text, revoke });
    },
    beBusy: () => Promise.resolve(api.beBusy(2)),
    remove: async () => await api.stop(),
  };
}

async function startReal(): Promise<KubernetesRig> {
  // Of 127.0.0.0/8 one of sixteen million: whoever runs the same test beside this one has another.
  const address = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
  const server = await KubernetesServer.start({ address });
  const tokenFile = await server.tokenFile();
  const settings = { server: server.url, namespace: netctlNamespace, caFile: server.caFile, tokenFile };
  const links: LossyLink[] = [];
  let nextSecret = 0;
  return {
    settings,
    losingAnswers: async (count) => {
      const link = await LossyLink.open(server.url, readFileSync(server.caFile));
      links.push(link);
      link.lose("reply", count);
      return { ...settings, server: link.url };
    },
    restart: async () => {
      await server.killServer();
      await server.startServer();
    },
    compact: async () => await server.compact(),
    deleteKind: async () => {
      await server.kubectl("delete", "crd", "entries.netctl.io");
      return async () => await server.install();
    },
    copy: async () => await server.copy(),
    token: async () => {
      const secret = `bound-${nextSecret++}`;
      await server.kubectl("-n", netctlNamespace, "create", "secret", "generic", secret);
      const text = await server.token(secret);
      const revoke = async () => {
        await server.kubectl("-n", netctlNamespace, "delete", "secret", secret);
      };
      return { text, revoke };
    },
    beBusy: async () => {
      await server.killServer();
      const limits = ["--max-requests-inflight", "1", "--max-mutating-requests-inflight", "1"];
      await server.startServer([...limits, "--feature-gates", "APIPriorityAndFairness=false"]);
    },
    remove: async () => {
      for (const link of links) link.close();
      await server.remove();
    },
  };
}

/** A token as kubelet projects it: what it was before is replaced by turning over a symbolic link. */
export class TokenFile {
  readonly #directory = mkdtempSync(join(tmpdir(), "netctl-token-"));
  #count = 0;

  constructor(text: string) {
    this.write(text);
    symlinkSync("..data/token", this.path);
  }

  get path(): string {
    return join(this.#directory, "token");
  }

  write(text: string): void {
    const name = `..${this.#count++}`;
    mkdirSync(join(this.#directory, name));
    writeFileSync(join(this.#directory, name, "token"), text, { mode: 0o600 });
    symlinkSync(name, join(this.#directory, "..data_tmp"));
    renameSync(join(this.#directory, "..data_tmp"), join(this.#directory, "..data"));
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}
