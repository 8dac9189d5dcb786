// The credential of this page: taken out of the address, kept in memory, never stored.

/**
 * Reads `session` and `token` from a link's fragment.
 * @param {string} link a whole link, or just its fragment
 * @returns {{session: string, token: string} | null}
 */
export function parseLink(link) {
  const hash = link.indexOf('#');
  const fields = new URLSearchParams(hash < 0 ? '' : link.slice(hash + 1).trim());
  const session = fields.get('session');
  const token = fields.get('token');
  return session && token ? { session, token } : null;
}

/** Takes the credential out of the address bar, so that neither history, a bookmark nor a screenshot keeps it. */
export function takeFromAddress(location, history) {
  const credential = parseLink(location.hash);
  if (location.hash) {
    history.replaceState(null, '', location.pathname + location.search);
  }
  return credential;
}
