'use strict';
// Rooms over WebSocket. state = "keep": connections stay open and the last words are remembered while nobody says anything and it sleeps.
const { createServer } = require('node:http');
const { WebSocketServer, WebSocket } = require('ws');

const rememberedMax = 50;
const roomsMax = 1000;
/** By name: who is there, and what was said last. */
const rooms = new Map();

const page = `<!doctype html><meta charset="utf-8"><title>chat</title>
<style>body{font:16px/1.5 system-ui;max-width:40rem;margin:2rem auto;padding:0 1rem}li{list-style:none}ul{padding:0}input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box}</style>
<h1>chat</h1><ul></ul><form><input autocomplete="off" placeholder="Say something and press Enter" aria-label="your words" autofocus></form>
<script>
const room = location.pathname.slice(1) || 'lobby';
const socket = new WebSocket((location.protocol === 'https:' ? 'wss://' : 'ws://') + location.host + '/rooms/' + room);
socket.onmessage = ({ data }) => { const line = document.createElement('li'); line.textContent = data; document.querySelector('ul').append(line); };
document.querySelector('form').onsubmit = (event) => { event.preventDefault(); const input = document.querySelector('input'); socket.send(input.value); input.value = ''; };
</script>
`;

const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page);
});
const sockets = new WebSocketServer({ noServer: true, maxPayload: 4096 });

server.on('upgrade', (request, socket, head) => {
  const name = /^\/rooms\/([a-z0-9-]{1,40})$/.exec(request.url ?? '')?.[1];
  if (name === undefined || (!rooms.has(name) && rooms.size >= roomsMax)) return socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
  sockets.handleUpgrade(request, socket, head, (client) => join(name, client));
});

function join(name, client) {
  const room = rooms.get(name) ?? { clients: new Set(), words: [] };
  rooms.set(name, room);
  room.clients.add(client);
  for (const words of room.words) client.send(words);
  client.on('message', (data) => {
    const words = String(data);
    room.words.push(words);
    if (room.words.length > rememberedMax) room.words.shift();
    for (const other of room.clients) if (other.readyState === WebSocket.OPEN) other.send(words);
  });
  client.on('error', (error) => console.error(`a socket failed: ${error.message}`));
  client.on('close', () => {
    room.clients.delete(client);
    if (room.clients.size === 0 && room.words.length === 0) rooms.delete(name);
  });
}

server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log('chat is ready'));
process.on('SIGTERM', () => {
  for (const client of sockets.clients) client.close(1001);
  server.close(() => process.exit(0));
});
