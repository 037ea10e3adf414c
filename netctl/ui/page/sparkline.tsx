const width = 240;
const height = 36;

/** The last two minutes, the newest on the right; as high as the highest of them. */
export function Sparkline({ values }: { values: readonly number[] }) {
  if (values.length < 2) return null;
  const highest = Math.max(...values, 1);
  const step = width / (values.length - 1);
  const points = values.map(
    (value, index) => `${index * step},${height - (value / highest) * (height - 2) - 1}`,
  );
  return (
    <svg class="sparkline" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points.join(" ")} />
    </svg>
  );
}
