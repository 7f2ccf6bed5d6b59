import { z } from 'zod';
import type { KeyPath } from './locate.ts';

export interface UnknownKey {
  readonly path: KeyPath;
  /** The keys that may stand in its place. */
  readonly known: readonly string[];
}

/** The keys of a value that its schema does not know, at every depth; the schema itself would drop them silently. */
export function unknownKeys(schema: z.core.$ZodType, value: unknown, path: KeyPath = []): UnknownKey[] {
  const inner = withoutDefaults(schema);
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    return value.flatMap((element, index) => unknownKeys(inner.element, element, [...path, index]));
  }
  if (!(inner instanceof z.ZodObject) || typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  const shape: Record<string, z.core.$ZodType> = inner.shape;
  const known = Object.keys(shape);
  return Object.entries(value).flatMap(([key, part]) => {
    const partSchema = Object.hasOwn(shape, key) ? shape[key] : undefined;
    return partSchema ? unknownKeys(partSchema, part, [...path, key]) : [{ path: [...path, key], known }];
  });
}

function withoutDefaults(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional || inner instanceof z.ZodNullable) {
    inner = inner.def.innerType;
  }
  return inner;
}
