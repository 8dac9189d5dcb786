// Playwright drives the session's browser through the gateway, over TLS: and again after that browser was killed.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Daemon } from './support/daemon.js';

const BACK_DEADLINE_MS = 60_000;
const PAGE = `<title>local</title><form><input id="name" name="name"><input type="file" id="file"><button>send</button></form>
<a href="/file">download</a>`;

let daemon;
let apart;
let directory;
let site;
let url;

before(async () => {
  // The gateway's certificate is its own.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  site = createServer((request, response) => {
    if (request.url === '/file') {
      response.setHeader('Content-Disposition', 'attachment; filename=got.txt');
      response.end('downloaded');
    } else {
      response.setHeader('Content-Type', 'text/html');
      response.end(PAGE);
    }
  });
  await new Promise((resolve) => { site.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${site.address().port}/`;
  daemon = await Daemon.start('about:blank');
  directory = await mkdtemp(join(tmpdir(), 'valetd-cdp-'));
  const config = join(directory, 'own-contexts.toml');
  await writeFile(config, '[cdp]\nown_contexts_only = true\n');
  apart = await Daemon.start('about:blank', ['--config', config]);
});

after(async () => {
  await daemon?.stop();
  await apart?.stop();
  if (directory) await rm(directory, { recursive: true });
  site?.closeAllConnections();
  site?.close();
});

const endpoint = (of = daemon) => `${of.about.gateway_url.replace(/\/$/, '')}/sessions/${of.about.session_id}/cdp`;
const connect = (at = endpoint(), of = daemon) => chromium.connectOverCDP(at, {
  headers: { Authorization: `Bearer ${of.about.automation_token}` },
});

/** Fills a form, takes a picture, downloads, gives a file, and is kept where it belongs. */
async function drive(context) {
  const page = await context.newPage();
  await page.goto(url);
  await page.fill('#name', 'valetd');
  await page.click('button');
  await page.waitForURL(/name=valetd/);
  assert.ok((await page.screenshot()).length > 1000);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('a')]);
  assert.equal(download.suggestedFilename(), 'got.txt');
  assert.equal(await download.failure(), null);
  await page.setInputFiles('#file', { name: 'given.txt', mimeType: 'text/plain', buffer: Buffer.from('given') });
  assert.equal(await page.evaluate(() => document.querySelector('#file').files[0].size), 5);
  for (const inner of ['file:///etc/passwd', 'chrome://version']) {
    await assert.rejects(page.goto(inner), /may not be opened/);
  }
  await page.close();
}

/** The browser's main process. */
async function browserPid() {
  const health = await (await fetch(`${daemon.about.api_url}/health`)).json();
  return health.components.find(({ name }) => name === 'browser').pid;
}

describe('Playwright through the gateway', () => {
  test('drives the browser in its own context and in a new one, found by discovery or by its address', async () => {
    for (const at of [endpoint(), endpoint().replace(/^http/, 'ws')]) {
      const browser = await connect(at);
      await drive(browser.contexts()[0]);
      await drive(await browser.newContext());
      await browser.close();
    }
  });

  test('drives contexts that are out of the reach of another', async () => {
    const [one, other] = [await connect(endpoint(apart), apart), await connect(endpoint(apart), apart)];
    for (const browser of [one, other]) {
      await drive(browser.contexts()[0]);
      const context = await browser.newContext();
      await (await context.newPage()).goto(`${url}?own`);
      await drive(context);
    }
    for (const browser of [one, other]) {
      const pages = browser.contexts().flatMap((context) => context.pages());
      assert.equal(pages.filter((page) => page.url() === `${url}?own`).length, 1);
      assert.equal(browser.contexts().length, 2);
      await browser.close();
    }
  });

  test('is told when the browser was killed, and drives the next one at the same address', async () => {
    const browser = await connect();
    const gone = new Promise((resolve) => { browser.once('disconnected', resolve); });
    process.kill(await browserPid(), 'SIGKILL');
    await gone;
    const deadline = Date.now() + BACK_DEADLINE_MS;
    let again;
    while (!again) {
      again = await connect().catch((error) => {
        assert.ok(Date.now() < deadline, error.message);
        assert.match(error.message, /503/);
      });
    }
    await drive(again.contexts()[0]);
    await again.close();
  });
});
