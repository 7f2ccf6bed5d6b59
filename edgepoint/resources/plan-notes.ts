import type { Plan, Step } from './plan/view.ts';

/** What was planned for an app at one moment, for `explain`. */
export interface PlanNote {
  readonly bootNs: number;
  readonly steps: readonly Step[];
  readonly notes: readonly string[];
}

const notesMax = 20;
const linesMax = 50;

/** The last plans of each app that said anything; what is only said again is not kept again. */
export class PlanNotes {
  private readonly byApp = new Map<string, PlanNote[]>();

  add(app: string, plan: Plan, bootNs: number): void {
    if (plan.steps.length === 0 && plan.notes.length === 0) return;
    const kept = this.byApp.get(app) ?? [];
    const last = kept.at(-1);
    const note = { bootNs, steps: plan.steps.slice(0, linesMax), notes: plan.notes.slice(0, linesMax) };
    if (last !== undefined && note.steps.length + last.steps.length === 0 && last.notes.join() === note.notes.join()) return;
    kept.push(note);
    if (kept.length > notesMax) kept.shift();
    this.byApp.set(app, kept);
  }

  forget(app: string): void {
    this.byApp.delete(app);
  }

  all(): Record<string, readonly PlanNote[]> {
    return Object.fromEntries(this.byApp);
  }
}
