// Keeps one viewer connected: ticket, WebSocket, RFB; and again, when the line breaks.

import RFB from './novnc/core/rfb.js';
import { delayMs } from './backoff.js';
import { closeReason, garbled, left, unreachable } from './reasons.js';
import { NoTicket, requestTicket } from './ticket.js';

/** From the ticket to the first picture. */
const CONNECT_DEADLINE_MS = 15_000;
const PICTURE_POLL_MS = 40;
/** A connection that lived so long was a good one: the next failure counts from zero. */
const GOOD_AFTER_MS = 10_000;

/**
 * Its states, handed to `onState`:
 * `{name: 'connecting', again}`, `{name: 'live', role, expiresAt}`, `{name: 'waiting', reason, until, totalMs}`, `{name: 'over', reason}`.
 */
export class Connection {
  #base;
  #session;
  #token;
  #screen;
  #listener;
  #attempt = null;
  #failures = 0;
  #timer = 0;

  /**
   * @param {{session: string, token: string}} credential
   * @param {{base: URL, screen: HTMLElement, onState: Function, onClipboard: Function, onPicture: Function}} surroundings
   *   `onPicture`: gets the canvas of a connection that is about to go
   */
  constructor(credential, { base, screen, onState, onClipboard, onPicture }) {
    this.#base = base;
    this.#session = credential.session;
    this.#token = credential.token;
    this.#screen = screen;
    this.#listener = { onState, onClipboard, onPicture };
  }

  /** The RFB of the live connection, or null. */
  get rfb() {
    return this.#attempt?.live ? this.#attempt.rfb : null;
  }

  /** Connects now, whatever it was waiting for. */
  async open() {
    clearTimeout(this.#timer);
    this.#abandon();
    const attempt = { over: false, live: false, rfb: null, socket: null, deadline: 0, liveSince: 0 };
    this.#attempt = attempt;
    this.#listener.onState({ name: 'connecting', again: this.#failures > 0 });
    try {
      const grant = await requestTicket(this.#base, this.#session, this.#token);
      if (!attempt.over) this.#dial(attempt, grant);
    } catch (error) {
      if (!(error instanceof NoTicket)) console.error(error);
      this.#finish(attempt, error instanceof NoTicket ? error.reason : garbled());
    }
  }

  /** Ends it for good, as the person wished. */
  close() {
    clearTimeout(this.#timer);
    this.#abandon();
    this.#failures = 0;
    this.#listener.onPicture(null);
    this.#listener.onState({ name: 'over', reason: left() });
  }

  /** Ends it without a word: another credential takes its place. */
  discard() {
    clearTimeout(this.#timer);
    this.#abandon();
  }

  #dial(attempt, grant) {
    const url = new URL(`sessions/${encodeURIComponent(this.#session)}/vnc`, this.#base);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('ticket', grant.ticket);
    // noVNC does not pass close codes on, so the socket is opened here and listened to before it gets it.
    const socket = new WebSocket(url, ['binary']);
    attempt.socket = socket;
    socket.addEventListener('close', (event) => this.#finish(attempt, closeReason(event.code)));
    attempt.deadline = setTimeout(() => this.#finish(attempt, unreachable()), CONNECT_DEADLINE_MS);

    const rfb = new RFB(this.#screen, socket, { shared: true });
    attempt.rfb = rfb;
    rfb.background = 'transparent';
    rfb.resizeSession = false;
    rfb.viewOnly = grant.role !== 'controller';
    // Where the pointer is somebody else's, a dot says what a press would take over; a spectator has none of its own.
    rfb.showDotCursor = !rfb.viewOnly;
    rfb.addEventListener('connect', () => this.#awaitPicture(attempt, grant));
    rfb.addEventListener('disconnect', (event) => {
      if (!event.detail.clean && socket.readyState < WebSocket.CLOSED) this.#finish(attempt, garbled());
    });
    // The gateway has no second lock behind the ticket: a server that asks for a password is not ours.
    rfb.addEventListener('credentialsrequired', () => this.#finish(attempt, garbled()));
    rfb.addEventListener('clipboard', (event) => this.#listener.onClipboard(event.detail.text));
  }

  /** noVNC is connected before anything was drawn, and does not tell when it was. */
  #awaitPicture(attempt, grant) {
    if (attempt.over) return;
    if (hasPicture(this.#screen.querySelector('canvas'))) this.#live(attempt, grant);
    else setTimeout(() => this.#awaitPicture(attempt, grant), PICTURE_POLL_MS);
  }

  #live(attempt, grant) {
    clearTimeout(attempt.deadline);
    attempt.live = true;
    attempt.liveSince = performance.now();
    const expiresAt = typeof grant.token_expires_at === 'number' ? grant.token_expires_at * 1000 : null;
    this.#listener.onState({ name: 'live', role: grant.role, expiresAt });
  }

  #finish(attempt, reason) {
    if (attempt.over) return;
    if (attempt.live && performance.now() - attempt.liveSince > GOOD_AFTER_MS) this.#failures = 0;
    const canvas = attempt.live && reason.keepPicture ? this.#screen.querySelector('canvas') : null;
    if (canvas || !reason.keepPicture) this.#listener.onPicture(canvas);
    this.#abandon();

    if (reason.again === 'ask' || reason.again === 'never') {
      this.#failures = 0;
      this.#listener.onState({ name: 'over', reason });
      return;
    }
    const totalMs = delayMs(this.#failures, { quick: reason.again === 'quickly', atLeastMs: reason.retryAfterMs });
    this.#failures += 1;
    this.#timer = setTimeout(() => this.open(), totalMs);
    this.#listener.onState({ name: 'waiting', reason, until: performance.now() + totalMs, totalMs });
  }

  /** Lets go of the current attempt; nothing that still comes from it is heard. */
  #abandon() {
    const attempt = this.#attempt;
    this.#attempt = null;
    if (!attempt || attempt.over) return;
    attempt.over = true;
    clearTimeout(attempt.deadline);
    if (!attempt.socket || attempt.socket.readyState >= WebSocket.CLOSING) return;
    if (attempt.rfb) attempt.rfb.disconnect();
    else attempt.socket.close();
  }
}

/** Whether something was drawn: a canvas is transparent until then. Scaled to one pixel, so that it stays on the GPU. */
function hasPicture(canvas) {
  if (canvas.width === 0 || canvas.height === 0) return false;
  const pixel = document.createElement('canvas');
  pixel.width = 1;
  pixel.height = 1;
  const probe = pixel.getContext('2d');
  probe.drawImage(canvas, 0, 0, 1, 1);
  return probe.getImageData(0, 0, 1, 1).data[3] > 0;
}
