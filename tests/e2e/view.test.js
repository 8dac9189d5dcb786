// The person at the controls: sees the sandboxed page's own pixels over wss, clicks, types, and is told what happens.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { Sandbox } from './support/sandbox.js';
import { COLOURS, serveSandboxPage } from './support/sandbox-page.js';
import { Mint, now } from './support/tokens.js';
import { Viewer, launchBrowser } from './support/viewer.js';

/** JPEG may be a little off; the colours are 40 and more apart. */
const COLOUR_TOLERANCE = 10;

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
  const end = await daemon?.stop();
  sandboxPage?.close();
  if (end) assert.deepEqual(end, { code: 0, signal: null }, daemon.log);
});

/** Waits until the viewer shows the blocks in their colours; fails with what it showed instead. */
async function showsTheBlocks(viewer) {
  const points = await sandbox.locateAll('#blocks div');
  assert.equal(points.length, COLOURS.length);
  const matches = (seen) => seen.every((rgb, index) => rgb.every((value, channel) => Math.abs(value - COLOURS[index][channel]) <= COLOUR_TOLERANCE));
  const deadline = Date.now() + 20_000;
  let seen = await viewer.pixels(points);
  while (!matches(seen) && Date.now() < deadline) {
    await viewer.page.waitForTimeout(100);
    seen = await viewer.pixels(points);
  }
  assert.ok(matches(seen), `saw ${JSON.stringify(seen)} in place of ${JSON.stringify(COLOURS)}`);
}

test('the page shows the sandboxed page’s own pixels over wss', async () => {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
  await viewer.reaches('live');
  assert.match(viewer.page.url(), /^https:/);
  assert.equal(await viewer.page.textContent('#role .long'), 'You are in control');
  await showsTheBlocks(viewer);
  await viewer.screenshot('live');
  assert.deepEqual(viewer.complaints, []);
  await viewer.close();
});

test('a click and typed text change the sandboxed page', async () => {
  await sandbox.reset();
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
  await viewer.reaches('live');
  await viewer.click(await sandbox.locate('#field'));
  await sandbox.page.waitForFunction(() => document.activeElement.id === 'field', null, { timeout: 15_000 });
  await viewer.page.keyboard.type('Hello, World 42!', { delay: 15 });
  await sandbox.page.waitForFunction(() => document.getElementById('field').value === 'Hello, World 42!', null, { timeout: 15_000 });
  await viewer.click(await sandbox.locate('#button'));
  await sandbox.page.waitForFunction(() => window.clicks === 1, null, { timeout: 15_000 });
  await viewer.screenshot('typed');
  await viewer.close();
});

test('text put on the remote clipboard can be pasted there', async () => {
  const text = 'pasted from outside: 42';
  await sandbox.reset();
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
  await viewer.reaches('live');
  await viewer.page.click('#clipboard');
  await viewer.page.fill('#clip-out', text);
  await viewer.page.click('#clip-send');
  await viewer.screenshot('clipboard');
  await viewer.page.press('#clip-out', 'Escape');
  await viewer.click(await sandbox.locate('#field'));
  await viewer.page.keyboard.press('Control+v');
  await sandbox.page.waitForFunction((wanted) => document.getElementById('field').value === wanted, text, { timeout: 15_000 });
  await viewer.close();
});

test('text copied in the sandbox arrives in the clipboard panel', async () => {
  const text = 'copied inside: 42';
  await sandbox.reset();
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
  await viewer.reaches('live');
  await sandbox.page.fill('#field', text);
  await viewer.click(await sandbox.locate('#field'));
  await viewer.page.keyboard.press('Control+a');
  await viewer.page.keyboard.press('Control+c');
  await viewer.page.waitForFunction((wanted) => document.getElementById('clip-in').value === wanted, text, { timeout: 15_000 });
  await viewer.close();
});

test('the credential leaves the address at once, is stored nowhere, and a reload asks for the link', async () => {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
  await viewer.reaches('live');
  assert.equal(new URL(viewer.page.url()).hash, '');
  const kept = await viewer.page.evaluate(async () => JSON.stringify([
    { ...localStorage }, { ...sessionStorage }, document.cookie, history.state, await indexedDB.databases(), document.documentElement.outerHTML,
  ]));
  assert.ok(!kept.includes(daemon.about.token));
  await viewer.page.reload();
  await viewer.reaches('no-link');
  assert.equal((await viewer.card()).title, 'Open your viewer link');
  await viewer.screenshot('no-link');

  await viewer.page.fill('#link', 'https://example.org/');
  await viewer.page.press('#link', 'Enter');
  assert.match(await viewer.page.textContent('#link-problem'), /not a viewer link/);
  await viewer.page.fill('#link', Viewer.link(daemon.about, daemon.about.token));
  await viewer.page.press('#link', 'Enter');
  await viewer.reaches('live');
  assert.equal(await viewer.page.inputValue('#link'), '');
  await viewer.close();
});

test('a token that expires mid-view ends it, and the page says so', async () => {
  const expires = now() + 8;
  const token = new Mint(daemon.about).hs256({ exp: expires });
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, token));

  await viewer.reaches('live');
  assert.match(await viewer.page.textContent('#expiry'), /^Ends in 0:0\d$/);
  await viewer.screenshot('expiring');
  await viewer.reaches('over', 25_000);
  const lateMs = Date.now() - expires * 1000;
  assert.ok(lateMs >= -1000 && lateMs < 7000, `ended ${lateMs} ms after the token did`);
  assert.equal((await viewer.card()).title, 'Your access has expired');
  await viewer.screenshot('expired');

  await viewer.close();
});

test('a refused link says that it does not work', async () => {
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, new Mint(daemon.about).hs256({ exp: now() - 60 })));
  await viewer.reaches('over');
  assert.equal((await viewer.card()).title, 'This link does not work');
  await viewer.screenshot('refused');
  await viewer.close();
});

test('on a phone the bar fits, and the on-screen keyboard’s text arrives', async () => {
  await sandbox.reset();
  const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token), {
    viewport: { width: 360, height: 720 }, hasTouch: true, isMobile: true,
  });
  await viewer.reaches('live');
  assert.equal(await viewer.page.evaluate(() => document.documentElement.scrollWidth), 360);
  const { x, y } = await viewer.onPage(await sandbox.locate('#field'));
  await viewer.page.touchscreen.tap(x, y);
  await sandbox.page.waitForFunction(() => document.activeElement.id === 'field', null, { timeout: 15_000 });
  await viewer.page.click('#keyboard');
  await viewer.page.keyboard.insertText('Grüße');
  await viewer.page.keyboard.press('Backspace');
  await sandbox.page.waitForFunction(() => document.getElementById('field').value === 'Grüß', null, { timeout: 15_000 });
  await viewer.screenshot('phone');
  await viewer.close();
});
