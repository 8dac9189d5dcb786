// Who may not come in is told so before the upgrade, with the right status.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { fetchFrom, ticket, upgrade } from './support/http.js';
import { serveSandboxPage } from './support/sandbox-page.js';
import { Mint, now, rsaKey } from './support/tokens.js';
import { Viewer, launchBrowser } from './support/viewer.js';

const SHARED = { kid: 'shared', secret: 'a secret that only the tests and this daemon know' };

let folder;
let sandboxPage;
let daemon;
let mint;
const known = rsaKey();
const stranger = rsaKey();

before(async () => {
  sandboxPage = await serveSandboxPage();
  folder = mkdtempSync(join(tmpdir(), 'valetd-e2e-'));
  daemon = await Daemon.start(sandboxPage.url, ['--config', writeConfig()]);
  mint = new Mint(daemon.about, SHARED);
});

after(async () => {
  await daemon?.stop();
  sandboxPage?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Two keys, one shared and one public, so that there is something to swap. */
function writeConfig() {
  const secret = join(folder, 'secret');
  const publicKey = join(folder, 'public.pem');
  const config = join(folder, 'extra.toml');
  writeFileSync(secret, SHARED.secret, { mode: 0o600 });
  writeFileSync(publicKey, known.publicPem);
  writeFileSync(config, `
[[auth.keys]]
kid = "shared"
algorithm = "HS256"
secret = ${JSON.stringify(secret)}

[[auth.keys]]
kid = "rsa"
algorithm = "RS256"
public_key_file = ${JSON.stringify(publicKey)}
`);
  return config;
}

const bearer = (token) => ({ Authorization: `Bearer ${token}` });
const protocols = (token) => ({ 'Sec-WebSocket-Protocol': `binary, jwt.${token}` });
const vncPath = (session = daemon.about.session_id) => `/sessions/${session}/vnc`;

const BAD_TOKENS = {
  expired: () => mint.hs256({ exp: now() - 60 }),
  'not valid yet': () => mint.hs256({ nbf: now() + 600 }),
  unsigned: () => mint.unsigned(),
  'alg none': () => mint.algNone(),
  'alg none with a signature': () => mint.algNoneSigned(),
  'unknown kid': () => mint.hs256({}, { kid: 'no-such-key' }),
  'kid of another key': () => mint.hs256({}, { kid: 'rsa' }),
  'signed with another secret': () => mint.otherSecret(),
  'HS512 with the right secret': () => mint.hs512(),
  'RS256 from a stranger’s key': () => mint.rs256(stranger.privateKey, { kid: 'rsa' }),
  'RS256 from the known key, under the shared one’s kid': () => mint.rs256(known.privateKey, { kid: 'shared' }),
  'RS256 in name, HMAC in truth': () => mint.hs256({}, { alg: 'RS256' }),
  'HS256 with the public key for its secret': () => mint.hs256WithPublicKey(known.publicPem, { kid: 'rsa' }),
  'HS256 with the public key for its secret, under the shared one’s kid': () => mint.hs256WithPublicKey(known.publicPem),
  'claims of another token': () => mint.claimsSwapped(),
  'no session in it': () => mint.hs256({ session_id: undefined }),
  'no user in it': () => mint.hs256({ user_id: undefined }),
  'no end': () => mint.hs256({ exp: undefined }),
  'end given as text': () => mint.hs256({ exp: '9999999999' }),
  'not a token at all': () => 'AAAA',
};

describe('a bad token is answered 401', () => {
  for (const [name, make] of Object.entries(BAD_TOKENS)) {
    test(name, async () => {
      const token = make();
      const { gateway_url: gateway, session_id: session } = daemon.about;
      for (const [path, headers] of [[vncPath(), bearer(token)], [vncPath(), protocols(token)], ['/websockify', protocols(token)]]) {
        const { status, body } = await upgrade(gateway, path, headers);
        assert.equal(status, 401, `${path}: ${body}`);
        assert.ok(!body.includes(token), 'the answer repeats the token');
      }
      const { status } = await fetchFrom(gateway, `/sessions/${session}/ticket`, { method: 'POST', headers: bearer(token) });
      assert.equal(status, 401);
    });
  }
});

test('no credential is answered 401', async () => {
  for (const path of [vncPath(), '/websockify', vncPath('no-such-session'), `${vncPath()}?ticket=`, `${vncPath()}?ticket=AAAA`]) {
    assert.equal((await upgrade(daemon.about.gateway_url, path)).status, 401, path);
  }
});

test('a token in the query is not taken', async () => {
  assert.equal((await upgrade(daemon.about.gateway_url, `${vncPath()}?token=${mint.hs256()}`)).status, 401);
});

test('a token for another session is answered 403', async () => {
  const foreign = mint.hs256({ session_id: 'another-session' });
  assert.equal((await upgrade(daemon.about.gateway_url, vncPath(), bearer(foreign))).status, 403);
  const { status } = await fetchFrom(daemon.about.gateway_url, `/sessions/${daemon.about.session_id}/ticket`, { method: 'POST', headers: bearer(foreign) });
  assert.equal(status, 403);
});

test('a role that may not look is answered 403', async () => {
  for (const role of ['automation', 'operator']) {
    assert.equal((await upgrade(daemon.about.gateway_url, vncPath(), bearer(mint.hs256({ role })))).status, 403, role);
  }
});

test('another origin is answered 403, however good the token', async () => {
  const headers = { ...bearer(mint.hs256()), Origin: 'https://evil.example' };
  assert.equal((await upgrade(daemon.about.gateway_url, vncPath(), headers)).status, 403);
});

test('a session that does not exist is answered 404, to a good token for it only', async () => {
  const token = mint.hs256({ session_id: 'gone' });
  assert.equal((await upgrade(daemon.about.gateway_url, vncPath('gone'), bearer(token))).status, 404);
});

test('a good token is let in, and the subprotocol answered is binary', async () => {
  for (const token of [mint.hs256(), mint.rs256(known.privateKey, { kid: 'rsa' })]) {
    assert.equal((await upgrade(daemon.about.gateway_url, vncPath(), bearer(token))).status, 101);
  }
  for (const path of [vncPath(), '/websockify']) {
    const byProtocol = await upgrade(daemon.about.gateway_url, path, protocols(mint.hs256()));
    assert.equal(byProtocol.status, 101, path);
    assert.equal(byProtocol.headers['sec-websocket-protocol'], 'binary');
  }
});

test('a ticket works once, and for its own session only', async () => {
  const one = await ticket(daemon.about, mint.hs256());
  assert.equal((await upgrade(daemon.about.gateway_url, `${vncPath()}?ticket=${one}`)).status, 101);
  assert.equal((await upgrade(daemon.about.gateway_url, `${vncPath()}?ticket=${one}`)).status, 401);
  const other = await ticket(daemon.about, mint.hs256());
  assert.ok([401, 403].includes((await upgrade(daemon.about.gateway_url, `${vncPath('another-session')}?ticket=${other}`)).status));
});

test('the close code of a token that expires is 4401', async () => {
  const browser = await launchBrowser();
  try {
    const viewer = await Viewer.open(browser, daemon.about.gateway_url);
    const expires = now() + 5;
    const granted = await ticket(daemon.about, mint.hs256({ exp: expires }));
    const code = await viewer.page.evaluate((path) => new Promise((resolve) => {
      new WebSocket(new URL(path, location.href.replace(/^http/, 'ws')), ['binary']).onclose = (event) => resolve(event.code);
    }), `${vncPath()}?ticket=${granted}`);
    assert.equal(code, 4401);
  } finally {
    await browser.close();
  }
});

test('the page and its files come with their policy, and nothing else is public', async () => {
  const page = await fetchFrom(daemon.about.gateway_url, '/');
  assert.equal(page.status, 200);
  assert.match(page.headers['content-security-policy'], /^default-src 'none'; script-src 'self';/);
  assert.equal(page.headers['referrer-policy'], 'no-referrer');
  assert.equal(page.headers['x-content-type-options'], 'nosniff');
  assert.equal((await fetchFrom(daemon.about.gateway_url, '/novnc/core/rfb.js')).status, 200);
  assert.equal((await fetchFrom(daemon.about.gateway_url, '/novnc/..%2f..%2fCargo.toml')).status, 404);
});
