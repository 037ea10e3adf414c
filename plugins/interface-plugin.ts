import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest, CheckRequest, DelRequest, GcRequest, StatusRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { cniVersions, newestVersion } from "#cni/version.ts";
import { IpamDelegate, ipamType } from "#ipam/delegate.ts";
import type { JournalRecord } from "#journal/record.ts";
import { LinkExistsError } from "#kernel/link-error.ts";
import { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { parseIfName } from "#net/ifname.ts";
import { collectAttachments } from "./collect-attachments.ts";
import type { PluginHost } from "./context.ts";
import { Attempts, type Departing, describeRecord, describeRequest, intact } from "./departing.ts";
import { withCniErrors } from "./failure.ts";
import { refuseLayer2InOldVersion } from "./interface-arguments.ts";
import type { Addition, InterfaceConfig, InterfaceDriver, Making } from "./interface-driver.ts";
import { checkedInterface } from "./interface-problems.ts";
import { asksThroughInterface } from "./ip-configuration.ts";
import { reportConnected, reportDisconnected } from "./network-events.ts";
import { adoptOrClear, interfaceExists, recordedConfig } from "./repeated-add.ts";
import type { SuitePlugin } from "./upkeep.ts";

/**
 * The plugin of a driver. An ADD goes: configuration, plan, intent on disk, interface, addresses, configuration of the
 * interface, completion; a failure takes all of it back. DEL and GC go by the record, and without one by what the
 * request tells.
 */
export function interfacePlugin<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
): SuitePlugin {
  return {
    name: driver.name,
    versions: cniVersions,
    hostNamespace: "refused",
    ...(driver.upkeep ? { upkeep: driver.upkeep } : {}),
    add: (request, host) => withCniErrors(() => add(driver, request, host)),
    del: (request, host) => withCniErrors(() => del(driver, request, host)),
    check: (request, host) => withCniErrors(() => check(driver, request, host)),
    gc: (request, host) => withCniErrors(() => gc(driver, request, host)),
    status: (request, host) => withCniErrors(() => status(driver, request, host)),
  };
}

function keyOf({ config, containerId, ifName }: AddRequest | CheckRequest | DelRequest) {
  return { network: config.name, containerId, ifName };
}

function madeIn<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  record: JournalRecord | undefined,
): Made | undefined {
  const recorded = intact(record);
  return recorded && driver.decodeMade(recorded.made);
}

async function add<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  request: AddRequest,
  host: PluginHost,
): Promise<CniResult> {
  const config = driver.parse(request.config, request.args);
  if (!request.config.prevResult) refuseLayer2InOldVersion(request, config.ipamType);
  const key = keyOf(request);
  const ifName = parseIfName(request.ifName);
  const container = host.kernel.open(request.netns);
  try {
    const standing = await adoptOrClear(host.journal.read(key, driver.name), {
      ifName,
      container,
      request,
      host,
      check: (repetition) => check(driver, repetition, host),
      remove: (record) => remove(driver, describeRecord(record, request), host),
    });
    if (standing) return standing;
    return await attach(driver, { config, key, ifName, container, request, host });
  } catch (error) {
    if (error instanceof LinkExistsError && error.namespace === container && error.linkName === ifName) {
      throw interfaceExists(ifName, error);
    }
    throw error;
  } finally {
    container.close();
  }
}

async function attach<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  addition: Addition<Config>,
): Promise<CniResult> {
  const { config, key, request, host } = addition;
  const planned = await driver.plan(addition);
  const ipam = new IpamDelegate(host.runner);
  return await Undo.run(async (undo) => {
    const entry = await host.journal.begin(
      {
        key,
        plugin: driver.name,
        netns: request.netns,
        config: recordedConfig(request),
        args: request.args,
        made: driver.encodeMade(planned),
      },
      { durable: await ipam.isForeign(request) },
    );
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) entry.remove();
    });
    let isAnswered = false;
    const giveBack = async () => {
      if (isAnswered) await ipam.del(request);
    };
    const what = `addresses of IPAM plugin ${config.ipamType}`;
    const isFirst = asksThroughInterface(config.ipamType);
    // Taken back after the interface: whoever gets the addresses next must not meet their last owner.
    if (!isFirst) undo.push(what, giveBack);
    const making: { -readonly [K in keyof Making<Config, Made>]: Making<Config, Made>[K] } = {
      ...addition,
      made: planned,
      undo,
      amend(made) {
        entry.amend(driver.encodeMade(made));
        making.made = made;
      },
    };
    await driver.connect(making);
    crashPoint("interface-connected");
    if (isFirst) undo.push(what, giveBack);
    request.signal.throwIfAborted();
    const answer = await ipam.add(request);
    isAnswered = answer !== undefined;
    crashPoint("ipam-answered");
    request.signal.throwIfAborted();
    const result = await driver.configure(making, answer);
    request.signal.throwIfAborted();
    entry.complete(encodeResult(result, newestVersion));
    reportConnected(key, result, host);
    return result;
  });
}

/** @throws {CniError} 999 with everything that is not as it should be */
async function check<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  request: CheckRequest,
  host: PluginHost,
): Promise<void> {
  const config = driver.parse(request.config, request.args);
  await new IpamDelegate(host.runner).check(request);
  const key = keyOf(request);
  const checked = checkedInterface(request);
  const container = host.kernel.open(request.netns);
  try {
    const problems = await driver.problems({
      config,
      key,
      ifName: parseIfName(request.ifName),
      container,
      request,
      host,
      made: madeIn(driver, host.journal.read(key, driver.name)),
      checked,
    });
    if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
  } finally {
    container.close();
  }
}

async function del<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  request: DelRequest,
  host: PluginHost,
): Promise<void> {
  await remove(driver, describeRequest(host.journal.read(keyOf(request), driver.name), request), host);
}

async function gc<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  request: GcRequest,
  host: PluginHost,
): Promise<void> {
  const steps = driver.sweep?.(host);
  await collectAttachments(request, host, {
    plugin: driver.name,
    remove: (departing) => remove(driver, departing, host),
    ...(steps ? { sweep: steps } : {}),
  });
}

/**
 * Takes everything away that belongs to the attachment. What is gone already is fine; what can't be removed does not
 * keep the rest. The record goes last, and only if nothing is left, so that it can be tried again.
 * @throws {CniError} with all that went wrong
 */
async function remove<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  departing: Departing,
  host: PluginHost,
): Promise<void> {
  const { key, record, release } = departing;
  const attempts = new Attempts();
  if (record?.phase === "done") host.journal.leave(key, driver.name);
  const steps = [
    () => driver.remove(departing, madeIn(driver, record), host),
    () => new IpamDelegate(host.runner).del(release),
  ];
  if (asksThroughInterface(typeOf(release))) steps.reverse();
  for (const step of steps) await attempts.attempt(step);
  crashPoint("interface-and-addresses-removed");
  if (attempts.errors.length === 0) await attempts.attempt(() => host.journal.remove(key, driver.name));
  attempts.throwIfAny(key);
  // One that is gone already, or never came to be, can't leave.
  if (record !== undefined && record.phase !== "intent") reportDisconnected(key, host);
}

function typeOf(release: DelRequest): string | undefined {
  try {
    return ipamType(release.config.json);
  } catch {
    // The delegate says what is wrong with it.
    return undefined;
  }
}

async function status<Config extends InterfaceConfig, Made>(
  driver: InterfaceDriver<Config, Made>,
  request: StatusRequest,
  host: PluginHost,
): Promise<void> {
  const config = driver.parse(request.config);
  try {
    await driver.status(config, host, request);
  } catch (cause) {
    if (cause instanceof CniError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(ErrorCode.PluginNotAvailable, message, { cause });
  }
  await new IpamDelegate(host.runner).status(request);
}
