/** What the command's exit code says; scripts may rely on it. */
const rows: readonly { readonly exit: number; readonly about: string; readonly codes: readonly string[] }[] = [
  { exit: 2, about: 'the command line is wrong', codes: ['command-line', 'webhook-url', 'needs-yes', 'not-confirmed'] },
  { exit: 3, about: 'not logged in, or the token is refused', codes: ['not-logged-in', 'token-missing', 'token-wrong', 'too-many-attempts', 'credentials-unreadable'] },
  {
    exit: 4,
    about: 'the manifest, the folder, the image, a variable, a secret or a message is refused',
    codes: [
      'manifest-', 'archive-', 'image-', 'layer-', 'upload-too-big', 'name-taken', 'variable-name', 'variable-reserved', 'variable-is-', 'value-', 'secret-empty', 'change-empty',
      'too-many-variables', 'configuration-too-big', 'body-too-big', 'message-too-big',
    ],
  },
  { exit: 5, about: 'there is no such app, release, canary, domain, cap, variable, secret, queue or message, or there cannot be such a canary', codes: ['app-unknown', 'domain-unknown', 'cap-unknown', 'deploy-unknown', 'release-unknown', 'release-serves', 'variable-unknown', 'canary-', 'queue-unknown', 'message-unknown', 'message-waits'] },
  { exit: 6, about: 'the conduit cannot be reached or cannot answer now', codes: ['conduit-unreachable', 'not-a-conduit', 'busy', 'bus-away', 'metering-away', 'progress-cut', 'access-cut', 'edgepoint-key-unknown', 'queue-full'] },
  { exit: 7, about: 'it would serve, but cannot be snapshotted (check)', codes: ['cannot-be-snapshotted'] },
  { exit: 8, about: 'a domain cannot be added, or its record is not there (domains)', codes: ['domain-', 'too-many-domains'] },
  { exit: 9, about: 'a registry of images cannot be reached, refuses or stalls', codes: ['registry-'] },
  { exit: 10, about: 'the release was taken back: it failed more often than the one before (deploy --settle)', codes: ['deploy-taken-back'] },
  { exit: 11, about: 'a snapshot of a volume cannot be taken, restored or removed (volumes)', codes: ['volume-', 'snapshot-'] },
];

/**
 * `conduit ssh` and `conduit run` end with the exit status of the command they run, and with 128 and the signal that ended it. What fails of them themselves, their
 * command line too, is told apart by this one, as ssh(1) does.
 */
export const sessionFailedExit = 255;

/** 0 is success, 1 every other failure (a deploy that failed at an edgepoint, for one). */
export function exitCodeOf(code: string): number {
  return rows.find((row) => row.codes.some((listed) => (listed.endsWith('-') ? code.startsWith(listed) : code === listed)))?.exit ?? 1;
}

export const exitCodesText = `Exit codes:\n  0  done\n  1  it failed\n${rows.map(({ exit, about }) => `  ${exit}  ${about}`).join('\n')}
\`conduit ssh\` and \`conduit run\` end with the exit code of what they run, and with ${sessionFailedExit} when they fail themselves.`;
