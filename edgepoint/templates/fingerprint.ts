/** What a snapshot stands on: recorded when it is taken, compared before it is restored. */
export interface Fingerprint {
  readonly architecture: string;
  /** Instruction sets a program may have chosen its code by, sorted. */
  readonly cpuFeatures: readonly string[];
  /** The kernel's release, `6.12.48-amd64`. */
  readonly kernel: string;
  /** CRIU's version, `4.2.1`. */
  readonly criu: string;
  /** Names the content of the base root. */
  readonly baseRoot: string;
  /** Names the sources of edgepoint-box. */
  readonly box: string;
  /** The processor's maker: each lays the saved registers out in its own way. Absent in snapshots of earlier versions. */
  readonly cpuVendor?: string | undefined;
  /** Names the clone guard as it was compiled, which processes have mapped. Absent in snapshots of earlier versions. */
  readonly guard?: string | undefined;
}

/** Of the flags in /proc/cpuinfo, those of instructions that programs use; the others are the kernel's business or tell of defects. */
const instructionSet =
  /^(mmx|sse|ssse|pni$|avx|fma|f16c|bmi|adx|abm|popcnt|movbe|aes|vaes|pclmul|vpclmul|sha_ni|sha512|sm3|sm4|gfni|rdrand|rdseed|rdtscp|rdpid|cx8|cx16|cmov|fsgsbase|erms|fsrm|lahf_lm|xsave|pku|ospke|rtm|hle|clflush|clwb|movdir|prefetchw|3dnow|amx|serialize|waitpkg|umip|lzcnt|tbm|xop|syscall|lm$)/;

/** From the text of /proc/cpuinfo; every processor of a machine has the same. */
export function cpuFeaturesOf(cpuinfo: string): string[] {
  const flags = /^flags\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? '';
  return flags.split(' ').filter((flag) => instructionSet.test(flag)).toSorted();
}

/** From the same text; empty where it does not say. */
export function cpuVendorOf(cpuinfo: string): string {
  return /^vendor_id\s*:\s*(\S+)/m.exec(cpuinfo)?.[1] ?? '';
}

/**
 * Why a snapshot that stands on `taken` cannot be restored where `here` holds; empty when it can. A kept snapshot is its app's state,
 * so it is tried also with another build of the box, which is all that an upgrade of the edgepoint changes.
 */
export function whyNotRestorable(taken: Fingerprint, here: Fingerprint, about: { readonly continues: boolean }): string[] {
  const reasons: string[] = [];
  if (taken.architecture !== here.architecture) reasons.push(`it was taken on ${taken.architecture} and this is ${here.architecture}`);
  const have = new Set(here.cpuFeatures);
  const missing = taken.cpuFeatures.filter((feature) => !have.has(feature));
  if (missing.length > 0) reasons.push(`it was taken with processor features that are missing here: ${missing.join(', ')}`);
  if (differs(taken.cpuVendor, here.cpuVendor)) reasons.push(`it was taken on a processor of ${taken.cpuVendor} and this is one of ${here.cpuVendor}`);
  if (isOlder(here.kernel, taken.kernel, 2)) reasons.push(`it was taken on Linux ${taken.kernel} and this is the older ${here.kernel}`);
  if (isOlder(here.criu, taken.criu, 3)) reasons.push(`it was taken by CRIU ${taken.criu} and this is the older ${here.criu}`);
  if (taken.baseRoot !== here.baseRoot) reasons.push(`it was taken on another base root (${shortened(taken.baseRoot)}) than is here (${shortened(here.baseRoot)})`);
  if (!about.continues && taken.box !== here.box) reasons.push(`it was taken in a box of another build (${taken.box}) than is made here (${here.box})`);
  if (!about.continues && differs(taken.guard, here.guard)) reasons.push('it was taken with a clone guard of another build than is here');
  return reasons;
}

/** What is not known does not differ. */
const differs = (one: string | undefined, other: string | undefined): boolean => one !== undefined && other !== undefined && one !== other;

const shortened = (digest: string): string => digest.slice(0, 12);

/** Compares the first so many numbers of two versions; what follows them (a build, a distribution) says nothing of age. */
function isOlder(one: string, other: string, numbers: number): boolean {
  const numbersOf = (version: string): number[] => (version.match(/\d+/g) ?? []).slice(0, numbers).map(Number);
  const [these, those] = [numbersOf(one), numbersOf(other)];
  for (let place = 0; place < numbers; place += 1) {
    const difference = (these[place] ?? 0) - (those[place] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
