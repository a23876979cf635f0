// Userinfo (OpenID Connect Core 1.0, section 5.3) for access tokens that are JWTs, as Check-in's are.
import { createLocalJWKSet, errors, jwtVerify } from 'jose';

import { claimsOf } from './claims.mjs';
import { publicKeys } from './keys.mjs';

export function userinfo(issuer, path, keys) {
  const trusted = createLocalJWKSet(publicKeys(keys));

  async function answer(authorization) {
    const [, token] = /^Bearer ([\w.~+/-]+=*)$/i.exec(authorization) ?? [];
    if (!token) return undefined;
    try {
      const { payload } = await jwtVerify(token, trusted, { issuer, algorithms: ['RS256'], requiredClaims: ['exp', 'azp'] });
      if (payload.typ !== 'Bearer') return undefined; // an ID token, say
      return claimsOf(payload.sub, payload.scope?.split(' ') ?? []);
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  }

  return async (ctx, next) => {
    if (ctx.path !== path || !['GET', 'POST'].includes(ctx.method)) return next();
    const claims = await answer(ctx.get('Authorization'));
    ctx.set('Cache-Control', 'no-store');
    if (claims) {
      ctx.body = claims;
      return undefined;
    }
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Bearer error="invalid_token"');
    ctx.body = { error: 'invalid_token', error_description: 'The access token is not valid here, or not any more.' };
    return undefined;
  };
}
