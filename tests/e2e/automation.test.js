// Automations drive the sandboxed browser through the gateway, at an address that stays when the browser does not.
//
// CDP_DIRECT=1 connects straight to the browser's port instead: whether a failure is the proxy's or the client's.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CLIENTS } from './support/automations.js';
import { Daemon } from './support/daemon.js';
import { CONFIRMED, serveOrderPage } from './support/order-page.js';
import { decodePng } from './support/png.js';

const DEADLINE_MS = 30_000;
const DIRECT = process.env.CDP_DIRECT === '1';

let shop;
let daemon;

before(async () => {
  shop = await serveOrderPage();
  // Plain: not every client can be told to take a certificate of ours.
  daemon = await Daemon.start('about:blank', [], { tls: false });
});

after(async () => {
  const end = await daemon?.stop();
  shop?.close();
  if (end) assert.deepEqual(end, { code: 0, signal: null }, daemon.log);
});

const eventually = (what, look) => daemon.eventually(what, look, DEADLINE_MS);

async function session() {
  const { sessions } = await daemon.status();
  return sessions.find((candidate) => candidate.id === daemon.about.session_id);
}

async function browserComponent() {
  return (await session()).components.find((component) => component.name === 'browser');
}

/** Where clients connect to. */
async function address() {
  if (DIRECT) {
    const http = `http://127.0.0.1:${(await session()).devtools_port}`;
    const version = await (await fetch(`${http}/json/version`)).json();
    return { http, ws: version.webSocketDebuggerUrl, headers: {}, direct: true };
  }
  const { gateway_url: gateway, session_id: id, automation_token: token } = daemon.about;
  const http = new URL(`/sessions/${id}/cdp`, gateway).href;
  return { http, ws: http.replace(/^http/, 'ws'), headers: { Authorization: `Bearer ${token}` }, direct: false };
}

/** Whether a file with just these bytes lies in a directory for downloads of this run. */
function isDownloaded(bytes) {
  let files;
  try {
    files = readdirSync(daemon.directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\/downloads(\/|$)/i.test(entry.parentPath ?? entry.path));
  } catch {
    // A directory that went while it was looked through, as those of a browser do.
    return false;
  }
  return files.some((entry) => {
    try {
      return readFileSync(join(entry.parentPath ?? entry.path, entry.name)).equals(bytes);
    } catch {
      // Renamed since it was listed, as the browser does with what is complete.
      return false;
    }
  });
}

async function orders(driver, name) {
  await driver.goto(shop.url);
  await driver.fill('#name', name);
  await driver.click('#order');
  const { x, y } = await driver.middle('#block');
  assert.equal(shop.orders.at(-1), name);

  const picture = decodePng(await driver.screenshot());
  assert.ok(picture.width >= 400 && picture.height >= 300, `${picture.width}x${picture.height}`);
  assert.deepEqual(picture.at(x, y), CONFIRMED);
  assert.deepEqual(picture.at(2, 2), [255, 255, 255]);
}

async function downloads(driver) {
  const report = shop.newReport();
  await driver.click('#report');
  await eventually('the report in the session’s downloads', () => isDownloaded(report));
}

for (const { name, connect, missing } of CLIENTS) {
  test(`${name} navigates, fills a form, clicks, takes a screenshot and downloads, and again after the browser was killed`, { skip: missing }, async () => {
    const first = await connect(await address());
    await orders(first, `${name} & first`);
    await downloads(first);

    const killed = await browserComponent();
    process.kill(killed.pid, 'SIGKILL');
    await eventually('another browser', async () => {
      const { pid, status } = await browserComponent();
      return status === 'ok' && pid && pid !== killed.pid;
    });
    // Its connection is gone; letting go of it is no error that matters.
    await first.close().catch(() => {});

    const second = await connect(await address());
    await orders(second, `${name} & second`);
    await downloads(second);
    await second.close();
    // Letting go has not ended the browser.
    assert.equal((await browserComponent()).status, 'ok');
  });
}
