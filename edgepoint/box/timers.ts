import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesField, imageEntries, imageOf, numberField, numberOf, readFields, withFields, writeFields } from './criu-image.ts';

/**
 * CRIU restores two kinds of timerfd (timerfd_create(2)) wrongly, without a word, so a dump's image of them is mended (decision 100):
 *
 * - one that repeats, has expired and was not read yet. The kernel stops it until it is read and says that 0 is left of its time, which
 *   CRIU restores as what 0 means when a timer is set: never again. 1 ns instead: it is due at once, as it was.
 * - one that was set for a moment (TFD_TIMER_ABSTIME). CRIU adds the seconds of the clock to the time that was left and forgets the
 *   fraction, so it comes up to a second early. Set for a duration instead it comes when it should.
 */
export interface Timerfd {
  readonly ticks: number;
  readonly settimeFlags: number;
  readonly leftSeconds: number;
  readonly leftNs: number;
  readonly intervalSeconds: number;
  readonly intervalNs: number;
}

/** <sys/timerfd.h> */
const absolute = 1;
/** Only meaningful with `absolute`: such a timer is left as it is. */
const cancelOnSet = 2;

/** The timer as CRIU must be told of it, or null when it is right as it is. */
export function mendTimerfd(timer: Timerfd): Timerfd | null {
  const repeats = timer.intervalSeconds !== 0 || timer.intervalNs !== 0;
  const nothingLeft = timer.leftSeconds === 0 && timer.leftNs === 0;
  const due = repeats && nothingLeft && timer.ticks > 0;
  const moment = (timer.settimeFlags & absolute) !== 0 && (timer.settimeFlags & cancelOnSet) === 0;
  if (!due && !moment) return null;
  return { ...timer, leftNs: due ? 1 : timer.leftNs, settimeFlags: moment ? timer.settimeFlags - absolute : timer.settimeFlags };
}

/** Fields of CRIU's file_entry (images/fdinfo.proto) and timerfd_entry (images/timerfd.proto). */
const file = { type: 1, timerfd: 12 } as const;
const timerfdType = 17;
const field = { ticks: 5, settimeFlags: 6, leftSeconds: 7, leftNs: 8, intervalSeconds: 9, intervalNs: 10 } as const;

/** The image of a dump's open files with its timers mended, or null when there is nothing to mend. */
export function mendFilesImage(image: Uint8Array): Uint8Array | null {
  const messages = imageEntries(image);
  const mended = messages.map((message) => mendFile(message) ?? message);
  return mended.some((message, index) => message !== messages[index]) ? imageOf(image, mended) : null;
}

function mendFile(message: Uint8Array): Uint8Array | null {
  const fields = readFields(message);
  const entry = fields.find((each) => each.number === file.timerfd)?.bytes;
  if (!entry || numberOf(fields, file.type) !== timerfdType) return null;
  const timerFields = readFields(entry);
  const timer = Object.fromEntries(Object.entries(field).map(([name, number]) => [name, numberOf(timerFields, number) ?? 0])) as unknown as Timerfd;
  const mended = mendTimerfd(timer);
  if (mended === null) return null;
  const changed = withFields(timerFields, [numberField(field.leftNs, mended.leftNs), numberField(field.settimeFlags, mended.settimeFlags)]);
  return writeFields(withFields(fields, [bytesField(file.timerfd, writeFields(changed))]));
}

/** Mends the timers of a dump that has just succeeded. Repeatable. */
export function mendTimers(imagesFolder: string): void {
  const path = join(imagesFolder, 'files.img');
  const mended = mendFilesImage(readFileSync(path));
  if (mended !== null) writeFileSync(path, mended);
}
