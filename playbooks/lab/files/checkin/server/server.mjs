// The lab's stand-in for EGI Check-in: a certified OpenID provider with the claims and token shapes of EGI's.
import { execFileSync } from 'node:child_process';
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:https';

import { Provider } from 'oidc-provider';

import { configuration, routes } from './configuration.mjs';
import { acceptEmptySecret } from './empty-secret.mjs';
import { interaction } from './interaction.mjs';
import { readKeys } from './keys.mjs';
import { settings, tls } from './settings.mjs';
import { removeExpired } from './store.mjs';
import { userinfo } from './userinfo.mjs';

const HOUR = 3600 * 1000;
const keys = readKeys();
const provider = new Provider(settings.issuer, configuration(keys));

// The settings hold a digest of a client's secret (long and random), never the secret.
provider.Client.prototype.compareClientSecret = function compareClientSecret(given) {
  const digest = createHash('sha256').update(given).digest();
  const wanted = Buffer.from(this.clientSecret, 'hex');
  return wanted.length === digest.length && timingSafeEqual(digest, wanted);
};
provider.on('server_error', (ctx, error) => console.error(ctx.method, ctx.path, error));
provider.use(acceptEmptySecret);
provider.use(userinfo(settings.issuer, routes.userinfo, keys));
provider.use(interaction(provider));

const { pathname } = new URL(settings.issuer);
const answer = provider.callback();
const server = createServer(tls, (request, response) => {
  if (!request.url.startsWith(`${pathname}/`)) {
    response.writeHead(404).end();
    return;
  }
  // oidc-provider finds out from originalUrl below which path it is mounted.
  request.originalUrl = request.url;
  request.url = request.url.slice(pathname.length);
  answer(request, response);
});

removeExpired();
setInterval(removeExpired, HOUR).unref();
server.listen(settings.port, () => {
  console.log(`${settings.issuer} signs with key ${keys.signing[0].kid}`);
  if (process.env.NOTIFY_SOCKET) execFileSync('systemd-notify', ['--ready']);
});
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
