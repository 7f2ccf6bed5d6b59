import { runDispatcher } from '../../edgepoint/dispatcher.ts';

await runDispatcher(process.argv.slice(2));
process.exit(0);
