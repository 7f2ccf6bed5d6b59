import { availableParallelism } from 'node:os';
import type { Clock } from '../../kit/clock.ts';
import { type InstanceCgroup, readCpuNs, setBehindOthers } from '../box/cgroup.ts';
import { type Credit, type CreditLimits, fullCredit, limitsOf, nextCredit } from './processor-credit.ts';

/** Lets instances that use the processor all the time go behind the others (processor-credit.ts decides), while any run. */
export interface Courtesy {
  /** One that has just been started, or was found running: it goes ahead. Again for the same name: it begins anew. */
  follow(instance: string, cgroup: InstanceCgroup, offering: { readonly cpuMillis: number }): void;
  forget(instance: string): void;
}

interface Followed {
  readonly cgroup: InstanceCgroup;
  readonly limits: CreditLimits;
  credit: Credit;
}

/** Between two looks: a file of a few bytes for each running instance. */
const lookMs = 200;

export function openCourtesy(options: { readonly clock: Clock; readonly note: (text: string, fields: Record<string, unknown>) => void; readonly onChange?: (behind: number) => void }): Courtesy {
  const followed = new Map<string, Followed>();
  const processors = availableParallelism();
  let timer: ReturnType<typeof setInterval> | undefined;

  const seen = (cgroup: InstanceCgroup): { cpuNs: number; bootNs: number } => ({ cpuNs: readCpuNs(cgroup), bootNs: options.clock.bootNs() });
  const tellChange = (): void => options.onChange?.([...followed.values()].filter(({ credit }) => credit.mode === 'behind').length);

  function look(instance: string, one: Followed): void {
    const { mode } = one.credit;
    const { credit, reason } = nextCredit(one.credit, one.limits, seen(one.cgroup));
    one.credit = credit;
    if (credit.mode === mode || !setBehindOthers(one.cgroup, credit.mode === 'behind')) return;
    options.note(credit.mode === 'behind' ? 'others go before an instance' : 'an instance goes with the others again', { instance, reason });
    tellChange();
  }

  function setTimer(): void {
    if (followed.size > 0) {
      timer ??= setInterval(() => {
        for (const [instance, one] of followed) look(instance, one);
      }, lookMs);
    } else if (timer) timer = void clearInterval(timer);
  }

  return {
    follow(instance, cgroup, offering) {
      const limits = limitsOf({ cpuMillis: offering.cpuMillis, processors });
      followed.set(instance, { cgroup, limits, credit: fullCredit(limits, seen(cgroup)) });
      setBehindOthers(cgroup, false);
      setTimer();
    },
    forget(instance) {
      if (!followed.delete(instance)) return;
      setTimer();
      tellChange();
    },
  };
}
