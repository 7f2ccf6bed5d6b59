// At the deploy, in the box of the build: each text becomes a page. `marked` is needed for that alone, and is not released.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { marked } from 'marked';

mkdirSync('public', { recursive: true });
for (const name of readdirSync('text')) {
  const page = marked.parse(readFileSync(`text/${name}`, 'utf8'));
  writeFileSync(`public/${name.replace(/\.md$/, '.html')}`, `<!doctype html>\n<meta charset="utf-8">\n${page}`);
}
console.log('the pages are made');
