/**
 * A request to CRIU in its own protocol: a protobuf message (field numbers from CRIU's images/rpc.proto, which never change them).
 * The folders of images and log are descriptors that edgepoint-box holds under these numbers (box.h).
 */
const imagesDescriptor = 50;
const workDescriptor = 51;

/** criu_req */
const request = { type: 1, options: 2 } as const;
const restoreType = 2;
/** criu_opts */
const option = {
  imagesDescriptor: 1,
  tcpEstablished: 5,
  fileLocks: 8,
  logLevel: 9,
  logFile: 10,
  notifyScripts: 12,
  root: 13,
  workDescriptor: 17,
  manageCgroupsMode: 34,
  external: 37,
  emptyNamespaces: 38,
  lazyPages: 48,
  tcpClose: 52,
} as const;
const cgroupsIgnored = 0;
const networkNamespace = 0x4000_0000; // CLONE_NEWNET, clone(2)
const warningsAndErrors = 2;

export interface RestoreWish {
  /** Where the machine sees the root of the instance. */
  readonly root: string;
  /** `mnt[name]:path` for each mount that comes from outside. */
  readonly external: readonly string[];
  readonly connections: 'keep' | 'close';
  /** CRIU makes an empty network namespace and tells when it wants it filled. */
  readonly ownNetwork: boolean;
  readonly logFile: string;
  /** Memory comes from a pages server, which listens in the work folder. */
  readonly lazy: boolean;
}

export function restoreRequest(wish: RestoreWish): Uint8Array {
  const options = [
    number(option.imagesDescriptor, imagesDescriptor),
    number(option.workDescriptor, workDescriptor),
    number(option.logLevel, warningsAndErrors),
    text(option.logFile, wish.logFile),
    text(option.root, wish.root),
    number(option.manageCgroupsMode, cgroupsIgnored),
    /* Without it the locks of the image are forgotten, silently. */
    number(option.fileLocks, 1),
    ...wish.external.map((mount) => text(option.external, mount)),
    number(wish.connections === 'keep' ? option.tcpEstablished : option.tcpClose, 1),
    ...(wish.lazy ? [number(option.lazyPages, 1)] : []),
    ...(wish.ownNetwork ? [number(option.emptyNamespaces, networkNamespace), number(option.notifyScripts, 1)] : []),
  ].flat();
  return Uint8Array.from([...number(request.type, restoreType), ...bytes(request.options, options)]);
}

function varint(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) + 128);
  return [...out, rest];
}

function number(field: number, value: number): number[] {
  return [...varint(field * 8), ...varint(value)];
}

function bytes(field: number, content: readonly number[]): number[] {
  return [...varint(field * 8 + 2), ...varint(content.length), ...content];
}

function text(field: number, content: string): number[] {
  return bytes(field, [...new TextEncoder().encode(content)]);
}
