import { createServer } from 'node:http';
import sirv from 'sirv';

const files = sirv(new URL('./public', import.meta.url).pathname, { etag: true });
createServer((request, response) => files(request, response, () => response.writeHead(404).end('there is no such page\n'))).listen(Number(process.env.PORT), '0.0.0.0');
