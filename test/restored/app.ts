import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The artefacts' files are owned by an ordinary user of the machine, as the head's are. */
export const artefactUid = 54_321;

/**
 * An application whose every request is a function body to run in it: what it returns comes back as `{ ok }`, what it throws as
 * `{ error }`. `state` is memory that lives as long as the program.
 */
export const server = `
const state = { count: 0, born: require('crypto').randomUUID() };
const AsyncFunction = (async () => {}).constructor;
require('http').createServer((request, response) => {
  let body = '';
  request.on('data', (part) => { body += part; });
  request.on('end', async () => {
    let answer;
    try { answer = { ok: await new AsyncFunction('require', 'state', body)(require, state) }; }
    catch (error) { answer = { error: error.code ?? String(error.message ?? error) }; }
    response.setHeader('connection', 'close');
    response.end(JSON.stringify(answer));
  });
}).listen(8080, '0.0.0.0');
`;

/** Sends every byte back. */
export const echo = `
require('net').createServer((socket) => {
  socket.pipe(socket);
  socket.on('error', () => {});
}).listen(8080, '0.0.0.0');
`;

/** Makes an artefact of files (name -> text or bytes) as the head would unpack it; returns its path. */
export function makeArtefact(folder: string, name: string, files: Readonly<Record<string, string | Uint8Array>>): string {
  const artefact = join(folder, 'artefacts', name);
  mkdirSync(join(artefact, 'app'), { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    writeFileSync(join(artefact, 'app', file), content, { mode: 0o755 });
    chownSync(join(artefact, 'app', file), artefactUid, artefactUid);
  }
  for (const path of [join(artefact, 'app'), artefact]) chownSync(path, artefactUid, artefactUid);
  return artefact;
}

/** Compiles a C file of this folder; the program is static, so it runs in any root. */
function compiled(folder: string, name: string): Uint8Array {
  const out = join(folder, name);
  const done = spawnSync('gcc', ['-static', '-O2', '-Wall', '-Wextra', '-Werror', '-o', out, fileURLToPath(new URL(`./${name}.c`, import.meta.url))]);
  if (done.status !== 0) throw new Error(`${name}.c: ${done.stderr.toString()}`);
  return readFileSync(out);
}

export function probeProgram(folder: string): Uint8Array {
  return compiled(folder, 'probe');
}

export function patientProgram(folder: string): Uint8Array {
  return compiled(folder, 'patient');
}

export function rememberProgram(folder: string): Uint8Array {
  return compiled(folder, 'remember');
}

export function patchworkProgram(folder: string): Uint8Array {
  return compiled(folder, 'patchwork');
}
