// From outside: noVNC shows the host's browser over wss, and that browser's own page tells how it is sandboxed.
// usage: CONTROLLER=token OPERATOR=token node viewer.js GATEWAY     prints one line of JSON

import { chromium } from '../e2e/node_modules/playwright-core/index.mjs';
import { Viewer, launchBrowser } from '../e2e/support/viewer.js';

const DEADLINE_MS = 60_000;
/** Of the start page that tests/image/boot.py configures. */
const COLOUR = [46, 139, 87];
const [, , gateway] = process.argv;
const { CONTROLLER: controller, OPERATOR: operator } = process.env;

/** Waits until a point of the picture, below the browser's own bars, has the start page's colour. What it has. */
async function colourOf(viewer) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const [seen] = await viewer.pixels([{ x: 960, y: 700 }]);
    if (seen.every((value, channel) => Math.abs(value - COLOUR[channel]) <= 10) || Date.now() > deadline) return seen;
    await viewer.page.waitForTimeout(200);
  }
}

/** The lines of chrome://sandbox, which an operator's token may open. */
async function sandbox() {
  const browser = await chromium.connectOverCDP(`${gateway}/sessions/default/cdp`, {
    headers: { Authorization: `Bearer ${operator}` }, timeout: DEADLINE_MS,
  });
  const page = await browser.contexts()[0].newPage();
  await page.goto('chrome://sandbox', { timeout: DEADLINE_MS });
  await page.waitForFunction(() => document.body.innerText.includes('Seccomp-BPF'), null, { timeout: DEADLINE_MS });
  const text = await page.evaluate(() => document.body.innerText);
  await page.close();
  await browser.close();
  return text;
}

const own = await launchBrowser();
const viewer = await Viewer.open(own, `${gateway}/#session=default&token=${controller}`);
await viewer.reaches('live', DEADLINE_MS);
const colour = await colourOf(viewer);
const url = viewer.page.url();
const complaints = viewer.complaints;
await own.close();
console.log(JSON.stringify({ url, colour, expected: COLOUR, complaints, sandbox: await sandbox() }));
