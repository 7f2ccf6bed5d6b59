import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { referenceText } from './reference.ts';

writeFileSync(join(import.meta.dirname, '../../docs/guide/manifest.md'), referenceText());
