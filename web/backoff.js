// How long to wait before the next attempt.

const FIRST_MS = 1000;
const FIRST_QUICK_MS = 250;
const LIMIT_MS = 20_000;

/**
 * Doubles with each attempt up to a limit, give or take a quarter, so that the viewers of a restarted host do not come
 * back in step.
 * @param {number} attempt failed attempts so far, from 0
 * @param {{quick?: boolean, atLeastMs?: number, random?: () => number}} [options] `atLeastMs`: what the host asked for
 * @returns {number} milliseconds
 */
export function delayMs(attempt, { quick = false, atLeastMs = 0, random = Math.random } = {}) {
  const first = quick ? FIRST_QUICK_MS : FIRST_MS;
  const base = Math.min(LIMIT_MS, first * 2 ** Math.min(attempt, 16));
  return Math.max(atLeastMs, Math.round(base * (0.75 + random() / 2)));
}
