// The whole way of a Premium application: a profile of AdsPower's from the pool, an automation that fills in a form, a human who sends it
// off, and the profile that rests afterwards. AdsPower is a stand-in, which opens real browsers.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CLIENTS } from './support/automations.js';
import { Daemon } from './support/daemon.js';
import { serveOrderPage } from './support/order-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

const DEADLINE_MS = 60_000;
const USER = 'alice';

let shop;
let daemon;
let browser;

before(async () => {
  shop = await serveOrderPage();
  daemon = await Daemon.start('about:blank', ['--adspower'], { tls: false });
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  const end = await daemon?.stop();
  shop?.close();
  if (end) assert.deepEqual(end, { code: 0, signal: null }, daemon.log);
});

/** The host API, as a control plane uses it. */
async function api(method, path, body, expected) {
  const response = await fetch(new URL(path, daemon.about.api_url), {
    method,
    headers: { Authorization: `Bearer ${daemon.about.operator_token}`, ...(body && { 'Content-Type': 'application/json' }) },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  assert.equal(response.status, expected, `${method} ${path}: ${JSON.stringify(answer)}\n${daemon.log}`);
  return answer;
}

const eventually = (what, look) => daemon.eventually(what, look, DEADLINE_MS);

const create = (id, expected = 201) => api('POST', '/v1/sessions?wait=ready&timeout=60s', {
  session_id: id, user_id: USER, kind: 'adspower', pool: true, start_url: shop.url, labels: { task_id: 'task-7' },
}, expected);

/** What the stand-in for a control plane has heard of a session, in its order. */
async function told(session) {
  const { events } = await (await fetch(new URL('/reports', daemon.about.control_plane_url))).json();
  return events.filter((event) => event.session_id === session).map((event) => event.type ?? event.kind);
}

test('from the pool to a human and back', async () => {
  for (const external of ['demo', 'demo-2']) {
    await api('POST', '/v1/profiles', { user_id: USER, kind: 'adspower', external_id: external }, 201);
  }
  const first = await create('p1');
  assert.match(first.profile, /^pool-/);
  const { tokens, cdp_http_url: cdp } = await api('GET', '/v1/sessions/p1/connection?tokens=automation,controller', undefined, 200);

  const automation = await CLIENTS[0].connect({ http: cdp, headers: { Authorization: `Bearer ${tokens.automation.token}` } });
  await automation.goto(shop.url);
  await automation.fill('#name', 'Alice Example');
  const asked = await api('POST', '/v1/sessions/p1/handoffs', { kind: 'review', reason: 'Ready to be sent.', event_scope: 'task-7' }, 201);
  const waiting = api('GET', `/v1/sessions/p1/handoffs/${asked.handoff_id}?wait=closed&timeout=60s`, undefined, 200);

  // The person sees the filled-in form in the picture, and presses its button there.
  const person = await Viewer.open(browser, Viewer.link(daemon.about, tokens.controller.token, 'p1'));
  await person.reaches('live');
  await person.page.locator('#handoff-title', { hasText: 'Please check before it is sent' }).waitFor({ state: 'visible' });
  const inPage = await automation.middle('#order');
  const [left, top] = await automation.offset();
  await person.click({ x: inPage.x + left, y: inPage.y + top });
  await eventually('the order to arrive', () => shop.orders.includes('Alice Example'));
  await person.screenshot('premium');
  await person.page.click('#handoff-yes');
  const closed = await waiting;
  assert.deepEqual([closed.state, closed.event_scope], ['approved', 'task-7'], JSON.stringify(closed));
  await automation.close();
  await person.close();

  await api('DELETE', '/v1/sessions/p1?wait=ended&timeout=60s', undefined, 200);
  const rested = await eventually('the profile to rest', async () => {
    const profile = await api('GET', `/v1/profiles/${first.profile}`, undefined, 200);
    return profile.state === 'cooldown' && profile;
  });
  assert.equal(rested.uses, 1, JSON.stringify(rested));
  const events = await eventually('the control plane to hear of the end', async () => {
    const heard = await told('p1');
    return heard.includes('session.ended') && heard;
  });
  const order = ['session.created', 'human.requested', 'human.approved', 'session.ended'];
  assert.deepEqual(events.filter((event) => order.includes(event)), order, events.join(' '));

  const second = await create('p2');
  assert.notEqual(second.profile, first.profile);
  await api('DELETE', '/v1/sessions/p2?wait=ended&timeout=60s', undefined, 200);
  await eventually('both to rest', async () => (await api('GET', `/v1/profiles/${second.profile}`, undefined, 200)).state === 'cooldown');
  const refused = await create('p3', 503);
  assert.equal(refused.type, 'urn:valetd:problem:profiles-cooling');
});
