import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { isIPv4 } from 'node:net';
import type { Test } from 'tap';
import { wireName } from '../global-dispatcher/messages.ts';

const types = { A: 1, CNAME: 5, TXT: 16, AAAA: 28 } as const;

/** What a name has; a test changes it as an owner of a domain changes records. */
export interface Records {
  cname?: string;
  a?: readonly string[];
  txt?: readonly string[];
}

/** A resolver as an authority or a conduit asks one: names of the zone it asks the global dispatcher for, all others are in a table. */
export interface TestResolver {
  /** ADDRESS:PORT, UDP. */
  readonly address: string;
  readonly records: Map<string, Records>;
}

/** `zoneServer` gives the address of the global dispatcher, at each question about the zone. */
export async function openResolver(t: Test, zoneName: string, zoneServer: () => string): Promise<TestResolver> {
  const socket = createSocket('udp4');
  const records = new Map<string, Records>();
  // Whom the zone's server does not answer is not answered here.
  socket.on('message', (query, from) => void answer(query, from).catch(() => undefined));
  const answer = async (query: Buffer, from: RemoteInfo): Promise<void> => {
    const name = nameOf(query);
    const type = query.readUInt16BE(name.end);
    const reply = isOf(name.text, zoneName) ? await forward(query, zoneServer()) : await fromTable(query, name, type);
    socket.send(reply, from.port, from.address);
  };
  const fromTable = async (query: Buffer, name: { text: string; end: number }, type: number): Promise<Buffer> => {
    const found = records.get(name.text);
    const answers: Buffer[] = [];
    if (found?.cname !== undefined) {
      answers.push(record(name.text, types.CNAME, Buffer.from(wireName(found.cname))));
      // As a resolver does, the address behind it too.
      if (type === types.A && isOf(found.cname, zoneName)) for (const address of await addressesOf(found.cname, zoneServer())) answers.push(record(found.cname, types.A, ipv4Bytes(address)));
    }
    if (type === types.A) for (const address of found?.a ?? []) answers.push(record(name.text, types.A, ipv4Bytes(address)));
    if (type === types.TXT) for (const text of found?.txt ?? []) answers.push(record(name.text, types.TXT, Buffer.from([text.length, ...Buffer.from(text)])));
    return response(query, name.end, found === undefined ? 3 : 0, answers);
  };
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.teardown(() => socket.close());
  return { address: `127.0.0.1:${socket.address().port}`, records };
}

const isOf = (name: string, zone: string): boolean => name === zone || name.endsWith(`.${zone}`);
const ipv4Bytes = (address: string): Buffer => {
  if (!isIPv4(address)) throw new Error(`${address} is no IPv4 address`);
  return Buffer.from(address.split('.').map(Number));
};

function nameOf(query: Buffer): { text: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length !== 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length).toLowerCase());
    at += 1 + length;
  }
  return { text: labels.join('.'), end: at + 1 };
}

function record(owner: string, type: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([Buffer.from(wireName(owner)), fixed, data]);
}

function response(query: Buffer, questionEnd: number, rcode: number, answers: readonly Buffer[]): Buffer {
  const head = Buffer.from(query.subarray(0, questionEnd + 4));
  head.writeUInt16BE(0x8180 | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers.length, 6);
  head.writeUInt32BE(0, 8);
  return Buffer.concat([head, ...answers]);
}

function forward(query: Buffer, server: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv4(server) ? 'udp4' : 'udp6');
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error(`${server} does not answer`));
    }, 4_000);
    socket.on('message', (reply) => {
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    });
    socket.send(query, 53, server);
  });
}

/** Ours are simple: each record of an answer points at its question. */
async function addressesOf(name: string, server: string): Promise<string[]> {
  const question = Buffer.concat([Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.from(wireName(name)), Buffer.from([0, types.A, 0, 1])]);
  const reply = await forward(question, server);
  return Array.from({ length: reply.readUInt16BE(6) }, (_, index) => [...reply.subarray(question.length + 16 * index + 12, question.length + 16 * index + 16)].join('.'));
}
