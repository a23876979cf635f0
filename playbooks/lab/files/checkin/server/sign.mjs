// Prints a token with the claims that come as JSON on standard input, exactly those, signed with the current key. For
// tests of what a service must refuse: expired, another issuer's, for another client …
//   sign.mjs [--header JSON] [--stranger]
// --header adds to or replaces the header's members; alg "none" leaves the token unsigned, and HS256 takes the public
// key's PEM for a shared secret, as an attacker would. --stranger signs with a key that nobody published.
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

import { readKeys } from './keys.mjs';

const { values } = parseArgs({ options: { header: { type: 'string', default: '{}' }, stranger: { type: 'boolean' } } });
const [current] = readKeys().signing;
const key = values.stranger
  ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  : createPrivateKey({ key: current, format: 'jwk' });

const signers = {
  none: () => Buffer.alloc(0),
  RS256: (input) => sign('RSA-SHA256', input, key),
  HS256: (input) => createHmac('sha256', createPublicKey(key).export({ type: 'spki', format: 'pem' })).update(input).digest(),
};

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const header = { alg: 'RS256', typ: 'JWT', kid: current.kid, ...JSON.parse(values.header) };
const input = `${encode(header)}.${encode(JSON.parse(await text(process.stdin)))}`;
if (!Object.hasOwn(signers, header.alg)) {
  console.error(`No signer for alg "${header.alg}"; there are ${Object.keys(signers).join(', ')}.`);
  process.exit(2);
}
console.log(`${input}.${signers[header.alg](Buffer.from(input)).toString('base64url')}`);
