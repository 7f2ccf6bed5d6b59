// A server for tests that keeps one connection to a Redis outside (DATABASE is ADDRESS:PORT) and makes it anew when it sees it closed.
// Each GET counts in memory and in the database, and answers `MEMORY DATABASE CONNECTIONS CLOSED`.
const { createServer } = require('node:http');
const { connect } = require('node:net');

const [address, port] = process.env.DATABASE.split(':');
let count = 0;
let connections = 0;
let closed = 0;
let socket = null;

function reconnect() {
  const attempt = connect(Number(port), address);
  attempt.once('connect', () => {
    connections += 1;
    socket = attempt;
  });
  attempt.on('error', () => {});
  attempt.once('close', () => {
    if (socket === attempt) closed += 1;
    socket = null;
    setTimeout(reconnect, 20);
  });
}

function askDatabase() {
  return new Promise((resolve, reject) => {
    const asked = socket;
    if (asked === null) return reject(new Error('not connected'));
    asked.once('close', () => reject(new Error('closed')));
    asked.once('data', (answer) => {
      resolve(Number(answer.toString().slice(1)));
    });
    asked.write('INCR asked\r\n');
  });
}

/** As every client of a database does: again, on a new connection, when the old one turns out to be dead. */
async function countInDatabase() {
  for (;;) {
    try {
      return await askDatabase();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

reconnect();
createServer(async (request, response) => {
  count += 1;
  response.end(`${count} ${await countInDatabase()} ${connections} ${closed}\n`);
}).listen(8080, '0.0.0.0');
