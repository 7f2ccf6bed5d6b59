/** Ways of drawing random values in Node, each an expression; what an app may do before its snapshot and in each clone after it. */
export const nodeDraws: Readonly<Record<string, { readonly draw: string; readonly count: number }>> = {
  'crypto.randomUUID': { draw: `require('node:crypto').randomUUID()`, count: 10_000 },
  'crypto.randomUUID taken before': { draw: `(state.taken ??= require('node:crypto').randomUUID)()`, count: 100 },
  'WebCrypto randomUUID': { draw: `globalThis.crypto.randomUUID()`, count: 10_000 },
  'crypto.randomBytes': { draw: `require('node:crypto').randomBytes(16).toString('hex')`, count: 10_000 },
  'getRandomValues': { draw: `Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(16))).toString('hex')`, count: 10_000 },
  'crypto.randomInt': { draw: `require('node:crypto').randomInt(2 ** 47)`, count: 10_000 },
  'Math.random': { draw: `Math.random()`, count: 10_000 },
  'a key pair': { draw: `require('node:crypto').generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'der' }).toString('hex')`, count: 20 },
  'a key of WebCrypto, made in a thread': {
    draw: `Buffer.from(await globalThis.crypto.subtle.exportKey('raw', await globalThis.crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt']))).toString('hex')`,
    count: 50,
  },
  'randomBytes in a thread': { draw: `(await require('node:util').promisify(require('node:crypto').randomBytes)(16)).toString('hex')`, count: 200 },
  'a worker begun after the wake': {
    draw: `await new Promise((resolve, reject) => new (require('node:worker_threads').Worker)("require('node:worker_threads').parentPort.postMessage(require('node:crypto').randomBytes(16).toString('hex') + Math.random())", { eval: true }).once('message', resolve).once('error', reject))`,
    count: 2,
  },
  'a TLS session secret': {
    draw: `require('node:crypto').createDiffieHellmanGroup('modp14').generateKeys('hex')`,
    count: 2,
  },
};

/** Function body that draws `count` values. */
export function drawBody(draw: string, count: number): string {
  return `const values = []; for (let i = 0; i < ${count}; i += 1) values.push(${draw}); return values;`;
}

/** A runtime, how its draws are asked for, and what it draws. */
export interface Runtime {
  readonly name: string;
  readonly command: readonly string[];
  /** File of test/programs; absent: the server of app.ts. */
  readonly program?: string;
  readonly draws: typeof nodeDraws;
  body(draw: string, count: number): string;
}

const drawingOf = (draws: Readonly<Record<string, string>>, count = 10_000): typeof nodeDraws =>
  Object.fromEntries(Object.entries(draws).map(([name, draw]) => [name, { draw, count }]));

const pythonDraws = drawingOf({
  'secrets.token_hex': 'secrets.token_hex(16)',
  'uuid.uuid4': 'str(uuid.uuid4())',
  'uuid.uuid1': 'str(uuid.uuid1())',
  'random.random': 'random.random()',
  'random.getrandbits': 'random.getrandbits(128)',
  'random.sample': 'str(random.sample(range(10**9), 4))',
  'a Random of its own': 'random.__dict__.setdefault("own", random.Random()).random()',
  'OpenSSL': 'ssl.RAND_bytes(16).hex()',
});

const javaDraws = drawingOf({ SecureRandom: 'SecureRandom', 'UUID.randomUUID': 'UUID' });

/** Beside the base's Node. */
export const runtimes: readonly Runtime[] = [
  { name: 'Node 24', command: ['node24', 'server.js'], draws: nodeDraws, body: drawBody },
  { name: 'Node 26', command: ['node26', 'server.js'], draws: nodeDraws, body: drawBody },
  { name: 'Bun', command: ['bun', 'server.js'], draws: nodeDraws, body: drawBody },
  {
    name: 'Python and OpenSSL',
    command: ['python3', 'draws.py'],
    program: 'draws.py',
    draws: pythonDraws,
    body: (draw, count) => `return [${draw} for _ in range(${count})]`,
  },
  { name: 'Java', command: ['java', '-XX:+UseSerialGC', 'Draws.java'], program: 'Draws.java', draws: javaDraws, body: (draw, count) => `${draw} ${count}` },
];
