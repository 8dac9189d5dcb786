// Requests to the gateway without a browser: tickets, and what an upgrade is answered with.

import { randomBytes } from 'node:crypto';
import { request } from 'node:https';

const DEADLINE_MS = 15_000;
// The certificate is self-signed, and not what these tests are about.
const ANY_CERTIFICATE = { rejectUnauthorized: false, agent: false };

function send(url, options, onRequest = () => {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { ...ANY_CERTIFICATE, ...options, signal: AbortSignal.timeout(DEADLINE_MS) }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    onRequest(sent, resolve);
    sent.end();
  });
}

/** @returns {Promise<{status: number, headers: object, body: string}>} */
export function fetchFrom(gateway, path, { method = 'GET', headers = {} } = {}) {
  return send(new URL(path, gateway), { method, headers });
}

/** A one-time ticket for `token`. */
export async function ticket(about, token) {
  const { status, body } = await fetchFrom(about.gateway_url, `/sessions/${about.session_id}/ticket`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}` },
  });
  if (status !== 200) throw new Error(`no ticket: ${status} ${body}`);
  return JSON.parse(body).ticket;
}

/** Asks for a WebSocket; 101 is let go of at once. @returns {Promise<{status: number, headers: object, body: string}>} */
export function upgrade(gateway, path, headers = {}) {
  const upgradeHeaders = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    Origin: new URL(gateway).origin,
    ...headers,
  };
  return send(new URL(path, gateway), { headers: upgradeHeaders }, (sent, resolve) => {
    sent.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode, headers: response.headers, body: '' });
    });
  });
}
