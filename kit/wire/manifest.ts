import { z } from 'zod';
import { namePattern } from '../ids.ts';
import { layerPattern, layersMax } from '../image.ts';
import { readSchedule, scheduleCharactersMax } from '../schedule.ts';

const commandSchema = z.array(z.string().min(1).max(4096)).min(1).max(64);
const envSchema = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(32_768));

/** Which program installs what an app depends on: `npm` from package-lock.json; `none`: nothing is installed. */
export const installers = ['npm', 'none'] as const;

export const buildSchema = z.object({
  /** Missing: decided from the files of the folder. */
  install: z.enum(installers).optional(),
  /** Run in /app once that is installed; what it needs for itself alone (devDependencies) goes again afterwards. */
  command: commandSchema.optional(),
  /** Of each of the two, from its start. */
  timeoutSeconds: z.number().positive().max(1800).default(600),
  /** What the box of the build may use. */
  offering: z.string().regex(namePattern).default('medium'),
});
export type BuildWish = z.output<typeof buildSchema>;

/** What may stand in braces in a file's text: true of each instance, also where clones come from one template. */
export const fileNames = ['instance', 'address', 'peers', 'app', 'release', 'host'] as const;

/** What a provider writes in `edgepoint.toml`, after parsing. Unknown keys are refused by the conduit, which knows the lines. */
export const manifestSchema = z.object({
  app: z.string().regex(namePattern, 'a name is lower-case letters, digits and inner hyphens, 1 to 40 of them, and begins with a letter'),
  /** argv of the program, looked up in PATH inside the instance. */
  command: commandSchema,
  /** The TCP port the program listens on for HTTP. Also handed to it as PORT. */
  port: z.int().min(1).max(65535),
  state: z.enum(['template', 'keep']).default('template'),
  /** A row of the table of service offerings. */
  offering: z.string().regex(namePattern).default('small'),
  env: envSchema.default({}),
  /** An image whose root the instance has, in place of the platform's: its layers from the lowest, by the digests of their tars. `conduit deploy --image` writes it. */
  image: z.object({ layers: z.array(z.string().regex(layerPattern, 'it must be sha256: and 64 hexadecimal digits')).min(1).max(layersMax) }).optional(),
  /** Where the programs begin; /app when missing. Made when it is not there. */
  workingDirectory: z.string().regex(/^\/[^\0]*$/, 'it must be an absolute path').max(1000).optional(),
  /** Whom they run as, `user` or `user:group`, by number or by a name of the instance's own /etc/passwd and /etc/group; root when missing. */
  user: z.string().regex(/^[^\0:\s]+(:[^\0:\s]+)?$/, 'it must be a user, or user:group').max(200).optional(),
  /** What is made of the folder before it can run, at an edgepoint in a box of its own; without it the command decides from what lies in the folder. */
  build: buildSchema.optional(),
  /** Processes beside the one of `command`, in the same instance: they live, sleep, wake and are cloned together. The port is the first's. */
  process: z
    .array(
      z.object({
        name: z.string().regex(namePattern),
        command: commandSchema,
        env: envSchema.default({}),
        /** Its end ends the instance, as that of the first process does. */
        mustLive: z.boolean().default(true),
      }),
    )
    .max(8)
    .default([]),
  /** Whether requests of plain HTTP are sent to https (308), where the edgepoint has a certificate for the host; without it the edgepoint decides. */
  httpsOnly: z.boolean().optional(),
  /** Each connection to the program begins with a header of the PROXY protocol, which says whose requests it carries. */
  proxyProtocol: z.enum(['none', 'v1', 'v2']).default('none'),
  probe: z
    .object({
      /** Ready when GET answers below 500. */
      path: z.string().startsWith('/').max(2048).default('/'),
      timeoutSeconds: z.number().positive().max(600).default(60),
    })
    .prefault({}),
  /** What monitors ask: while the app sleeps it is answered in its place, and it keeps nobody awake. */
  health: z.object({ path: z.string().startsWith('/').max(2048).regex(/^[\x21-\x3e\x40-\x7e]*$/, 'it may have no spaces, no query and only printable ASCII') }).optional(),
  /** A release that fails far more often in its first minute than the one before did is taken back by itself. */
  takeBack: z.boolean().default(true),
  /** Requests made once before the snapshot, so that the template is warm. */
  warmup: z.array(z.object({ path: z.string().startsWith('/').max(2048) })).max(32).default([]),
  /** What the program does about being snapshotted and cloned. */
  snapshot: z
    .object({
      /** Asked by GET once, after the warm-up and before the template is taken. */
      before: z.string().startsWith('/').max(2048).optional(),
      /** Asked by GET in each restored instance before it is given requests. */
      after: z.string().startsWith('/').max(2048).optional(),
      /** `own`: the program draws random numbers from the kernel alone, or renews its generators when asked by `after`. */
      randomness: z.enum(['guarded', 'own']).default('guarded'),
    })
    .prefault({}),
  volume: z
    .array(
      z.object({
        name: z.string().regex(namePattern),
        path: z.string().regex(/^\/[^\0]*$/).max(255),
        sizeMegabytes: z.int().min(8).max(65_536).default(256),
        /** Several instances may write at once; otherwise one writer. */
        shareable: z.boolean().default(false),
      }),
    )
    .max(8)
    .default([]),
  /**
   * Ports of an address of its own, which its names then lead to: packets to them reach an instance as they are, TCP and UDP alike.
   * HTTP at its names still comes by the shared address.
   */
  ownPort: z
    .array(
      z.object({
        protocol: z.enum(['tcp', 'udp']).default('tcp'),
        port: z.int().min(1).max(65535),
        /** Where the program listens, when that is another. */
        targetPort: z.int().min(1).max(65535).optional(),
      }),
    )
    .max(8)
    .default([]),
  /** Requests that the platform makes by itself, each at one of the edgepoints that host the app: the app is woken for them. */
  cron: z
    .array(
      z.object({
        /** `kit/schedule.ts`: in UTC. */
        schedule: z
          .string()
          .max(scheduleCharactersMax)
          .superRefine((text, context) => {
            const read = readSchedule(text);
            if (!read.ok) context.addIssue({ code: 'custom', message: read.reason });
          }),
        path: z.string().startsWith('/').max(2048).regex(/^[\x21-\x7e]*$/, 'it may have no spaces and only printable ASCII'),
        method: z.enum(['POST', 'GET']).default('POST'),
      }),
    )
    .max(8)
    .default([]),
  /** Queues of messages, each delivered as a POST: the app is woken for it, and takes it by answering 2xx. */
  queue: z
    .array(
      z.object({
        name: z.string().regex(namePattern),
        path: z.string().startsWith('/').max(2048).regex(/^[\x21-\x7e]*$/, 'it may have no spaces and only printable ASCII'),
        /** Messages under way at once. */
        concurrency: z.int().min(1).max(16).default(1),
        /** After so many a message is put aside. */
        attempts: z.int().min(1).max(20).default(5),
        /** Before the second attempt; each pause is five times the one before, ten minutes at most. */
        backoffSeconds: z.number().min(0.1).max(600).default(2),
      }),
    )
    .max(8)
    .default([]),
  /**
   * Files written on the private disk of each instance, clones too, before it runs; in a text, `fileNames` in braces stand for
   * what is true of that instance.
   */
  file: z
    .array(z.object({ path: z.string().regex(/^\/[^\0]*$/).max(255), text: z.string().max(16_384) }))
    .max(16)
    .default([]),
  scale: z
    .object({
      min: z.int().min(0).max(100).default(0),
      max: z.int().min(1).max(100).default(8),
      /** Requests one instance handles at once before another is wanted. */
      concurrency: z.int().min(1).max(10_000).default(16),
      idleSeconds: z.number().min(0.2).max(86_400).default(15),
      /** Work of its own (computing, or connections that it opened) keeps it awake for so long after its last request; 0: it does not. */
      backgroundSeconds: z.number().min(0).max(86_400).default(0),
      /** A client returns, by a cookie, to the instance that answered it before, as long as that is there and has room. */
      sticky: z.boolean().default(false),
      /** How long the share of requests rises that an instance gets which comes while others serve; 0: it has its whole share at once. */
      slowStartSeconds: z.number().min(0).max(600).default(0),
    })
    .prefault({}),
});

export type Manifest = z.output<typeof manifestSchema>;
