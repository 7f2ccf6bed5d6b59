/** Character classes of HTTP (RFC 9110, section 5.6.2; RFC 9112, section 4) as tables over one byte. */
const fill = (holds: (code: number) => boolean): Uint8Array => Uint8Array.from({ length: 256 }, (_, code) => (holds(code) ? 1 : 0));

const tokenMarks = new Set([..."!#$%&'*+-.^_`|~"].map((mark) => mark.charCodeAt(0)));
const isDigit = (code: number): boolean => code >= 48 && code <= 57;
const isLetter = (code: number): boolean => (code >= 65 && code <= 90) || (code >= 97 && code <= 122);

export const tokenCharacter = fill((code) => isDigit(code) || isLetter(code) || tokenMarks.has(code));
/** HTAB, SP, visible and obs-text; never CR, LF, NUL or another control. */
export const valueCharacter = fill((code) => code === 9 || (code >= 32 && code !== 127));
/** Visible and bytes above 127, which browsers escape but people's scripts do not; never a space or a control. */
export const targetCharacter = fill((code) => (code > 32 && code < 127) || code > 127);
/** A host name, an IPv4 address or a bracketed IPv6 address, with a port: no user, no path, no percent. */
export const hostCharacter = fill((code) => isDigit(code) || isLetter(code) || '-._:[]'.includes(String.fromCharCode(code)));

/** -1 when the byte is no hexadecimal digit. */
export const hexadecimalValue: Int8Array = Int8Array.from({ length: 256 }, (_, code) => {
  if (isDigit(code)) return code - 48;
  if (code >= 65 && code <= 70) return code - 55;
  if (code >= 97 && code <= 102) return code - 87;
  return -1;
});

/** Whether every character of a latin-1 text from `start` to `end` is in the table. */
export function allIn(table: Uint8Array, text: string, start = 0, end = text.length): boolean {
  for (let index = start; index < end; index += 1) if (table[text.charCodeAt(index)] !== 1) return false;
  return true;
}

export const isToken = (text: string): boolean => text.length > 0 && allIn(tokenCharacter, text);
