// The viewer's side: a real browser on the viewer page.

import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const OUT = fileURLToPath(new URL('../out/', import.meta.url));
const STATE_DEADLINE_MS = 30_000;

export async function launchBrowser() {
  mkdirSync(OUT, { recursive: true });
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // The driving browser shows pages of our own only, and Chromium's sandbox does not start as root.
    chromiumSandbox: process.getuid() !== 0,
  });
}

export class Viewer {
  /** @param {import('playwright-core').Page} page */
  constructor(page) {
    this.page = page;
    /** What the page's console and the policy complained about. */
    this.complaints = [];
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('console', (message) => {
      // A refused ticket is logged by the browser itself, and tested by what the page says.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) this.complaints.push(message.text());
    });
  }

  /** Opens the page in a fresh profile. */
  static async open(browser, url, context = {}) {
    const fresh = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...context });
    const viewer = new Viewer(await fresh.newPage());
    await viewer.page.goto(url);
    return viewer;
  }

  static link(about, token, session = about.session_id) {
    return `${about.gateway_url.replace(/\/$/, '')}/#session=${encodeURIComponent(session)}&token=${token}`;
  }

  /** Waits until the page is in `state`: no-link, connecting, live, waiting, over. */
  async reaches(state, timeout = STATE_DEADLINE_MS) {
    await this.page.waitForFunction((wanted) => document.body.dataset.state === wanted, state, { timeout });
  }

  /** What the card says. */
  async card() {
    return { title: await this.page.textContent('#card-title'), text: await this.page.textContent('#card-text') };
  }

  /** Colours of the picture at framebuffer coordinates, as noVNC drew them. */
  async pixels(points) {
    return this.page.evaluate((wanted) => {
      const context = document.querySelector('#screen canvas').getContext('2d');
      return wanted.map(({ x, y }) => Array.from(context.getImageData(Math.round(x), Math.round(y), 1, 1).data.slice(0, 3)));
    }, points);
  }

  /** Where a point of the framebuffer is on the viewer page. */
  async onPage({ x, y }) {
    const { box, width, height } = await this.page.evaluate(() => {
      const canvas = document.querySelector('#screen canvas');
      const { left, top, width: shownWidth, height: shownHeight } = canvas.getBoundingClientRect();
      return { box: { left, top, shownWidth, shownHeight }, width: canvas.width, height: canvas.height };
    });
    return { x: box.left + (x * box.shownWidth) / width, y: box.top + (y * box.shownHeight) / height };
  }

  async click(point) {
    const { x, y } = await this.onPage(point);
    await this.page.mouse.click(x, y);
  }

  async screenshot(name) {
    await this.page.screenshot({ path: `${OUT}${name}.png` });
  }

  async close() {
    await this.page.context().close();
  }
}
