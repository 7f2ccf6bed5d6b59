import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { codeOf, messageOf } from '../kit/errors.ts';
import type { ClientPlace } from './plan.ts';
import type { World } from './start.ts';

interface Request {
  readonly id: number;
  readonly call: string;
  readonly with?: Record<string, unknown>;
}

/**
 * Tests run on Node and the world on Bun: a world held by another process answers one JSON line for each JSON line on its stdin,
 * `{"id":1,"call":"newProvider","with":{"name":"ada"}}` -> `{"id":1,"result":"..."}` or `{"id":1,"error":{"code","message"}}`.
 * Returns when stdin closes.
 */
export async function answerRequests(world: World, input: Readable, answer: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input })) {
    if (line.trim() === '') continue;
    const request = JSON.parse(line) as Request;
    void answerOne(world, request).then((value) => answer(JSON.stringify({ id: request.id, ...value })));
  }
}

async function answerOne(world: World, request: Request): Promise<object> {
  try {
    return { result: await calls(world, request) };
  } catch (thrown) {
    return { error: { code: codeOf(thrown), message: messageOf(thrown) } };
  }
}

async function calls(world: World, request: Request): Promise<unknown> {
  const given = request.with ?? {};
  const text = (name: string): string => String(given[name] ?? '');
  switch (request.call) {
    case 'describe':
      return world.describe();
    case 'newProvider':
      return world.newProvider(text('name'));
    case 'addClient':
      return world.addClient(text('name'), text('place') as ClientPlace);
    case 'runIn':
      return world.runIn(text('netns'), given['argv'] as string[]);
    case 'kill':
      return world.kill(text('name'), text('signal') as NodeJS.Signals);
    default:
      throw new Error(`a world has no call ${JSON.stringify(request.call)}`);
  }
}
