// One-time tickets: what a WebSocket's address may carry in place of the token.

import { refusal, unreachable } from './reasons.js';

const DEADLINE_MS = 10_000;

/** A ticket was not given; `reason` says why. */
export class NoTicket extends Error {
  constructor(reason) {
    super(reason.title);
    this.reason = reason;
  }
}

/**
 * Exchanges the token for a ticket.
 * @param {URL} base where the gateway is
 * @returns {Promise<{ticket: string, role: string, token_expires_at?: number}>}
 * @throws {NoTicket}
 */
export async function requestTicket(base, session, token) {
  let response;
  try {
    response = await fetch(new URL(`sessions/${encodeURIComponent(session)}/ticket`, base), {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}` },
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new NoTicket(unreachable());
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok || typeof body.ticket !== 'string') {
    throw new NoTicket(refusal(response.status, body, retryAfterMs(response.headers.get('Retry-After'))));
  }
  return body;
}

/** Seconds or a date (RFC 9110 section 10.2.3), at most five minutes. */
function retryAfterMs(value) {
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(300_000, Math.max(0, ms)) : undefined;
}
