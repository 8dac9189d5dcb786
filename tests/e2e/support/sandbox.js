// The inside of the sandbox, seen over CDP.

import { chromium } from 'playwright-core';

export class Sandbox {
  #browser;

  /** @param {import('playwright-core').Page} page */
  constructor(browser, page) {
    this.#browser = browser;
    this.page = page;
  }

  /** Connects to the sandboxed browser's page at `url`. */
  static async connect(about, url) {
    const browser = await chromium.connectOverCDP(about.devtools_url);
    const page = browser.contexts().flatMap((context) => context.pages()).find((candidate) => candidate.url() === url);
    if (!page) throw new Error(`the sandboxed browser does not show ${url}`);
    await page.waitForFunction(() => typeof window.onScreen === 'function');
    return new Sandbox(browser, page);
  }

  /** Where the middle of an element is on the display. */
  locate(selector) {
    return this.page.evaluate((css) => window.onScreen(document.querySelector(css)), selector);
  }

  locateAll(selector) {
    return this.page.evaluate((css) => Array.from(document.querySelectorAll(css), window.onScreen), selector);
  }

  /** All that input could change. */
  state() {
    return this.page.evaluate(() => ({
      marked: window.marked === true,
      events: window.record.length,
      clicks: window.clicks,
      field: document.getElementById('field').value,
      active: document.activeElement.id,
      scroll: window.scrollY,
      location: window.location.href,
    }));
  }

  /** Back to an empty field and an empty record. The mark is lost when the page is loaded anew. */
  reset() {
    return this.page.evaluate(() => {
      document.getElementById('field').value = '';
      document.activeElement.blur();
      window.marked = true;
      window.clicks = 0;
      window.record.length = 0;
    });
  }

  /** Lets go of it; the sandboxed browser stays. */
  close() {
    return this.#browser.close();
  }
}
