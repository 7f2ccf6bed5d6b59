import { readFile } from 'node:fs/promises';
import { Failure, messageOf } from '../../kit/errors.ts';
import { messageDoneSchema, messageSentSchema, queuesAnswerSchema } from '../api/answers.ts';
import type { Client } from './client.ts';
import { appOf } from './configuration.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

interface QueueOptions {
  /** The app; undefined: that of the manifest in this folder. */
  readonly app?: string;
}

const pathOf = async (options: QueueOptions, queue: string): Promise<string> => `/apps/${encodeURIComponent(await appOf(options))}/queues/${encodeURIComponent(queue)}/messages`;

/** The message is what the file holds, or what comes by stdin. */
export async function sendMessage(queue: string, options: QueueOptions & { readonly file?: string; readonly type: string }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const body = await readMessage(options.file);
  const stream = (async function* () {
    yield body;
  })();
  const sent = await (await client()).send('POST', await pathOf(options, queue), messageSentSchema, { stream, headers: { 'content-type': options.type, 'content-length': `${body.byteLength}` } });
  terminal.tell(sent);
  terminal.say(`${sent.id} waits in ${sent.queue} for ${sent.app} at ${sent.site}.`);
}

async function readMessage(file: string | undefined): Promise<Buffer> {
  if (file !== undefined) {
    try {
      return await readFile(file);
    } catch (thrown) {
      throw new Failure('command-line', `${JSON.stringify(file)} cannot be read: ${messageOf(thrown)}`, { cause: thrown });
    }
  }
  const parts: Buffer[] = [];
  for await (const part of process.stdin as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts);
}

export async function listQueues(options: QueueOptions, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const app = await appOf(options);
  const answer = await (await client()).get(`/apps/${encodeURIComponent(app)}/queues`, queuesAnswerSchema);
  terminal.tell(answer);
  if (answer.queues.length === 0) terminal.say(`${app} has no queue: [[queue]] in edgepoint.toml gives it one.`);
  for (const { name, waiting, dead, messages } of answer.queues) {
    terminal.say(`${terminal.paint('bold', name)}  ${waiting} waiting, ${dead} put aside`);
    for (const { id, sentWallMs, attempts, bytes, reason, dead: aside, site } of messages) {
      const tried = attempts === 0 ? '' : `, tried ${attempts} times: ${harmless(reason)}`;
      terminal.say(`  ${id}  ${new Date(sentWallMs).toISOString()}  ${bytes} bytes at ${site}${aside ? terminal.paint('red', ', put aside') : ''}${tried}`);
    }
  }
}

export async function changeMessage(what: 'retry' | 'delete', words: { readonly queue: string; readonly id: string }, options: QueueOptions, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const path = `${await pathOf(options, words.queue)}/${encodeURIComponent(words.id)}`;
  const conduit = await client();
  terminal.tell(await (what === 'retry' ? conduit.send('POST', `${path}/retry`, messageDoneSchema) : conduit.send('DELETE', path, messageDoneSchema)));
  terminal.say(what === 'retry' ? `${words.id} is tried again.` : `${words.id} is deleted.`);
}
