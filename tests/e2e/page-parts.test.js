// The parts of the page that need no browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delayMs } from '../../web/backoff.js';
import { parseLink, takeFromAddress } from '../../web/credential.js';
import { left, plain } from '../../web/handoffs.js';
import { closeReason, refusal } from '../../web/reasons.js';
import { difference } from '../../web/difference.js';

test('the credential is read from a link or a fragment, and only whole', () => {
  const credential = { session: 's-1', token: 'a.b.c' };
  assert.deepEqual(parseLink('https://host:6080/#session=s-1&token=a.b.c'), credential);
  assert.deepEqual(parseLink(' #token=a.b.c&session=s-1 '), credential);
  for (const link of ['', '#', '#session=s-1', '#token=a.b.c', '#session=&token=a', 'session=s-1&token=a.b.c', 'https://host/?session=s-1&token=a.b.c']) {
    assert.equal(parseLink(link), null, link);
  }
});

test('taking it cleans the address, even of half a credential', () => {
  const visited = [];
  const history = { replaceState: (...state) => visited.push(state) };
  const address = { hash: '#session=s-1', pathname: '/', search: '?x=1' };
  assert.equal(takeFromAddress(address, history), null);
  assert.deepEqual(visited, [[null, '', '/?x=1']]);
  takeFromAddress({ ...address, hash: '' }, history);
  assert.equal(visited.length, 1);
});

test('the time that a human has left is in minutes, or in hours where it takes hours', () => {
  const shown = [0, 400, 59_000, 65_000, 899_001, 3_600_000, 86_399_000].map(left);
  assert.equal(plain(' a\tb\u0007\n '), 'a b');
  assert.deepEqual(shown, ['0:00', '0:01', '0:59', '1:05', '15:00', '1:00:00', '23:59:59']);
});

test('delays double to a limit, with a quarter of jitter either way', () => {
  const middle = { random: () => 0.5 };
  assert.deepEqual([0, 1, 2, 3, 4, 5, 60].map((attempt) => delayMs(attempt, middle)), [1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  assert.equal(delayMs(0, { random: () => 0 }), 750);
  assert.equal(delayMs(9, { random: () => 1 }), 25_000);
  assert.equal(delayMs(0, { quick: true, ...middle }), 250);
  assert.equal(delayMs(0, { atLeastMs: 7000, ...middle }), 7000, 'what the host asks for counts');
});

test('each close code of the gateway has its sentence and its way on', () => {
  const ways = Object.fromEntries([1001, 1006, 1008, 1011, 1012, 4401, 4403, 4408, 4409, 4410].map((code) => [code, closeReason(code).again]));
  assert.deepEqual(ways, {
    1001: 'later', 1006: 'later', 1008: 'ask', 1011: 'ask', 1012: 'quickly', 4401: 'never', 4403: 'never', 4408: 'ask', 4409: 'ask', 4410: 'never',
  });
  assert.match(closeReason(4401).title, /expired/);
  assert.match(closeReason(4999).text, /4999/);
  for (const code of [4401, 4403, 4410]) assert.ok(!closeReason(code).keepPicture, 'who may not look sees no last picture');
});

test('a refused ticket says why, and waits as long as it was told', () => {
  assert.equal(refusal(401, {}).again, 'never');
  assert.equal(refusal(403, {}).again, 'never');
  assert.equal(refusal(404, { request_id: 'r-1' }).reference, 'r-1');
  for (const status of [429, 503]) {
    assert.equal(refusal(status, {}, 7000).again, 'later');
    assert.equal(refusal(status, {}, 7000).retryAfterMs, 7000);
  }
  assert.equal(refusal(418, { detail: 'short and stout' }).text, 'short and stout');
});

test('a change of text becomes deletions and additions, in characters', () => {
  assert.deepEqual(difference('abc', 'abcd'), { removed: 0, added: 'd' });
  assert.deepEqual(difference('teh', 'the '), { removed: 2, added: 'he ' });
  assert.deepEqual(difference('a😀', 'a'), { removed: 1, added: '' });
  assert.deepEqual(difference('a😀', 'a😃'), { removed: 1, added: '😃' });
  assert.deepEqual(difference('', ''), { removed: 0, added: '' });
});
