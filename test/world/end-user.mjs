/**
 * An end user in a network namespace, for tests of own addresses: reads commands on stdin, one JSON object a line, and answers each on
 * stdout by its id. Nothing is ever sent twice, so what is lost is seen.
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const open = new Map();

/** Connects, and reads the line that the server greets with. */
function greet({ host, port, timeoutMs = 10_000 }) {
  return new Promise((resolve) => {
    const fromMs = performance.now();
    const socket = connect({ host, port });
    let text = '';
    const end = (result) => {
      clearTimeout(timer);
      socket.removeAllListeners('data');
      resolve({ ...result, ms: performance.now() - fromMs, local: socket.localAddress, localPort: socket.localPort, socket });
    };
    const timer = setTimeout(() => end({ error: 'time-out' }), timeoutMs);
    socket.on('error', (error) => end({ error: error.code }));
    socket.on('data', (bytes) => {
      text += bytes.toString();
      if (text.includes('\n')) end({ line: text.trim() });
    });
  });
}

const withoutSocket = ({ line, error, ms, local, localPort }) => ({ line, error, ms, local, localPort });

/** One datagram from a socket of its own, and its answer. */
function ask({ host, port, text, timeoutMs = 10_000 }) {
  return new Promise((resolve) => {
    const fromMs = performance.now();
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const end = (result) => {
      clearTimeout(timer);
      const { port: localPort } = socket.address();
      socket.close();
      resolve({ ...result, localPort, ms: performance.now() - fromMs });
    };
    const timer = setTimeout(() => end({ error: 'time-out' }), timeoutMs);
    socket.on('message', (bytes) => end({ line: bytes.toString() }));
    socket.on('error', (error) => end({ error: error.code }));
    socket.connect(port, host, () => socket.send(text));
  });
}

const commands = {
  /** `count` connections at once; each is closed when it was greeted. */
  async tcp({ count = 1, ...to }) {
    const all = await Promise.all(Array.from({ length: count }, () => greet(to)));
    for (const { socket } of all) socket.destroy();
    return all.map(withoutSocket);
  },
  async hold({ name, ...to }) {
    const greeted = await greet(to);
    greeted.socket.on('error', () => undefined);
    open.set(name, greeted.socket);
    return withoutSocket(greeted);
  },
  /** Sends on a held connection; the echo, or what came in its place. */
  send({ name, text, timeoutMs = 5000 }) {
    const socket = open.get(name);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve('time-out'), timeoutMs);
      const end = (what) => {
        clearTimeout(timer);
        resolve(what);
      };
      socket.once('data', (bytes) => end(bytes.toString()));
      socket.once('close', () => end('closed'));
      socket.write(text);
    });
  },
  close({ name }) {
    open.get(name)?.end();
    open.delete(name);
    return null;
  },
  udp: ({ count = 1, ...to }) => Promise.all(Array.from({ length: count }, () => ask(to))),
  /** Sends so many bytes and reads their echo; how many came back. */
  async echo({ bytes, ...to }) {
    const { socket, error } = await greet(to);
    if (error !== undefined) return error;
    const block = Buffer.alloc(256 * 1024, 'x');
    return new Promise((resolve) => {
      let back = 0;
      socket.on('data', (chunk) => {
        back += chunk.length;
        if (back === bytes) socket.end();
      });
      socket.on('close', () => resolve(back));
      let sent = 0;
      const more = () => {
        while (sent < bytes) {
          const part = block.subarray(0, Math.min(block.length, bytes - sent));
          sent += part.length;
          if (!socket.write(part)) return void socket.once('drain', more);
        }
      };
      more();
    });
  },
  /** Many datagrams and connections that nobody waits for. */
  async flood({ host, tcpPort, udpPort, count }) {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const sockets = [];
    for (let at = 0; at < count; at += 1) {
      socket.send('flood', udpPort, host);
      const half = connect({ host, port: tcpPort });
      half.on('error', () => undefined);
      sockets.push(half);
      if (at % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (const half of sockets) half.destroy();
    socket.close();
    return null;
  },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, command, ...about } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ id, result: await commands[command](about) })}\n`);
});
