/** Of the suite, as package.json has it. */
export const suiteVersion = "0.1.0";
