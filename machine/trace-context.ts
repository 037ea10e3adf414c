type Environment = Readonly<Record<string, string | undefined>>;

/** The fields of a log line that tie it to a trace, as OpenTelemetry names them outside of OTLP. */
export interface TraceFields {
  /** 32 hex digits. */
  readonly trace_id: string;
  /** 16 hex digits: the span of who called. Nothing here makes spans of its own. */
  readonly span_id: string;
  /** Two hex digits; 01 where the caller records the trace. */
  readonly trace_flags: string;
  /** As it came; absent where there is none. */
  readonly trace_state?: string;
}

/** version "-" trace-id "-" parent-id "-" trace-flags; later versions may go on after a further "-". */
const pattern =
  /^(?<version>[\da-f]{2})-(?<trace>[\da-f]{32})-(?<parent>[\da-f]{16})-(?<flags>[\da-f]{2})(?<more>-.*)?$/;
const maxStateLength = 512;

/**
 * What TRACEPARENT and TRACESTATE of a call say; undefined where there is no valid TRACEPARENT, and TRACESTATE means
 * nothing then either.
 * @see https://www.w3.org/TR/trace-context/#traceparent-header-field-values
 * @see https://opentelemetry.io/docs/specs/otel/context/env-carriers/
 */
export function traceFields(environment: Environment): TraceFields | undefined {
  const { version, trace, parent, flags, more } =
    pattern.exec(environment["TRACEPARENT"]?.trim() ?? "")?.groups ?? {};
  if (trace === undefined || parent === undefined || flags === undefined) return undefined;
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (/^0+$/.test(trace) || /^0+$/.test(parent)) return undefined;
  const state = environment["TRACESTATE"]?.trim();
  return {
    trace_id: trace,
    span_id: parent,
    trace_flags: flags,
    ...(state && state.length <= maxStateLength ? { trace_state: state } : {}),
  };
}
