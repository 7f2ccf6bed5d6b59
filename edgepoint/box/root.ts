/** Ends the process with a sentence unless root runs it: namespaces, mounts and CRIU need it. */
export function requireRoot(name: string): void {
  if (process.getuid?.() === 0) return;
  process.stderr.write(`${name}: it makes namespaces, mounts and snapshots, so it must run as root: try again with sudo\n`);
  process.exit(2);
}
