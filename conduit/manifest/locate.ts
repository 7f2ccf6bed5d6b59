/**
 * The line of each key and array element of a TOML text, for messages: the parser tells only where a syntax error is.
 * The text must already have been accepted by the parser; what is not TOML is skipped, never refused.
 */
export type KeyPath = readonly (string | number)[];

export interface Locations {
  /** 1 is the first line; the nearest enclosing thing when the path itself is not in the text; null when nothing of it is. */
  readonly lineOf: (path: KeyPath) => number | null;
}

export function locateKeys(text: string): Locations {
  const lines = new Map<string, number>();
  new Scanner(text, lines).scan();
  return {
    lineOf(path) {
      for (let length = path.length; length > 0; length -= 1) {
        const line = lines.get(JSON.stringify(path.slice(0, length)));
        if (line !== undefined) return line;
      }
      return null;
    },
  };
}

class Scanner {
  readonly #text: string;
  readonly #lines: Map<string, number>;
  /** Index of the last element of each array of tables. */
  readonly #lastElement = new Map<string, number>();
  #at = 0;
  #line = 1;

  constructor(text: string, lines: Map<string, number>) {
    this.#text = text;
    this.#lines = lines;
  }

  scan(): void {
    let table: KeyPath = [];
    for (;;) {
      this.#skipBlank(true);
      if (this.#at >= this.#text.length) return;
      const before = this.#at;
      if (this.#peek() === '[') table = this.#header();
      else this.#keyAndValue(table);
      if (this.#at === before) this.#step();
    }
  }

  #header(): KeyPath {
    this.#step();
    const isArray = this.#peek() === '[';
    if (isArray) this.#step();
    const names = this.#key();
    let path: KeyPath = [];
    names.forEach((name, index) => {
      path = [...path, name];
      const id = JSON.stringify(path);
      if (isArray && index === names.length - 1) this.#lastElement.set(id, (this.#lastElement.get(id) ?? -1) + 1);
      this.#note(path);
      const element = this.#lastElement.get(id);
      if (element !== undefined) path = [...path, element];
      this.#note(path);
    });
    while (this.#peek() === ']') this.#step();
    return path;
  }

  #keyAndValue(table: KeyPath): void {
    let path = table;
    for (const name of this.#key()) {
      path = [...path, name];
      this.#note(path);
    }
    this.#skipBlank(false);
    if (this.#peek() === '=') this.#step();
    this.#value(path);
  }

  /** A dotted key, each name bare or quoted. */
  #key(): string[] {
    const names: string[] = [];
    for (;;) {
      this.#skipBlank(false);
      const quote = this.#peek();
      if (quote === '"' || quote === "'") names.push(this.#quoted(quote));
      else names.push(this.#while(/[A-Za-z0-9_-]/));
      this.#skipBlank(false);
      if (this.#peek() !== '.') return names;
      this.#step();
    }
  }

  #value(path: KeyPath): void {
    this.#skipBlank(false);
    const first = this.#peek();
    if (first === '"' || first === "'") this.#string(first);
    else if (first === '[') this.#array(path);
    else if (first === '{') this.#inlineTable(path);
    else this.#while(/[^,\]}\n#]/);
  }

  #array(path: KeyPath): void {
    this.#step();
    for (let index = 0; ; index += 1) {
      this.#skipBlank(true);
      if (this.#peek() === ']' || this.#peek() === '') break;
      const before = this.#at;
      this.#note([...path, index]);
      this.#value([...path, index]);
      this.#skipBlank(true);
      if (this.#peek() === ',' || this.#at === before) this.#step();
    }
    this.#step();
  }

  #inlineTable(path: KeyPath): void {
    this.#step();
    for (;;) {
      this.#skipBlank(true);
      if (this.#peek() === '}' || this.#peek() === '') break;
      const before = this.#at;
      this.#keyAndValue(path);
      this.#skipBlank(true);
      if (this.#peek() === ',' || this.#at === before) this.#step();
    }
    this.#step();
  }

  /** A string of any of the four kinds. */
  #string(quote: string): void {
    if (!this.#text.startsWith(quote.repeat(3), this.#at)) {
      this.#quoted(quote);
      return;
    }
    for (let step = 0; step < 3; step += 1) this.#step();
    while (this.#at < this.#text.length && !this.#text.startsWith(quote.repeat(3), this.#at)) {
      if (quote === '"' && this.#peek() === '\\') this.#step();
      this.#step();
    }
    // Up to two quotes may stand before the closing three.
    while (this.#peek() === quote) this.#step();
  }

  #quoted(quote: string): string {
    const start = this.#at;
    this.#step();
    while (this.#peek() !== quote && this.#peek() !== '' && this.#peek() !== '\n') {
      if (quote === '"' && this.#peek() === '\\') this.#step();
      this.#step();
    }
    this.#step();
    const raw = this.#text.slice(start + 1, this.#at - 1);
    return quote === '"' ? unescapeBasic(raw) : raw;
  }

  #skipBlank(overLines: boolean): void {
    for (;;) {
      const next = this.#peek();
      if (next === ' ' || next === '\t' || next === '\r' || (overLines && next === '\n')) this.#step();
      else if (overLines && next === '#') this.#while(/[^\n]/);
      else return;
    }
  }

  #while(pattern: RegExp): string {
    const start = this.#at;
    while (this.#at < this.#text.length && pattern.test(this.#peek())) this.#step();
    return this.#text.slice(start, this.#at);
  }

  #peek(): string {
    return this.#text[this.#at] ?? '';
  }

  #step(): void {
    if (this.#peek() === '\n') this.#line += 1;
    this.#at += 1;
  }

  /** The first place where a path stands is the one to show. */
  #note(path: KeyPath): void {
    const id = JSON.stringify(path);
    if (!this.#lines.has(id)) this.#lines.set(id, this.#line);
  }
}

const escapes: Readonly<Record<string, string>> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', e: '\u001b', '"': '"', '\\': '\\' };

/** TOML 1.0, "String": the escapes of a basic string. */
function unescapeBasic(raw: string): string {
  return raw.replace(/\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))/g, (whole, short, long, byte, single) => {
    const digits: unknown = short ?? long ?? byte;
    if (typeof digits === 'string') return String.fromCodePoint(Number.parseInt(digits, 16));
    return escapes[String(single)] ?? whole;
  });
}
