/** How much may wait for a slow reader before it is cut off. */
const waitingBytesMax = 4 * 1024 * 1024;
const beatMs = 5000;

export interface LineWriter {
  /** False when the reader is gone or too slow: then stop. */
  send(line: unknown): boolean;
  end(): void;
  /** Aborted when the reader is gone. */
  readonly gone: AbortSignal;
}

/**
 * A body of lines that goes on until `produce` ends it; a beat every 5 s tells a living connection from a dead one.
 * `encode` makes a line of a value: NDJSON, or an event of server-sent events.
 */
export function streamLines(options: { encode: (line: unknown) => string; beat: unknown; produce: (writer: LineWriter) => Promise<void> }): ReadableStream<Uint8Array> {
  const abort = new AbortController();
  const encoder = new TextEncoder();
  let beats: NodeJS.Timeout | undefined;
  const close = (): void => {
    clearInterval(beats);
    abort.abort();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let open = true;
        const end = (): void => {
          if (!open) return;
          open = false;
          close();
          controller.close();
        };
        const send = (line: unknown): boolean => {
          if (!open || abort.signal.aborted) return false;
          if ((controller.desiredSize ?? 0) < 0) {
            end();
            return false;
          }
          controller.enqueue(encoder.encode(options.encode(line)));
          return true;
        };
        beats = setInterval(() => send(options.beat), beatMs);
        abort.signal.addEventListener('abort', () => {
          open = false;
        });
        options.produce({ send, end, gone: abort.signal }).catch((thrown: unknown) => {
          if (!open) return;
          open = false;
          close();
          controller.error(thrown);
        });
      },
      cancel: close,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: waitingBytesMax }),
  );
}

export const asNdjson = (line: unknown): string => `${JSON.stringify(line)}\n`;

/** Calls back once the reader is gone, at once when it is gone already. */
export function whenGone(writer: LineWriter, callback: () => void): void {
  if (writer.gone.aborted) callback();
  else writer.gone.addEventListener('abort', callback, { once: true });
}
