/** Error codes of RST_STREAM and GOAWAY (RFC 9113, section 7). */
export const http2Codes = { noError: 0, protocolError: 1, internalError: 2, cancel: 8, enhanceYourCalm: 11 } as const;

/** A flag of HEADERS and DATA: the stream ends with this frame (sections 6.1 and 6.2). */
export const endStreamFlag = 0x1;
