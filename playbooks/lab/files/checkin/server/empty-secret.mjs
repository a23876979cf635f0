// oidc-agent sends a public client's name with an empty secret as HTTP Basic, and at times nowhere else. Keycloak takes
// that for the name alone; oidc-provider refuses it, so it gets the name where it wants it.
import { buffer } from 'node:stream/consumers';

function nameWithoutSecret(authorization = '') {
  const [, credentials = ''] = /^Basic (\S+)$/i.exec(authorization) ?? [];
  const [, name] = /^([^:]+):$/.exec(Buffer.from(credentials, 'base64').toString()) ?? [];
  return name;
}

export async function acceptEmptySecret(ctx, next) {
  const name = ctx.method === 'POST' ? nameWithoutSecret(ctx.get('Authorization')) : undefined;
  if (name) {
    delete ctx.req.headers.authorization;
    const body = new URLSearchParams((await buffer(ctx.req)).toString());
    body.set('client_id', body.get('client_id') ?? name);
    ctx.req.body = body.toString(); // oidc-provider's place for a body that was read already
  }
  return next();
}
