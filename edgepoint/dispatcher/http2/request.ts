import { allIn, hostCharacter, isToken, targetCharacter, valueCharacter } from '../characters.ts';
import { limits } from '../limits.ts';
import { readWholeHead } from '../request-head.ts';
import type { Refusal, RequestHead } from '../request-head.ts';

/** Fields that have no meaning in HTTP/2 (RFC 9113, section 8.2.2): whoever sends one means to reach a server behind. */
const connectionFields = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

const refused = (status: number, reason: string): Refusal => ({ status, reason });
const lowerCase = /^[^A-Z]+$/;

/**
 * The head of a request in HTTP/2 as one of HTTP/1.1, read by the same reader: whatever this cannot say in HTTP/1.1 without another
 * meaning is refused. `fields` are names and values in turn, as they came; `bodyless`: the stream ended with them. A body of no told
 * length is chunked (`Http2Stream` makes the chunks).
 */
export function readHttp2Request(fields: readonly string[], bodyless: boolean): RequestHead | Refusal {
  const pseudo = new Map<string, string>();
  const cookies: string[] = [];
  let lines = '';
  let host: string | null = null;
  let length: string | null = null;
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] ?? '';
    const value = fields[at + 1] ?? '';
    if (!allIn(valueCharacter, value)) return refused(400, 'the value of a field has a character that is not allowed there');
    if (name.startsWith(':')) {
      if (lines !== '' || cookies.length > 0 || pseudo.has(name)) return refused(400, 'a pseudo-field stands twice or after others');
      pseudo.set(name, value);
      continue;
    }
    if (!isToken(name) || !lowerCase.test(name)) return refused(400, 'a field name has a character that is not allowed there');
    if (connectionFields.has(name)) return refused(400, `${name} is not allowed in HTTP/2`);
    if (name === 'te' && value !== 'trailers') return refused(400, 'te may only be trailers in HTTP/2');
    if (name === 'host') {
      if (host !== null) return refused(400, 'Host stands twice');
      host = value.trim();
    } else if (name === 'cookie') cookies.push(value);
    else lines += `${name}: ${value}\r\n`;
    if (name === 'content-length') length = value;
  }
  const where = readPseudo(pseudo, host);
  if ('status' in where) return where;
  if (bodyless && length !== null && length.trim() !== '0') return refused(400, 'content-length is told, and there is no body');
  // RFC 9113, section 8.2.3: crumbs of one cookie field.
  if (cookies.length > 0) lines += `cookie: ${cookies.join('; ')}\r\n`;
  if (!bodyless && length === null) lines += 'transfer-encoding: chunked\r\n';
  const text = `${where.method} ${where.path} HTTP/1.1\r\nhost: ${where.authority}\r\n${lines}\r\n`;
  if (text.length > limits.requestHeadBytes) return refused(431, `a request head is larger than ${limits.requestHeadBytes} bytes`);
  const read = readWholeHead(text, text.length);
  if (read.kind === 'complete') return read.head;
  return read.kind === 'refused' ? read.refusal : refused(400, 'that is not HTTP');
}

interface Where {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
}

/** RFC 9113, section 8.3.1; none of them may reach beyond its place in the request line. */
function readPseudo(pseudo: ReadonlyMap<string, string>, host: string | null): Where | Refusal {
  const method = pseudo.get(':method') ?? '';
  const path = pseudo.get(':path') ?? '';
  const authority = pseudo.get(':authority') ?? host ?? '';
  if (!isToken(method)) return refused(400, ':method has a character that is not allowed there');
  if (method === 'CONNECT') return refused(405, 'CONNECT is not allowed here');
  if (pseudo.get(':scheme') !== 'https') return refused(400, ':scheme is not https');
  if (!(path.startsWith('/') || (path === '*' && method === 'OPTIONS')) || !allIn(targetCharacter, path)) return refused(400, ':path is not a path');
  if (authority === '' || !allIn(hostCharacter, authority)) return refused(400, ':authority is not a host name');
  if (host !== null && host.toLowerCase() !== authority.toLowerCase()) return refused(400, ':authority and Host name different hosts');
  for (const name of pseudo.keys()) if (![':method', ':path', ':authority', ':scheme'].includes(name)) return refused(400, 'a pseudo-field is not known');
  return { method, path, authority };
}
