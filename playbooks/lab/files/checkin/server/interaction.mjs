// The login page, behind oidc-provider's "interactions" (its docs/README.md, "User flows").
import { createHash, timingSafeEqual } from 'node:crypto';

import * as pages from './pages.mjs';
import { personByName } from './settings.mjs';

const PATH = /^\/interaction\/[\w-]+$/;
const LONGEST_FORM = 4096; // bytes

async function readForm(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > LONGEST_FORM) throw Object.assign(new Error('The form is too long.'), { status: 413, expose: true });
  }
  return new URLSearchParams(body);
}

// Passwords are long and random, so a plain digest of one tells nothing.
function passwordFits(person, password) {
  const given = createHash('sha256').update(password).digest();
  const wanted = Buffer.from(person?.password_sha256 ?? '', 'hex');
  return wanted.length === given.length && timingSafeEqual(given, wanted);
}

export function interaction(provider) {
  return async (ctx, next) => {
    if (!PATH.test(ctx.path) || !['GET', 'POST'].includes(ctx.method)) return next();
    const { prompt, params } = await provider.interactionDetails(ctx.req, ctx.res);
    const finish = async (result) => {
      ctx.status = 303;
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: true }));
    };

    if (prompt.name === 'consent') return finish({ consent: {} });
    if (ctx.method === 'GET') return pages.signIn(ctx, { client: params.client_id, name: params.login_hint });

    const form = await readForm(ctx.req);
    const name = form.get('username') ?? '';
    const person = personByName(name);
    if (!passwordFits(person, form.get('password') ?? '')) {
      return pages.signIn(ctx, { client: params.client_id, name, refusal: 'User name and password do not go together.' });
    }
    return finish({ login: { accountId: person.subject } });
  };
}
