import { describe, expect, it } from "vitest";
import { traceFields } from "./trace-context.ts";

const trace = "0af7651916cd43dd8448eb211c80319c";
const span = "b7ad6b7169203331";

describe("traceFields()", () => {
  it("reads TRACEPARENT and TRACESTATE", () => {
    const fields = { trace_id: trace, span_id: span, trace_flags: "01" };
    expect(traceFields({ TRACEPARENT: `00-${trace}-${span}-01` })).toEqual(fields);
    expect(traceFields({ TRACEPARENT: ` 00-${trace}-${span}-01\n`, TRACESTATE: "a=1,b=2" })).toEqual({
      ...fields,
      trace_state: "a=1,b=2",
    });
  });

  it("takes what later versions append, and nothing behind version 00", () => {
    expect(traceFields({ TRACEPARENT: `cc-${trace}-${span}-00-more` })).toMatchObject({ trace_id: trace });
    expect(traceFields({ TRACEPARENT: `00-${trace}-${span}-00-more` })).toBeUndefined();
  });

  it.each([
    ["nothing", undefined],
    ["an empty one", ""],
    ["version ff", `ff-${trace}-${span}-01`],
    ["a trace of zeros", `00-${"0".repeat(32)}-${span}-01`],
    ["a span of zeros", `00-${trace}-${"0".repeat(16)}-01`],
    ["capitals", `00-${trace.toUpperCase()}-${span}-01`],
    ["too few digits", `00-${trace.slice(1)}-${span}-01`],
    ["a line of JSON", '"}\n{"level":"fatal"'],
  ])("passes over %s, and its TRACESTATE", (_, value) => {
    expect(traceFields({ TRACEPARENT: value, TRACESTATE: "a=1" })).toBeUndefined();
  });
});
