import { readBundle, readPid } from "./bundle.ts";
import type { Container } from "./container.ts";
import { optionOf, type Supervisor } from "./supervisor.ts";

/** The containers of podman and of CRI-O, each of which has a conmon: conmon(8) has its options. */
export function listConmonContainers(supervisors: readonly Supervisor[]): readonly Container[] {
  return supervisors
    .filter(({ kind }) => kind === "conmon")
    .flatMap((supervisor) => {
      const id = optionOf(supervisor, "-c", "--cid");
      const directory = optionOf(supervisor, "-b", "--bundle");
      const pidFile = optionOf(supervisor, "-p", "--container-pidfile", "--pidfile");
      const pid = pidFile === undefined ? undefined : readPid(pidFile);
      if (id === undefined || pid === undefined) return [];
      const annotations = (directory === undefined ? undefined : readBundle(directory)?.annotations) ?? {};
      const pod = annotations["io.kubernetes.pod.name"];
      if (pod === undefined)
        return [{ runtime: "podman", id, pid, name: optionOf(supervisor, "-n", "--name") ?? id }];
      const container = annotations["io.kubernetes.container.name"];
      return [
        {
          runtime: "cri-o",
          id,
          pid,
          pod: `${annotations["io.kubernetes.pod.namespace"] ?? "default"}/${pod}`,
          name: container === undefined || container === "POD" ? pod : container,
        },
      ];
    });
}
