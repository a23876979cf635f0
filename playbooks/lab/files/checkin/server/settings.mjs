// What the playbook says: the issuer, the clients, and the people. People are read again at each use, so that an account or
// an entitlement that is taken away counts from the next token on, without a restart.
import { readFileSync } from 'node:fs';

const folder = process.env.CHECKIN_SETTINGS ?? '/etc/checkin';

export const settings = JSON.parse(readFileSync(`${folder}/settings.json`, 'utf8'));
export const tls = {
  cert: readFileSync(`${folder}/tls/server.crt`),
  key: readFileSync(`${folder}/tls/server.key`),
};

function people() {
  return JSON.parse(readFileSync(`${folder}/people.json`, 'utf8'));
}

export function personBySubject(subject) {
  return people().find((person) => person.subject === subject);
}

export function personByName(name) {
  return people().find((person) => person.name === name);
}
