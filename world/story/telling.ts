import type { World } from '../start.ts';
import type { CommandLine } from './command-line.ts';

/** What every chapter of the story needs. */
export interface Telling {
  readonly world: World;
  readonly conduit: CommandLine;
  readonly conduitUrl: string;
  readonly token: string;
  readonly say: (line: string) => void;
  /** Says whether something is as it should be, and remembers when it is not. */
  readonly check: (holds: boolean, sentence: string) => void;
}
