// A human is asked for: the page says what is wanted, whoever is in control answers, and whoever waits hears of it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { serveSandboxPage } from './support/sandbox-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

let sandboxPage;
let daemon;
let browser;

before(async () => {
  sandboxPage = await serveSandboxPage();
  daemon = await Daemon.start(sandboxPage.url);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await daemon?.stop();
  sandboxPage?.close();
});

/** The host API, as a control plane uses it. */
async function api(method, path, body) {
  const response = await fetch(new URL(`/v1/sessions/${daemon.about.session_id}/handoffs${path}`, daemon.about.api_url), {
    method,
    headers: { Authorization: `Bearer ${daemon.about.operator_token}`, ...(body && { 'Content-Type': 'application/json' }) },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

async function ask(handoff) {
  const asked = await api('POST', '', handoff);
  assert.equal(asked.status, 201, JSON.stringify(asked.body));
  return asked.body.handoff_id;
}

async function open(token) {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, token));
  await viewer.reaches('live');
  return viewer;
}

const shows = (viewer, title) => viewer.page.locator('#handoff-title', { hasText: title }).waitFor({ state: 'visible' });
const isGone = (viewer) => viewer.page.locator('#handoff').waitFor({ state: 'hidden' });

test('a viewer sees what is wanted as it comes, and the one in control answers', async () => {
  const [controller, spectator] = [await open(daemon.about.token), await open(daemon.about.spectator_token)];
  assert.equal(await controller.page.isVisible('#handoff'), false);
  const reason = 'Salary expectation: 60 000 or 65 000?\nBoth are in the CV. <b>Please choose.</b>';
  const id = await ask({ kind: 'ambiguous_field', reason, event_scope: 'task-7' });
  const waiting = api('GET', `/${id}?wait=closed&timeout=60s`);
  for (const viewer of [controller, spectator]) {
    await shows(viewer, 'A field needs your decision');
    assert.equal(await viewer.page.textContent('#handoff-reason'), reason, 'text is shown as text');
    assert.match(await viewer.page.textContent('#handoff-left'), /^1[45]:\d\d$/);
  }
  assert.equal(await spectator.page.isVisible('#handoff-answer'), false, 'who only looks does not answer');
  // The picture is beside it, not beneath it.
  const [strip, stage] = await controller.page.evaluate(() => ['#handoff', '#stage'].map((part) => document.querySelector(part).getBoundingClientRect().toJSON()));
  assert.ok(strip.bottom <= stage.top + 1 && stage.height > 300, JSON.stringify({ strip, stage }));
  await controller.screenshot('handoff');
  await spectator.screenshot('handoff-spectator');

  await controller.page.fill('#handoff-note', 'took 65 000');
  await controller.page.click('#handoff-yes');
  const { body } = await waiting;
  assert.deepEqual([body.state, body.note, body.event_scope], ['resolved', 'took 65 000', 'task-7'], JSON.stringify(body));
  await Promise.all([isGone(controller), isGone(spectator)]);

  // A review has other answers; one of several is shown at a time.
  const first = await ask({ kind: 'review', reason: 'Ready to send.' });
  const second = await ask({ kind: 'captcha', reason: 'A picture puzzle.' });
  await shows(controller, 'Please check before it is sent');
  await controller.page.locator('#handoff-count', { hasText: '1 of 2' }).waitFor();
  await controller.page.click('#handoff-no');
  await shows(controller, 'The site asks for a human');
  assert.equal((await api('GET', `/${first}`)).body.state, 'rejected');
  // Answered elsewhere, it goes here as well.
  assert.equal((await api('POST', `/${second}/resolve`, { outcome: 'resolved' })).status, 200);
  await isGone(controller);
  assert.deepEqual([...controller.complaints, ...spectator.complaints], []);
  await controller.close();
  await spectator.close();
});

test('on a narrow screen all of it is within reach', async () => {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token), { viewport: { width: 390, height: 780 } });
  await viewer.reaches('live');
  const id = await ask({ kind: 'captcha', reason: 'The site shows pictures of bridges and wants those with a boat beneath.' });
  await shows(viewer, 'The site asks for a human');
  for (const part of ['#handoff-yes', '#handoff-no', '#handoff-note', '#handoff-left']) {
    const box = await viewer.page.locator(part).boundingBox();
    assert.ok(box && box.x >= 0 && box.x + box.width <= 390, `${part}: ${JSON.stringify(box)}`);
  }
  await viewer.screenshot('handoff-narrow');
  await viewer.page.click('#handoff-yes');
  await isGone(viewer);
  assert.equal((await api('GET', `/${id}`)).body.state, 'resolved');
  await viewer.close();
});
