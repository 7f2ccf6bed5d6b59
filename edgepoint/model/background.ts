import { nsPerMs } from '../../kit/units.ts';

/** Between two looks at what an instance does by itself (`perf/background.ts`). */
export const lookMs = 250;
/** With less idle time than this an instance that works could be gone before it was looked at twice. */
export const seenWithinNs = 4 * lookMs * nsPerMs;
