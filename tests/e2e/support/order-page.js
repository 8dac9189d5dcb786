// A small shop for automations: a form that is posted, a block of a known colour, a file to download.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';

/** Of the block on the page that confirms an order; no theme and no browser draws it by itself. */
export const CONFIRMED = [28, 160, 70];
/** More than one read of a pipe, so that half a file is not taken for the whole. */
const REPORT_BYTES = 300_000;

const document = (body) => `<!doctype html><meta charset="utf-8"><title>Shop</title>
<style>body { margin: 40px; font: 20px system-ui } input, button { font: inherit; padding: 10px }
#block { width: 400px; height: 200px; background: rgb(${CONFIRMED}) }</style>${body}`;

const FORM = document(`<h1>Order</h1><form method="post" action="/order">
<input id="name" name="name" autocomplete="off"> <button id="order">Order</button></form>`);
const CONFIRMATION = document(`<h1 id="confirmed">Thank you</h1><div id="block"></div>
<p><a id="report" href="/report.bin">The report</a></p>`);

/**
 * Serves it on a free loopback port.
 * @returns {Promise<{url: string, orders: string[], newReport: () => Buffer, close: () => void}>} with the names that were posted; a new
 *   report is what is downloaded from then on
 */
export async function serveOrderPage() {
  let report = randomBytes(REPORT_BYTES);
  const orders = [];
  const answer = (response, status, body, headers = {}) => {
    response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store', ...headers });
    response.end(body);
  };
  const server = createServer(async (request, response) => {
    const route = `${request.method} ${request.url}`;
    if (route === 'GET /') answer(response, 200, FORM);
    else if (route === 'POST /order') {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      orders.push(new URLSearchParams(Buffer.concat(chunks).toString()).get('name'));
      answer(response, 200, CONFIRMATION);
    } else if (route === 'GET /report.bin') {
      answer(response, 200, report, { 'Content-Type': 'application/octet-stream', 'Content-Disposition': 'attachment; filename="report.bin"' });
    } else answer(response, 404, '');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.close();
    // Browsers keep theirs open.
    server.closeAllConnections();
  };
  const newReport = () => {
    report = randomBytes(REPORT_BYTES);
    return report;
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, orders, newReport, close };
}
