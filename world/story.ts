import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../kit/errors.ts';
import { formatMs } from '../kit/units.ts';
import type { World } from './start.ts';
import { tellStory } from './story/chapters.ts';
import { showLiveStatus } from './story/live-status.ts';
import { openCommandLine } from './story/command-line.ts';

/**
 * What `npm start` shows once the world is up: the main job on a real application, each sentence with what was measured just now.
 * True when all of it was as it should be.
 */
export async function runStory(world: World, say: (line: string) => void): Promise<boolean> {
  const { conduitUrl, dataFolder } = world.describe();
  const provider = 'acme';
  const token = await world.newProvider(provider);
  const homeFolder = join(dataFolder, 'provider');
  mkdirSync(homeFolder, { recursive: true });
  const conduit = openCommandLine({ conduitUrl, token, homeFolder, say });
  const failures: string[] = [];
  const startedMs = performance.now();
  try {
    await tellStory({
      world,
      conduit,
      conduitUrl,
      token,
      say,
      check: (holds, sentence) => {
        say(`  ${holds ? 'ok' : 'NOT OK'}  ${sentence}`);
        if (!holds) failures.push(sentence);
      },
    });
  } catch (thrown) {
    failures.push(messageOf(thrown));
    say(`  NOT OK  ${messageOf(thrown)}`);
  }
  say('');
  say(failures.length === 0 ? `All of it was as it should be, in ${formatMs(performance.now() - startedMs)}.` : `Not as it should be: ${failures.join('; ')}`);
  if (failures.length > 0) return false;
  sayHowToGoOn(world, token, say);
  void showLiveStatus({ conduitUrl, token, say });
  return true;
}

function sayHowToGoOn(world: World, token: string, say: (line: string) => void): void {
  const { conduitUrl, edgepoints } = world.describe();
  const [first] = edgepoints;
  say('');
  say('Deploy an application of your own, from its folder, in another terminal:');
  say(`  export CONDUIT_URL=${conduitUrl} CONDUIT_TOKEN=${token}`);
  say('  npm run conduit -- init FOLDER && npm run conduit -- deploy FOLDER');
  say(`  curl --resolve APP.edge.test:80:${first?.ipv4 ?? ''} http://APP.edge.test/`);
  say(`The page with all apps: ${conduitUrl}/ (sign in with that token)`);
  say('');
  say('Live:');
}
