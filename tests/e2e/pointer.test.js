// On a display that the daemon serves itself, noVNC shows everybody one pointer: whoever moves it the browser's own, the
// others the one in the picture. Other controllers have a dot of noVNC's for their own mouse.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Daemon } from './support/daemon.js';
import { Sandbox } from './support/sandbox.js';
import { COLOURS, serveSandboxPage } from './support/sandbox-page.js';
import { Viewer, launchBrowser } from './support/viewer.js';

/** Columns and rows from where the pointer points that its image lies on, whatever it looks like. */
const REACH = 14;
const TOLERANCE = 12;
const DEADLINE_MS = 20_000;

/** How many pixels beside and below a block's middle are not of its colour, and what the viewer's own pointer is. */
async function shown(viewer, middle, colour) {
  const offsets = Array.from({ length: REACH }, (_, index) => index);
  const points = offsets.flatMap((dx) => offsets.map((dy) => ({ x: Math.round(middle.x) + dx, y: Math.round(middle.y) + dy })));
  const pixels = await viewer.pixels(points);
  const strange = pixels.filter((pixel) => pixel.some((value, channel) => Math.abs(value - colour[channel]) > TOLERANCE)).length;
  const own = await viewer.page.evaluate(() => document.querySelector('#screen canvas').style.cursor);
  return { painted: strange > 10, clean: strange === 0, own: own.startsWith('url(') };
}

async function shows(viewer, what, middle, colour, wanted) {
  const end = Date.now() + DEADLINE_MS;
  let last;
  do {
    last = await shown(viewer, middle, colour);
    if (Object.entries(wanted).every(([name, value]) => last[name] === value)) return;
    await viewer.page.waitForTimeout(50);
  } while (Date.now() < end);
  await viewer.screenshot('pointer');
  assert.fail(`${what}: ${JSON.stringify(last)}`);
}

test('whoever moves the pointer has its own, and the others see that one in the picture', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'valetd-e2e-'));
  const config = join(folder, 'extra.toml');
  writeFileSync(config, '[display]\nrfb = "native"\n');
  const sandboxPage = await serveSandboxPage();
  const daemon = await Daemon.start(sandboxPage.url, ['--config', config]);
  const sandbox = await Sandbox.connect(daemon.about, sandboxPage.url);
  const browser = await launchBrowser();
  try {
    const open = async (token) => {
      const viewer = await Viewer.open(browser, Viewer.link(daemon.about, token));
      await viewer.reaches('live');
      return viewer;
    };
    const one = await open(daemon.about.token);
    const other = await open(daemon.about.token);
    const spectator = await open(daemon.about.spectator_token);
    const [first, second] = await sandbox.locateAll('#blocks div');
    const move = async (viewer, to) => {
      const { x, y } = await viewer.onPage(to);
      await viewer.page.mouse.move(x, y);
    };

    await move(one, first);
    await shows(one, 'its own pointer', first, COLOURS[0], { clean: true, own: true });
    await shows(other, 'the pointer in the picture', first, COLOURS[0], { painted: true });
    await shows(spectator, 'the pointer in the picture', first, COLOURS[0], { painted: true, own: false });
    await spectator.screenshot('pointer-painted');

    // Another one's press takes over at once.
    const there = await other.onPage(second);
    await other.page.mouse.move(there.x, there.y);
    await other.page.mouse.down();
    await other.page.mouse.up();
    await shows(other, 'its own pointer', second, COLOURS[1], { clean: true, own: true });
    await shows(spectator, 'it is elsewhere', second, COLOURS[1], { painted: true, own: false });
    for (const viewer of [one, spectator]) {
      await shows(viewer, 'it is elsewhere', second, COLOURS[1], { painted: true });
      await shows(viewer, 'and was drawn over', first, COLOURS[0], { clean: true });
    }
    for (const viewer of [one, other, spectator]) assert.deepEqual(viewer.complaints, []);
  } finally {
    await browser.close();
    await sandbox.close();
    await daemon.stop();
    sandboxPage.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
