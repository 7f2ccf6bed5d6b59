/** Units stand last in a name (`memoryBytes`, `idleMs`, `cpuNs`, `priceMicros`); these turn one into another and into text. */
export const nsPerMs = 1_000_000;
export const nsPerSecond = 1_000_000_000;
export const bytesPerMebibyte = 1024 * 1024;
export const bytesPerGibibyte = 1024 * bytesPerMebibyte;
/** Money is counted in micros: a millionth of the operator's currency. */
export const microsPerUnit = 1_000_000;

/** `12.3 MiB`, for people. */
export function formatBytes(bytes: number): string {
  const steps = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1024 && step < steps.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${step === 0 ? value : value.toFixed(1)} ${steps[step]}`;
}

/** `23.4 ms`, `1.2 s`, `3 min 4 s`, for people. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${ms.toFixed(ms < 100 ? 1 : 0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
