// What a close code or a refusal means, in sentences, and what can be done about it.

/**
 * @typedef {object} Reason
 * @property {'over' | 'refused'} sign
 * @property {string} title
 * @property {string} text
 * @property {'quickly' | 'later' | 'ask' | 'never'} again  come back by itself, on a press of a button, or not
 * @property {string} [action]  the button's words, where `again` is `ask`
 * @property {boolean} [keepPicture]  whether the last picture may stay in view
 * @property {number} [retryAfterMs]
 * @property {string} [reference]  for whoever reads the host's log
 */

const NEW_LINK = 'Ask whoever sent you the link for a new one.';

/** The close codes of the gateway, and the ones that browsers make up themselves. */
const CLOSE_REASONS = {
  1000: { sign: 'over', title: 'Connection closed', text: 'The host closed the connection.', again: 'ask', action: 'Connect again' },
  1001: { sign: 'over', title: 'The host is restarting', text: 'Your session comes back as soon as the host does.', again: 'later', keepPicture: true },
  1006: { sign: 'over', title: 'Connection lost', text: 'The line to the host broke.', again: 'later', keepPicture: true },
  1008: { sign: 'over', title: 'Connection closed', text: 'This device or its network could not keep up with the picture, or what it sent was not understood.', again: 'ask', action: 'Connect again' },
  1011: { sign: 'over', title: 'The display is gone', text: 'The remote screen failed and could not be brought back.', again: 'ask', action: 'Look again' },
  1012: { sign: 'over', title: 'The display is restarting', text: 'The remote screen is being brought back.', again: 'quickly', keepPicture: true },
  1013: { sign: 'over', title: 'The host is busy', text: 'It has no room for another viewer right now.', again: 'later' },
  4401: { sign: 'refused', title: 'Your access has expired', text: `Links work for a limited time, and this one’s is up. ${NEW_LINK}`, again: 'never' },
  4403: { sign: 'refused', title: 'Your access was withdrawn', text: `This link no longer opens the session. ${NEW_LINK}`, again: 'never' },
  4408: { sign: 'over', title: 'Closed while you were away', text: 'Nothing was pressed or moved here for a while.', again: 'ask', action: 'Connect again' },
  4409: { sign: 'over', title: 'Someone else took control', text: 'The session goes on with another person at the controls.', again: 'ask', action: 'Connect again' },
  4410: { sign: 'over', title: 'The session has ended', text: 'There is nothing left to see here. You can close this page.', again: 'never' },
};

/** @returns {Reason} */
export function closeReason(code) {
  return CLOSE_REASONS[code]
    ?? { sign: 'over', title: 'Connection lost', text: `The connection broke unexpectedly (code ${code}).`, again: 'later', keepPicture: true };
}

/** The picture's data made no sense to noVNC. @returns {Reason} */
export function garbled() {
  return { sign: 'over', title: 'Picture out of step', text: 'The picture’s data could not be read.', again: 'later' };
}

/** Nothing answered in time, or no network. @returns {Reason} */
export function unreachable() {
  return { sign: 'over', title: 'Cannot reach the host', text: 'It does not answer, or this device is offline.', again: 'later', keepPicture: true };
}

/** The person left by the button. @returns {Reason} */
export function left() {
  return { sign: 'over', title: 'Disconnected', text: 'The session goes on without you.', again: 'ask', action: 'Connect again' };
}

/**
 * A ticket that was not given.
 * @param {number} status HTTP status
 * @param {{detail?: string, request_id?: string}} problem problem details (RFC 9457), as far as they were readable
 * @param {number | undefined} retryAfterMs
 * @returns {Reason}
 */
export function refusal(status, problem, retryAfterMs) {
  const reference = problem.request_id;
  switch (status) {
    case 401:
      return { sign: 'refused', title: 'This link does not work', text: `It has expired, or it is not complete. ${NEW_LINK}`, again: 'never', reference };
    case 403:
      return { sign: 'refused', title: 'This link is for something else', text: `It does not open this session. ${NEW_LINK}`, again: 'never', reference };
    case 404:
      return { sign: 'over', title: 'No such session', text: 'It has ended, or it runs on another host.', again: 'ask', action: 'Look again', reference };
    case 429:
      return { sign: 'over', title: 'Too many viewers', text: 'There is no room for another one right now.', again: 'later', retryAfterMs, reference };
    case 503:
      return { sign: 'over', title: 'The session is not ready yet', text: 'Its screen is starting.', again: 'later', retryAfterMs, keepPicture: true, reference };
    default:
      return status >= 500
        ? { sign: 'over', title: 'The host has a problem', text: `It answered with an error (${status}).`, again: 'later', retryAfterMs, keepPicture: true, reference }
        : { sign: 'refused', title: 'The host refused', text: problem.detail ?? `It answered with status ${status}.`, again: 'ask', action: 'Try again', reference };
  }
}
