// A spectator sees what the others see, and changes nothing, whatever it sends. The same bytes from a controller do
// change something: without that, silence would prove nothing.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { ticket } from './support/http.js';
import { clickAndType, everyOtherInput, speakRawRfb } from './support/raw-rfb.js';
import { Sandbox } from './support/sandbox.js';
import { COLOURS, serveSandboxPage } from './support/sandbox-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

const UNTOUCHED = { marked: true, events: 0, clicks: 0, field: '', active: '', scroll: 0 };

let sandboxPage;
let daemon;
let sandbox;
let browser;

before(async () => {
  sandboxPage = await serveSandboxPage();
  daemon = await Daemon.start(sandboxPage.url);
  sandbox = await Sandbox.connect(daemon.about, sandboxPage.url);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await sandbox?.close();
  await daemon?.stop();
  sandboxPage?.close();
});

async function vncUrl(token) {
  const { gateway_url: gateway, session_id: session } = daemon.about;
  return `${gateway.replace(/^http/, 'ws').replace(/\/$/, '')}/sessions/${session}/vnc?ticket=${await ticket(daemon.about, token)}`;
}

async function assertUntouched() {
  const { location, ...state } = await sandbox.state();
  assert.deepEqual(state, UNTOUCHED);
  assert.equal(location, sandboxPage.url);
}

test('a spectator sees the same picture, and the page offers no controls', async () => {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.spectator_token));
  await viewer.reaches('live');
  assert.equal(await viewer.page.textContent('#role .long'), 'Viewing only');
  for (const tool of ['#keys', '#clipboard']) assert.equal(await viewer.page.isVisible(tool), false, tool);
  const points = await sandbox.locateAll('#blocks div');
  const close = (seen) => seen.flat().every((value, index) => Math.abs(value - COLOURS.flat()[index]) <= 10);
  const deadline = Date.now() + 20_000;
  let seen;
  do {
    seen = await viewer.pixels(points);
  } while (!close(seen) && Date.now() < deadline);
  assert.ok(close(seen), JSON.stringify(seen));
  await viewer.screenshot('spectator');

  await sandbox.reset();
  await viewer.click(await sandbox.locate('#field'));
  await viewer.page.keyboard.type('hello');
  await assertUntouched();
  await viewer.close();
});

test('noVNC with its view-only switch off changes nothing for a spectator', async () => {
  await sandbox.reset();
  const target = await sandbox.locate('#field');
  const url = await vncUrl(daemon.about.spectator_token);
  const viewer = await Viewer.open(browser, daemon.about.gateway_url);
  await viewer.page.evaluate(async (address) => {
    const { default: RFB } = await import('/novnc/core/rfb.js');
    document.getElementById('veil').hidden = true;
    window.rfb = new RFB(document.getElementById('screen'), address, { wsProtocols: ['binary'] });
    window.rfb.scaleViewport = true;
    window.rfb.viewOnly = false;
    await new Promise((resolve, reject) => {
      window.rfb.addEventListener('connect', resolve);
      window.rfb.addEventListener('disconnect', () => reject(new Error('disconnected')));
    });
  }, url);
  await viewer.click(target);
  await viewer.page.keyboard.type('hello');
  await viewer.page.mouse.wheel(0, 300);
  await viewer.page.evaluate(() => {
    window.rfb.sendCtrlAltDel();
    window.rfb.clipboardPasteFrom('from a spectator');
    window.rfb.resizeSession = true;
  });
  await viewer.page.setViewportSize({ width: 700, height: 500 });
  // A round trip of another connection that came later: by then the server has had time for this one's bytes.
  const result = await viewer.page.evaluate(speakRawRfb, { url: await vncUrl(daemon.about.spectator_token), messages: [], cut: 1 });
  assert.ok(result.answered);
  await assertUntouched();
  await viewer.close();
});

test('raw RFB changes nothing for a spectator, in one frame or byte by byte', async () => {
  const target = await sandbox.locate('#field');
  const viewer = await Viewer.open(browser, daemon.about.gateway_url);
  for (const cut of [1, 3, 4096]) {
    await sandbox.reset();
    const messages = [...clickAndType(target), ...everyOtherInput(target), ...clickAndType(target)];
    const url = await vncUrl(daemon.about.spectator_token);
    const result = await viewer.page.evaluate(speakRawRfb, { url, messages, cut });
    await assertUntouched();
    assert.ok(result.opened && result.answered, `cut ${cut}: ${JSON.stringify(result)}`);
  }
  await viewer.close();
});

test('the same bytes from a controller do change the page', async () => {
  await sandbox.reset();
  const target = await sandbox.locate('#field');
  const viewer = await Viewer.open(browser, daemon.about.gateway_url);
  const url = await vncUrl(daemon.about.token);
  const result = await viewer.page.evaluate(speakRawRfb, { url, messages: clickAndType(target), cut: 1 });
  assert.ok(result.answered, JSON.stringify(result));
  await sandbox.page.waitForFunction(() => document.getElementById('field').value === 'x', null, { timeout: 15_000 });
  await viewer.close();
});
