// Requests for a human: what the automation wants of whoever is at the screen, and the answer.

import { delayMs } from './backoff.js';

/** Between questions: short ones, since a browser has few connections to a host, and each viewer asks. */
const INTERVAL_MS = 2000;
const DEADLINE_MS = 15_000;
/** After another handoff has taken the place of one: a click that was meant for that one answers nothing. */
const SETTLE_MS = 700;

/** By kind: what is wanted, and the answers there are, the usual one first. */
const KINDS = {
  captcha: { title: 'The site asks for a human', answers: [['resolved', 'Done'], ['rejected', 'Cannot be done']] },
  review: { title: 'Please check before it is sent', answers: [['approved', 'Approve'], ['rejected', 'Reject']] },
  engine_exhausted: { title: 'The automation is stuck', answers: [['resolved', 'Done'], ['rejected', 'Cannot be done']] },
  ambiguous_field: { title: 'A field needs your decision', answers: [['resolved', 'Done'], ['rejected', 'Cannot be done']] },
};
const UNKNOWN = { title: 'A human is wanted', answers: [['resolved', 'Done'], ['rejected', 'Cannot be done']] };

const byId = (id) => document.getElementById(id);

/** Asks the gateway again and again what is wanted, and hands each answer on. */
export class Watch {
  #base;
  #credential;
  #onWanted;
  #over = false;
  #wake = null;
  #seen = () => {
    if (!document.hidden) this.#wake?.();
  };

  /**
   * @param {URL} base where the gateway is
   * @param {{session: string, token: string}} credential
   * @param {(wanted: {now: number, handoffs: object[]}) => void} onWanted
   */
  constructor(base, credential, onWanted) {
    this.#base = new URL(`sessions/${encodeURIComponent(credential.session)}/handoffs`, base);
    this.#credential = credential;
    this.#onWanted = onWanted;
    document.addEventListener('visibilitychange', this.#seen);
    this.#run();
  }

  stop() {
    this.#over = true;
    document.removeEventListener('visibilitychange', this.#seen);
    this.#wake?.();
  }

  /** Asks now. */
  look() {
    this.#wake?.();
  }

  /** @returns {Promise<boolean>} whether the host took the answer */
  async answer(id, outcome, note) {
    const url = new URL(`${this.#base.pathname}/${encodeURIComponent(id)}/resolve`, this.#base);
    const body = JSON.stringify(note ? { outcome, note } : { outcome });
    try {
      const response = await this.#fetch(url, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
      // Somebody else was quicker: it is over all the same.
      return response.ok || response.status === 404 || response.status === 409;
    } catch {
      return false;
    }
  }

  async #run() {
    let failures = 0;
    while (!this.#over) {
      let waitMs = INTERVAL_MS;
      try {
        const response = document.hidden ? null : await this.#fetch(this.#base);
        if (response && [400, 401, 403, 404].includes(response.status)) return this.#onWanted({ now: 0, handoffs: [] });
        if (response && !response.ok) throw new Error(`HTTP ${response.status}`);
        const wanted = await response?.json();
        failures = 0;
        if (wanted && !this.#over) this.#onWanted(wanted);
      } catch {
        waitMs = delayMs(failures, { atLeastMs: INTERVAL_MS });
        failures += 1;
      }
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, waitMs);
      });
    }
  }

  #fetch(url, { headers = {}, ...options } = {}) {
    return fetch(url, {
      ...options,
      headers: { ...headers, Authorization: `Bearer ${this.#credential.token}` },
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  }
}

/** Shows what is wanted over the screen; whoever acts can answer. */
export class HandoffPanel {
  #watch = null;
  #acting = false;
  #shown = null;
  #ticking = 0;
  #onDone;

  /** @param {{onSpoken: (sentence: string) => void, onDone: () => void}} listener */
  constructor({ onSpoken, onDone }) {
    this.onSpoken = onSpoken;
    this.#onDone = onDone;
    for (const button of [byId('handoff-yes'), byId('handoff-no')]) {
      button.addEventListener('click', () => this.#answer(button.dataset.outcome));
    }
  }

  /** Begins for a session that is shown to somebody in `role`. */
  start(base, credential, role) {
    this.stop();
    this.#acting = role === 'controller';
    this.#watch = new Watch(base, credential, (wanted) => this.#wanted(wanted));
  }

  stop() {
    this.#watch?.stop();
    this.#watch = null;
    this.#show(null);
  }

  #wanted({ now, handoffs }) {
    const [first] = handoffs;
    if (!first) return this.#show(null);
    byId('handoff-count').textContent = handoffs.length > 1 ? `1 of ${handoffs.length}` : '';
    // By the host's clock: the one here may be wrong by hours.
    if (first.handoff_id !== this.#shown?.id) this.#show(first, performance.now() + (first.expires_at - now) * 1000);
  }

  #show(handoff, until) {
    clearInterval(this.#ticking);
    const settle = Boolean(handoff && this.#shown);
    this.#shown = handoff && { id: handoff.handoff_id };
    byId('handoff').hidden = !handoff;
    if (!handoff) return;
    const { title, answers } = KINDS[handoff.kind] ?? UNKNOWN;
    byId('handoff-title').textContent = title;
    byId('handoff-reason').textContent = handoff.reason;
    byId('handoff-note').value = '';
    byId('handoff-answer').hidden = !this.#acting;
    byId('handoff-problem').hidden = true;
    for (const [button, [outcome, label]] of [[byId('handoff-yes'), answers[0]], [byId('handoff-no'), answers[1]]]) {
      button.dataset.outcome = outcome;
      button.textContent = label;
      button.disabled = settle;
    }
    if (settle) {
      const shown = this.#shown;
      setTimeout(() => {
        if (this.#shown === shown) this.#enable(true);
      }, SETTLE_MS);
    }
    const tick = () => {
      byId('handoff-left').textContent = left(Math.max(0, until - performance.now()));
    };
    tick();
    this.#ticking = setInterval(tick, 1000);
    this.onSpoken(`${title}. ${handoff.reason}`);
  }

  async #answer(outcome) {
    const shown = this.#shown;
    const watch = this.#watch;
    if (!shown || !watch) return;
    this.#enable(false);
    const taken = await watch.answer(shown.id, outcome, plain(byId('handoff-note').value));
    if (this.#shown !== shown) return;
    byId('handoff-problem').hidden = taken;
    // The host's word takes it away, or shows the next one.
    this.#enable(!taken);
    if (!taken) return;
    watch.look();
    this.#onDone();
  }

  #enable(yes) {
    for (const button of [byId('handoff-yes'), byId('handoff-no')]) button.disabled = !yes;
  }
}

/** What was typed, without tabs and the like that a paste brings along: the host takes text only. */
export function plain(note) {
  return note.replace(/\p{Cc}+/gu, ' ').trim();
}

/** `1:05`, or hours where it takes hours. */
export function left(ms) {
  const seconds = Math.ceil(ms / 1000);
  const two = (number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
