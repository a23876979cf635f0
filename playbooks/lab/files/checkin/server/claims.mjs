// What tokens say of a person: the claims of EGI Check-in, each by its scope.
import { personBySubject } from './settings.mjs';

export const claimsByScope = {
  openid: ['sub'],
  profile: ['name', 'preferred_username'],
  email: ['email', 'email_verified'],
  voperson_id: ['voperson_id'],
  entitlements: ['entitlements'],
  eduperson_entitlement: ['eduperson_entitlement'],
};
export const scopes = [...Object.keys(claimsByScope), 'offline_access'];

function allClaims(person) {
  const claims = {
    sub: person.subject,
    voperson_id: person.subject,
    name: person.name,
    preferred_username: person.name,
    email: `${person.name}@example.org`,
    email_verified: true,
  };
  // An account without entitlements differs from one with none: it has no such claim.
  if (person.entitlements !== undefined) {
    claims.entitlements = person.entitlements;
    claims.eduperson_entitlement = person.entitlements;
  }
  return claims;
}

// Claims of a subject that the granted scopes let out, or undefined where there is no such account (any more).
export function claimsOf(subject, grantedScopes) {
  const person = personBySubject(subject);
  if (!person) return undefined;
  const wanted = new Set(grantedScopes.flatMap((scope) => claimsByScope[scope] ?? []));
  return Object.fromEntries(Object.entries(allClaims(person)).filter(([claim]) => wanted.has(claim)));
}
