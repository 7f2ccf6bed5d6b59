/** A frame of HTTP/2 by hand (RFC 9113, section 4.1), for what no library would send. */
export const frame = (type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer<ArrayBuffer> => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
/** A field without an index, in an empty table (RFC 7541, section 6.2.2); name and value below 127 bytes. */
export const literal = (name: string, value: string): Buffer<ArrayBuffer> => Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value, 'latin1')]);
