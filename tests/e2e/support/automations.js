// Real automation clients, each in its own way of saying: go there, fill this, click that, show me.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';

const DEADLINE_MS = 30_000;

/**
 * One that is connected.
 * @typedef {object} Driver
 * @property {(url: string) => Promise<void>} goto
 * @property {(selector: string, text: string) => Promise<void>} fill
 * @property {(selector: string) => Promise<void>} click
 * @property {(selector: string) => Promise<{x: number, y: number}>} middle of an element that is waited for, in the picture
 * @property {() => Promise<[number, number]>} [offset] where the picture's corner is on the display
 * @property {() => Promise<Buffer>} screenshot a PNG
 * @property {() => Promise<void>} close lets go of the browser, which stays
 */

/** Runs in the page. */
const middleOf = (element) => {
  const box = element.getBoundingClientRect();
  return { x: Math.round(box.x + box.width / 2), y: Math.round(box.y + box.height / 2) };
};

/** @returns {Promise<Driver>} */
async function playwright({ http, headers, direct }) {
  // By itself it sends downloads to a directory of its own machine, which only the proxy knows better.
  const browser = await chromium.connectOverCDP(http, { headers, timeout: DEADLINE_MS, noDefaults: direct });
  const [context] = browser.contexts();
  const page = context.pages()[0] ?? await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  return {
    goto: async (url) => { await page.goto(url); },
    fill: (selector, text) => page.fill(selector, text),
    click: (selector) => page.click(selector),
    middle: (selector) => page.locator(selector).evaluate(middleOf),
    offset: () => page.evaluate(() => [window.screenX, window.screenY + window.outerHeight - window.innerHeight]),
    screenshot: () => page.screenshot(),
    close: () => browser.close(),
  };
}

/** @returns {Promise<Driver>} */
async function puppeteerCore({ ws, headers }) {
  const browser = await puppeteer.connect({ browserWSEndpoint: ws, headers, defaultViewport: null, protocolTimeout: DEADLINE_MS });
  const page = (await browser.pages())[0] ?? await browser.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  return {
    goto: async (url) => { await page.goto(url); },
    fill: (selector, text) => page.locator(selector).fill(text),
    click: (selector) => page.locator(selector).click(),
    middle: async (selector) => (await page.waitForSelector(selector)).evaluate(middleOf),
    screenshot: async () => Buffer.from(await page.screenshot()),
    close: () => browser.disconnect(),
  };
}

/** Its own package, since it brings ten times what all the others do. */
const STAGEHAND = fileURLToPath(new URL('../stagehand/', import.meta.url));

const LEFT = /Inspected target navigated or closed/;

/** Its wait evaluates in the page, and throws where the click before it is just leaving that page. */
async function stagehandSettles(wait) {
  for (const deadline = Date.now() + DEADLINE_MS;;) {
    try {
      return await wait();
    } catch (error) {
      if (Date.now() > deadline || !LEFT.test(error.message)) throw error;
    }
  }
}

/** @returns {Promise<Driver>} */
async function stagehand({ ws, headers }) {
  const { Stagehand } = await import('../stagehand/client.js');
  // No model: what is asked of it here is what it does by itself.
  const client = new Stagehand({
    env: 'LOCAL', localBrowserLaunchOptions: { cdpUrl: ws, cdpHeaders: headers }, disableAPI: true, disablePino: true, verbose: 0,
  });
  await client.init();
  const page = client.context.pages()[0] ?? await client.context.newPage();
  return {
    goto: async (url) => { await page.goto(url, { timeoutMs: DEADLINE_MS }); },
    fill: (selector, text) => page.locator(selector).fill(text),
    // A click that leaves the page may end with that page; what it did is looked at by the test.
    click: (selector) => page.locator(selector).click().catch((error) => { if (!LEFT.test(error.message)) throw error; }),
    middle: async (selector) => {
      await stagehandSettles(() => page.waitForSelector(selector, { timeout: DEADLINE_MS }));
      return page.evaluate(`(${middleOf})(document.querySelector(${JSON.stringify(selector)}))`);
    },
    screenshot: () => page.screenshot(),
    close: () => client.close(),
  };
}

/** Name, way to connect, and why it cannot be tried here, if so. */
export const CLIENTS = [
  { name: 'Playwright', connect: playwright, missing: false },
  { name: 'Puppeteer', connect: puppeteerCore, missing: false },
  {
    name: 'Stagehand',
    connect: stagehand,
    missing: existsSync(`${STAGEHAND}node_modules/@browserbasehq/stagehand`) ? false : 'not installed: npm ci in tests/e2e/stagehand',
  },
];
