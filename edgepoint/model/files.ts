import type { fileNames } from '../../kit/wire/manifest.ts';

/** What a name in braces stands for; a name that is not known here, or not yet, stays as it is. */
export type FileValues = Readonly<Partial<Record<(typeof fileNames)[number], string>>>;

/** Those of which each instance has its own value. */
const ownNames = ['instance', 'address', 'peers'] as const;

/** Whether the text stands for something else in each instance. */
export function differsByInstance(text: string): boolean {
  return ownNames.some((name) => text.includes(`{${name}}`));
}

/** The text with `{name}` replaced by its value. Only names with a value are touched, so it may be done in two steps. */
export function fillText(text: string, values: FileValues): string {
  return text.replace(/\{([a-z]+)\}/g, (whole, name: string) => (Object.hasOwn(values, name) ? (values[name as keyof FileValues] ?? whole) : whole));
}
