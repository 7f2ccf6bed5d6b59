/** Run by Bun: the daemon its first argument names, with the rest as its arguments. */
import { runRestored } from '../../edgepoint/restored.ts';
import { runSnapd } from '../../edgepoint/snapd.ts';

const [name = '', ...argv] = process.argv.slice(2);
await (name === 'restored' ? runRestored(argv) : runSnapd(argv));
