// Files of ./public, with ETag, Last-Modified and ranges; sirv looks at the folder once, at the start.
import { createServer } from 'node:http';
import sirv from 'sirv';

const files = sirv(new URL('./public', import.meta.url).pathname, { etag: true, maxAge: 60 });
const server = createServer((request, response) => {
  files(request, response, () => response.writeHead(404, { 'content-type': 'text/plain' }).end('there is no such page\n'));
});
server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log('site is ready'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
