import t from 'tap';
import { makeArtefact, server } from '../restored/app.ts';
import { openEngine } from '../restored/engine.ts';

t.setTimeout(120_000);

/* A table: what a clone does with what its template left on the disk, and what is there after it slept and woke. */
const rows: readonly (readonly [string, string, string, string])[] = [
  ['a file left alone', `fs.writeFileSync('/var/a', 'template')`, '', `fs.readFileSync('/var/a', 'utf8') === 'template'`],
  ['one changed', `fs.writeFileSync('/var/b', 'template')`, `fs.writeFileSync('/var/b', 'clone')`, `fs.readFileSync('/var/b', 'utf8') === 'clone'`],
  ['one removed', `fs.writeFileSync('/var/c', 'template')`, `fs.rmSync('/var/c')`, `!fs.existsSync('/var/c')`],
  ['one renamed', `fs.writeFileSync('/var/d', 'template')`, `fs.renameSync('/var/d', '/var/e')`, `!fs.existsSync('/var/d') && fs.readFileSync('/var/e', 'utf8') === 'template'`],
  ['a file of the base removed', `fs.rmSync('/etc/issue')`, '', `!fs.existsSync('/etc/issue')`],
  ['a file of the base removed, then made anew', `fs.rmSync('/etc/issue.net')`, `fs.writeFileSync('/etc/issue.net', 'clone')`, `fs.readFileSync('/etc/issue.net', 'utf8') === 'clone'`],
  ['a folder with files, of which one is new', `fs.mkdirSync('/var/f/deep', { recursive: true }); fs.writeFileSync('/var/f/deep/old', '')`, `fs.writeFileSync('/var/f/deep/new', '')`, `fs.readdirSync('/var/f/deep').join() === 'new,old'`],
  ['a folder removed and made anew', `fs.mkdirSync('/var/g'); fs.writeFileSync('/var/g/old', '')`, `fs.rmSync('/var/g', { recursive: true }); fs.mkdirSync('/var/g'); fs.writeFileSync('/var/g/new', '')`, `fs.readdirSync('/var/g').join() === 'new'`],
  ['a folder that became a file', `fs.mkdirSync('/var/h'); fs.writeFileSync('/var/h/old', '')`, `fs.rmSync('/var/h', { recursive: true }); fs.writeFileSync('/var/h', 'clone')`, `fs.readFileSync('/var/h', 'utf8') === 'clone'`],
  ['a file that became a folder', `fs.writeFileSync('/var/i', '')`, `fs.rmSync('/var/i'); fs.mkdirSync('/var/i')`, `fs.readdirSync('/var/i').length === 0`],
  ['a folder whose rights and time it changed', `fs.mkdirSync('/var/n', { mode: 0o755 }); fs.writeFileSync('/var/n/old', '')`, `fs.chmodSync('/var/n', 0o711); fs.utimesSync('/var/n', 1e9, 1e9)`, `[fs.statSync('/var/n')].every((s) => (s.mode & 0o777) === 0o711 && s.mtimeMs === 1e12) && fs.existsSync('/var/n/old')`],
  ['a name like an option, at the top', `fs.writeFileSync('/-rf', 'template')`, '', `fs.readFileSync('/-rf', 'utf8') === 'template'`],
  ['a link, owners, rights and times', `fs.symlinkSync('a', '/var/j'); fs.writeFileSync('/var/k', '', { mode: 0o640 }); fs.chownSync('/var/k', 7, 8); fs.utimesSync('/var/k', 1e9, 1e9)`, '', `fs.readlinkSync('/var/j') === 'a' && [fs.statSync('/var/k')].every((s) => s.uid === 7 && s.gid === 8 && (s.mode & 0o777) === 0o640 && s.mtimeMs === 1e12)`],
  ['names of every kind', `fs.mkdirSync('/var/l'); for (const name of ['-rf', ' ', 'a\\nb', 'ö', "'"]) fs.writeFileSync('/var/l/' + name, name)`, '', `fs.readdirSync('/var/l').every((name) => fs.readFileSync('/var/l/' + name, 'utf8') === name) && fs.readdirSync('/var/l').length === 5`],
  ['more files than are copied at once', `fs.mkdirSync('/var/m'); for (let i = 0; i < 520; i += 1) fs.writeFileSync('/var/m/' + i, '')`, `fs.rmSync('/var/m/7')`, `fs.readdirSync('/var/m').length === 519`],
];

for (const ownNetwork of [true, false]) {
  t.test(`what a clone had of its template's disk is part of its own snapshot, ${ownNetwork ? 'with state keep' : 'as a template'}`, async (t) => {
    const engine = await openEngine(t);
    const order = engine.order('first', { artefactPath: makeArtefact(engine.folder, 'disk', { 'server.js': server }), ownNetwork });
    const all = (column: 1 | 2): string => `const fs = require('fs'); ${rows.map((row) => row[column]).join('; ')}`;
    await engine.run(await engine.boot(order), all(1));
    await engine.snapshot('first', engine.snapshotPath('template'), false);
    const clone = await engine.restore({ ...order, instance: 'clone', snapshotPath: engine.snapshotPath('template'), continues: false });
    await engine.run(clone, all(2));
    await engine.snapshot('clone', engine.snapshotPath('clone'), false);
    await engine.snapd.call('discard', { snapshotPath: engine.snapshotPath('template') });
    const address = ownNetwork ? clone.address : null;
    const woken = await engine.restore({ ...order, instance: 'clone', address, snapshotPath: engine.snapshotPath('clone'), continues: ownNetwork });
    for (const [what, , , right] of rows) t.equal(await engine.run(woken, `const fs = require('fs'); return ${right}`).catch(String), true, what);
  });
}
