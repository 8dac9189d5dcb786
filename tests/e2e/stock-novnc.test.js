// `[gateway] static_dir` serves another noVNC, and its stock page works against /websockify.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { ticket } from './support/http.js';
import { Sandbox } from './support/sandbox.js';
import { COLOURS, serveSandboxPage } from './support/sandbox-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

/** Where Debian's package `novnc` puts it; another tree can be named. */
const TREE = process.env.NOVNC_TREE ?? '/usr/share/novnc';
const skip = existsSync(join(TREE, 'vnc.html')) ? false : `no noVNC tree at ${TREE} (package novnc, or NOVNC_TREE)`;

test('stock vnc.html shows the picture and drives the page', { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'valetd-e2e-'));
  const config = join(folder, 'extra.toml');
  writeFileSync(config, `[gateway]\nstatic_dir = ${JSON.stringify(TREE)}\n`);
  const sandboxPage = await serveSandboxPage();
  const daemon = await Daemon.start(sandboxPage.url, ['--config', config]);
  const sandbox = await Sandbox.connect(daemon.about, sandboxPage.url);
  const browser = await launchBrowser();
  try {
    const one = await ticket(daemon.about, daemon.about.token);
    const path = encodeURIComponent(`websockify?ticket=${one}`);
    const viewer = await Viewer.open(browser, new URL(`/novnc/vnc.html?autoconnect=true&path=${path}`, daemon.about.gateway_url).href);
    await viewer.page.waitForSelector('html.noVNC_connected', { timeout: 20_000 });
    const points = await sandbox.locateAll('#blocks div');
    await viewer.page.waitForFunction(({ wanted, colours }) => {
      const context = document.querySelector('#noVNC_container canvas').getContext('2d');
      return wanted.every(({ x, y }, index) => context.getImageData(Math.round(x), Math.round(y), 1, 1).data.slice(0, 3)
        .every((value, channel) => Math.abs(value - colours[index][channel]) <= 10));
    }, { wanted: points, colours: COLOURS }, { timeout: 20_000 });

    await sandbox.reset();
    const { x, y } = await sandbox.locate('#field');
    await viewer.page.mouse.move(x, y);
    await viewer.page.mouse.click(x, y);
    await sandbox.page.waitForFunction(() => document.activeElement.id === 'field', null, { timeout: 15_000 });
    await viewer.page.keyboard.type('stock', { delay: 15 });
    await sandbox.page.waitForFunction(() => document.getElementById('field').value === 'stock', null, { timeout: 15_000 });
    await viewer.screenshot('stock-novnc');
  } finally {
    await browser.close();
    await sandbox.close();
    await daemon.stop();
    sandboxPage.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
