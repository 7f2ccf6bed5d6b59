'use strict';
/*
 * Loaded first by every Node and Bun of an instance (NODE_OPTIONS, BUN_OPTIONS), so that two clones of one template never draw the
 * same values. What OpenSSL draws is renewed by clone-guard.c; here is what JavaScript keeps in memory of its own: the UUIDs drawn in
 * advance, and the state of Math.random. `generation` is a number that each boot and each restore changes (clone-guard.c).
 */
const crypto = require('node:crypto');

/** @returns {{ generation: ArrayBuffer, (): void } | null} clone-guard.c as a module; null outside an instance */
function loadAddon() {
  const addon = { exports: {} };
  try {
    process.dlopen(addon, require('node:path').join(__dirname, 'clone-guard.so'));
    return typeof addon.exports === 'function' ? addon.exports : null;
  } catch {
    return null; // a runtime without Node-API: its own random generators stay as they are
  }
}

function replace(holder, name, work) {
  Object.defineProperty(holder, name, { ...Object.getOwnPropertyDescriptor(holder, name), value: { [name]: (...given) => work(...given) }[name] });
}

/** Version 4, RFC 9562 section 5.4 */
function freshUuid() {
  const bytes = crypto.randomBytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const giveBackMemory = loadAddon();
const generation = giveBackMemory === null ? null : new Uint32Array(giveBackMemory.generation);

if (generation !== null) {
  /* snapd asks by this signal before it takes a template, and waits until nobody listens to it any more (settle.ts). */
  if (require('node:worker_threads').isMainThread) {
    const settle = () => {
      globalThis.Bun?.gc(true);
      giveBackMemory();
      process.off('SIGPWR', settle);
    };
    process.on('SIGPWR', settle);
  }

  /* For the app: a text that changes with each restore. */
  Object.defineProperty(process, Symbol.for('edgepoint.generation'), { get: () => `${generation[0]}-${generation[1]}` });

  /* Node draws 128 UUIDs in advance unless told not to; Bun always draws some, and small random arrays, in advance. */
  const uuidOf = crypto.randomUUID;
  const drawUuid = process.versions.bun ? freshUuid : (options) => uuidOf({ ...options, disableEntropyCache: true });
  crypto.randomUUID = function randomUUID(options) {
    return drawUuid(options);
  };
  const web = globalThis.crypto ?? crypto.webcrypto;
  replace(Object.getPrototypeOf(web), 'randomUUID', () => drawUuid());
  if (process.versions.bun) {
    const { getRandomValues } = web;
    replace(Object.getPrototypeOf(web), 'getRandomValues', (array) => {
      getRandomValues.call(web, array); // refuses what may not be filled
      return crypto.randomFillSync(array);
    });
    crypto.getRandomValues = (array) => web.getRandomValues(array);
  }

  /* Node draws 1024 integers in advance which are thrown away after a restore. */
  const drawInteger = crypto.randomInt;
  let drawn = '';
  crypto.randomInt = function randomInt(...bounds) {
    const now = `${generation[0]}-${generation[1]}`;
    if (drawn !== now) {
      if (drawn !== '') for (let stale = 0; stale < 1024; stale += 1) drawInteger(2 ** 47);
      drawn = now;
    }
    return drawInteger.apply(this, bounds);
  };
  require('node:module').syncBuiltinESMExports?.();

  /* sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state, one of them a counter, seeded anew in each generation. */
  const state = new Uint32Array(4);
  let low = -1;
  let high = -1;
  const next = () => {
    const sum = (((state[0] + state[1]) | 0) + state[3]) | 0;
    state[3] += 1;
    state[0] = state[1] ^ (state[1] >>> 9);
    state[1] = (state[2] + (state[2] << 3)) | 0;
    state[2] = (((state[2] << 21) | (state[2] >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  Math.random = function random() {
    if (generation[0] !== low || generation[1] !== high) {
      low = generation[0];
      high = generation[1];
      crypto.randomFillSync(state);
    }
    return ((next() >>> 5) * 67_108_864 + (next() >>> 6)) / 9_007_199_254_740_992; // 53 bits below 1
  };
}
