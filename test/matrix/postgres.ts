import type { Socket } from 'node:net';

/**
 * As much of PostgreSQL's protocol, version 3, as a test needs: one simple query, whose first column comes back.
 * (PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Formats".)
 */
export async function query(socket: Socket, sql: string): Promise<string[]> {
  const startup = Buffer.from('\0\0\0\0\0\x03\0\0user\0postgres\0database\0postgres\0\0', 'latin1');
  startup.writeInt32BE(startup.length);
  socket.write(startup);
  const text = Buffer.from(`${sql}\0`);
  const asked = Buffer.alloc(5);
  asked.write('Q');
  asked.writeInt32BE(text.length + 4, 1);
  const rows: string[] = [];
  let ready = 0;
  for await (const { kind, body } of messages(socket)) {
    if (kind === 'E') throw new Error(body.toString().replaceAll('\0', ' '));
    if (kind === 'D') rows.push(body.subarray(6, 6 + body.readInt32BE(2)).toString());
    if (kind !== 'Z') continue;
    ready += 1;
    if (ready === 1) socket.write(Buffer.concat([asked, text]));
    else break;
  }
  socket.destroy();
  if (ready < 2) throw new Error('the connection ended before the answer');
  return rows;
}

async function* messages(socket: Socket): AsyncGenerator<{ kind: string; body: Buffer }> {
  let held = Buffer.alloc(0);
  for await (const part of socket) {
    held = Buffer.concat([held, part as Buffer]);
    while (held.length >= 5 && held.length > held.readInt32BE(1)) {
      const end = 1 + held.readInt32BE(1);
      yield { kind: String.fromCharCode(held[0] ?? 0), body: held.subarray(5, end) };
      held = held.subarray(end);
    }
  }
}
