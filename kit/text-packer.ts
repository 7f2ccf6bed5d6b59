/** Keeps many texts in less room; what one has packed, it alone unpacks. */
export interface TextPacker {
  pack(text: string): string;
  /** The text as it was; throws for what was not packed here. */
  unpack(packed: string): string;
}

/** For a few. */
export const unpacked: TextPacker = { pack: (text) => text, unpack: (text) => text };
