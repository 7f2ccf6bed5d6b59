import t from 'tap';
import { blocksOf, missingLine, stepsOf } from './page.ts';

const page = `# A page

\`\`\`js src/server.mjs
run();
\`\`\`

\`\`\`toml
app = "not run"
\`\`\`

\`\`\`console
$ conduit login URL
You are …
$ MY_URL=x false # exit code 1
\`\`\`
`;

t.test('a page is read as what it has a reader do', async (t) => {
  t.same(stepsOf(page, { URL: 'http://10.0.0.1' }), [
    { kind: 'file', path: 'src/server.mjs', text: 'run();\n' },
    { kind: 'command', line: 12, command: 'conduit login http://10.0.0.1', exitCode: 0, output: ['You are …'] },
    { kind: 'command', line: 14, command: 'MY_URL=x false # exit code 1', exitCode: 1, output: [] },
  ]);
  t.throws(() => blocksOf('```console\n$ true\n'), /line 2 has no end/);
  t.throws(() => stepsOf('```console\nwords\n```\n', {}), /line 2: output of no command/);
});

t.test('what a page says is printed, is', async (t) => {
  const printed = 'one\n  boot   12.5 ms  done\nready: https://a/ (3 times)\n';
  for (const [expected, missing] of [
    [['one', 'ready: …'], null],
    [['boot 9 ms done'], null],
    [['boot 9 s done'], 'boot 9 s done'],
    [['ready: https://a/ (1.25 times)', 'one'], 'one'],
    [['ready: https://b/ …'], 'ready: https://b/ …'],
    [['on'], 'on'],
    [['ready. https://a/ …'], 'ready. https://a/ …'],
  ] as const) t.equal(missingLine(expected, printed), missing, expected.join(' | '));
});
