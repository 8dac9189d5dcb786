// The page inside the sandbox: blocks of known colours, a field, a button, and a record of every input event.

import { createServer } from 'node:http';
import { once } from 'node:events';

const BLOCK = 80;
const COLUMNS = 6;

/** Colours that no theme and no browser draws by itself. */
export const COLOURS = [
  [226, 32, 44], [28, 160, 70], [30, 60, 210], [250, 200, 20], [140, 30, 170], [20, 190, 200],
  [90, 50, 20], [255, 120, 0], [10, 10, 10], [200, 210, 90], [245, 150, 190], [60, 90, 110],
];

const HTML = `<!doctype html>
<meta charset="utf-8"><title>Sandboxed page</title>
<style>
  body { margin: 0; padding: 40px; background: #f6f3ea; color: #222; font: 20px system-ui }
  #blocks { display: grid; grid-template-columns: repeat(${COLUMNS}, ${BLOCK}px); margin: 24px 0 }
  #blocks div { height: ${BLOCK}px }
  input, button { font: inherit; padding: 10px }
  input { width: 360px }
</style>
<h1>Confirm order 4711</h1>
<div id="blocks">${COLOURS.map((rgb) => `<div style="background:rgb(${rgb})"></div>`).join('')}</div>
<input id="field" autocomplete="off"> <button id="button">Continue</button>
<script>
  window.record = [];
  window.clicks = 0;
  document.getElementById('button').onclick = () => { window.clicks += 1; };
  for (const type of ['keydown', 'keyup', 'mousemove', 'mousedown', 'mouseup', 'wheel', 'paste', 'touchstart', 'contextmenu']) {
    addEventListener(type, (event) => window.record.push(type), { capture: true, passive: true });
  }
  // Where an element's middle is on the screen. The window has no frame; what is above the page is the browser's own.
  window.onScreen = (element) => {
    const box = element.getBoundingClientRect();
    return { x: screenX + box.x + box.width / 2, y: screenY + outerHeight - innerHeight + box.y + box.height / 2 };
  };
</script>`;

/** Serves it on a free loopback port. @returns {Promise<{url: string, close: () => void}>} */
export async function serveSandboxPage() {
  const server = createServer((request, response) => {
    response.writeHead(request.url === '/' ? 200 : 404, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end(request.url === '/' ? HTML : '');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
