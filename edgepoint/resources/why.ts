import { Failure } from '../../kit/errors.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { ProbeOutcome } from '../model/probe.ts';

/** What a probe that did not succeed means for a provider; null when it succeeded. */
export function notListening(outcome: ProbeOutcome, manifest: Manifest): Failure | null {
  const { port, probe } = manifest;
  if (outcome.kind === 'answers') return null;
  if (outcome.kind === 'gone') {
    return new Failure('app-exited', `the program ended before it answered on port ${port}`, {
      remedy: 'Start the same command in a Debian 13 container to see it for yourself.',
    });
  }
  if (outcome.kind === 'bad-status') {
    return new Failure('probe-failed', `GET ${probe.path} was answered ${outcome.status} for ${probe.timeoutSeconds} s; ready means below 500`, {
      remedy: 'Name a path that answers when the app is ready, as `path` under [probe].',
    });
  }
  return new Failure('app-never-listened', `nothing answered on port ${port} within ${probe.timeoutSeconds} s (${outcome.lastError})`, {
    remedy: `Listen on 0.0.0.0 and the port in PORT (${port}), or give it more time as \`timeoutSeconds\` under [probe].`,
  });
}
