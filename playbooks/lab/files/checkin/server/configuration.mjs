// How oidc-provider is made to look like EGI Check-in, which is a Keycloak: its paths, its claims, its access tokens.
import { claimsByScope, claimsOf, scopes } from './claims.mjs';
import { publicKeys } from './keys.mjs';
import * as pages from './pages.mjs';
import { personBySubject, settings } from './settings.mjs';
import { Store } from './store.mjs';

const path = new URL(settings.issuer).pathname;
// Access tokens are JWTs only for a resource server, so there is one, which all clients get tokens for.
const resource = `${settings.issuer}/any-service`;
export const routes = {
  authorization: '/protocol/openid-connect/auth',
  token: '/protocol/openid-connect/token',
  jwks: '/protocol/openid-connect/certs',
  userinfo: '/protocol/openid-connect/userinfo',
  revocation: '/protocol/openid-connect/revoke',
  end_session: '/protocol/openid-connect/logout',
  device_authorization: '/protocol/openid-connect/auth/device',
  code_verification: '/device',
};

// All clients are the federation's own, as at Check-in: signing in is consent enough.
async function grantWithoutAsking(ctx) {
  const { client, provider, session, result } = ctx.oidc;
  const known = result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  const grant = (known && await provider.Grant.find(known))
    || new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  grant.addOIDCScope(scopes.join(' '));
  grant.addResourceScope(resource, scopes.join(' '));
  await grant.save();
  return grant;
}

async function findAccount(ctx, subject) {
  if (!personBySubject(subject)) return undefined;
  return {
    accountId: subject,
    claims: async (use, scope) => claimsOf(subject, scope.split(' ')),
  };
}

// What Keycloak puts into an access token and oidc-provider does not, and the other way round.
function likeKeycloak(ctx, token, jwt) {
  const { client_id: azp, ...claims } = jwt.payload;
  jwt.header = { typ: 'JWT' };
  // Check-in's have no audience. oidc-provider refuses to sign without one, so it gets one that JSON leaves out.
  jwt.payload = { ...claims, azp, typ: 'Bearer', aud: { toJSON: () => undefined } };
}

export function configuration(keys) {
  return {
    adapter: Store,
    clients: settings.clients,
    claims: claimsByScope,
    scopes,
    findAccount,
    loadExistingGrant: grantWithoutAsking,
    extraTokenClaims: async (ctx, token) => claimsOf(token.accountId, token.scope?.split(' ') ?? []),
    conformIdTokenClaims: false, // ID tokens carry what the scopes ask for, not only userinfo
    cookies: { keys: keys.cookies },
    jwks: { keys: keys.signing },
    routes,
    responseTypes: ['code'],
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
    discovery: { userinfo_endpoint: `${settings.issuer}${routes.userinfo}` },
    interactions: { url: async (ctx, interaction) => `${path}/interaction/${interaction.uid}` },
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: false,
    expiresWithSession: () => false,
    renderError: async (ctx, out) => pages.failure(ctx, out.error_description ?? out.error),
    ttl: {
      AccessToken: settings.access_token_lifetime,
      IdToken: settings.access_token_lifetime,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 30 * 86400,
      Interaction: 3600,
      RefreshToken: 30 * 86400,
      Session: 86400,
    },
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      deviceFlow: {
        enabled: true,
        charset: 'base-20',
        mask: '****-****',
        userCodeInputSource: async (ctx, form, out, error) => pages.enterCode(ctx, form, error),
        userCodeConfirmSource: async (ctx, form, client, device, code) => pages.confirmCode(ctx, form, client.clientId, code),
        successSource: async (ctx) => pages.deviceDone(ctx),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => resource,
        useGrantedResource: async () => true,
        getResourceServerInfo: async () => ({
          scope: scopes.join(' '),
          accessTokenFormat: 'jwt',
          accessTokenTTL: settings.access_token_lifetime,
          jwt: { sign: { alg: 'RS256', kid: publicKeys(keys).keys[0].kid } },
        }),
      },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      // oidc-provider's own knows opaque tokens only; see userinfo.mjs.
      userinfo: { enabled: false },
    },
    formats: { customizers: { jwt: likeKeycloak } },
  };
}
