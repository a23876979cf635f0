// Keys that outlive restarts: those that sign tokens, the current one first, and those that sign cookies.
// As a command: `keys.mjs rotate [--drop-old]` makes a new key the current one.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const file = `${process.env.STATE_DIRECTORY ?? '/var/lib/checkin'}/keys.json`;

function newKey() {
  const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  // RFC 7638: the thumbprint of the required members, in lexicographic order.
  const kid = createHash('sha256').update(JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n })).digest('base64url');
  return { ...jwk, kid, alg: 'RS256', use: 'sig' };
}

function write(keys) {
  writeFileSync(`${file}.part`, JSON.stringify(keys), { mode: 0o600 });
  renameSync(`${file}.part`, file);
  return keys;
}

export function readKeys() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    return write({ signing: [newKey()], cookies: [randomBytes(32).toString('base64url')] });
  }
}

export function publicKeys(keys) {
  return { keys: keys.signing.map(({ kty, n, e, kid, alg, use }) => ({ kty, n, e, kid, alg, use })) };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals } = parseArgs({ options: { 'drop-old': { type: 'boolean' } }, allowPositionals: true });
  if (positionals.join() !== 'rotate') {
    console.error('Usage: keys.mjs rotate [--drop-old]');
    process.exit(2);
  }
  const keys = readKeys();
  write({ ...keys, signing: [newKey(), ...(values['drop-old'] ? [] : keys.signing)] });
}
