// A host that goes away tells its viewers, and the page comes back by itself for as long as it is let.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { serveSandboxPage } from './support/sandbox-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

test('SIGTERM closes with 1001; the page says that the host restarts, and counts down', async () => {
  const sandboxPage = await serveSandboxPage();
  const daemon = await Daemon.start(sandboxPage.url);
  const browser = await launchBrowser();
  try {
    const viewer = await Viewer.open(browser, Viewer.link(daemon.about, daemon.about.token));
    await viewer.reaches('live');
    // The card of the first moment: the next attempt already finds nobody.
    const seen = viewer.page.waitForFunction(() => document.body.dataset.state === 'waiting'
      && { title: document.getElementById('card-title').textContent, picture: Boolean(document.querySelector('.last-picture')) }, null, { polling: 'raf' });
    daemon.drain();
    assert.deepEqual(await (await seen).jsonValue(), { title: 'The host is restarting', picture: true });
    await viewer.screenshot('restarting');
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.log);

    await viewer.page.waitForFunction(() => document.getElementById('card-title').textContent === 'Cannot reach the host', null, { timeout: 30_000 });
    await viewer.screenshot('unreachable');
    await viewer.page.click('#card-secondary');
    await viewer.reaches('over');
    assert.equal((await viewer.card()).title, 'Disconnected');
  } finally {
    await browser.close();
    await daemon.stop();
    sandboxPage.close();
  }
});
