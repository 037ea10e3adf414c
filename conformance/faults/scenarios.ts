import { callerGoneScenarios } from "./caller-gone.ts";
import { collectedScenarios } from "./collected.ts";
import { crowdScenarios } from "./crowd.ts";
import { failedScenarios } from "./failed.ts";
import { killedScenarios } from "./killed.ts";
import type { Scenario } from "./kit.ts";
import { pluginScenarios, pluginScenariosAlone } from "./plugins.ts";
import { raceScenarios } from "./race.ts";
import { recoveryScenarios } from "./recovery.ts";
import { socketFileScenarios } from "./socket-file.ts";
import { starvedScenarios } from "./starved.ts";
import { longStopScenarios, stoppedScenarios } from "./stopped.ts";
import { togetherScenarios } from "./together.ts";
import { tuggedScenarios } from "./tugged.ts";

/** Everything that is done to the suite within minutes. */
export const quickScenarios: readonly Scenario[] = [
  ...killedScenarios,
  ...pluginScenarios,
  ...collectedScenarios,
  ...failedScenarios,
  ...callerGoneScenarios,
  ...recoveryScenarios,
  ...stoppedScenarios,
  ...socketFileScenarios,
  ...starvedScenarios,
  ...raceScenarios,
  ...togetherScenarios,
  ...crowdScenarios,
  ...tuggedScenarios,
];

/** And everything. */
export const scenarios: readonly Scenario[] = [
  ...quickScenarios,
  ...pluginScenariosAlone,
  ...longStopScenarios,
];
