// The viewer page: takes the link's credential, keeps a connection, shows its state.

import { Bar } from './bar.js';
import { Cards } from './cards.js';
import { ClipboardPanel } from './clipboard.js';
import { Connection } from './connection.js';
import { parseLink, takeFromAddress } from './credential.js';
import { HandoffPanel } from './handoffs.js';
import { fillKeyGrid } from './keys.js';
import { TouchKeyboard } from './touch.js';

const byId = (id) => document.getElementById(id);
const screen = byId('screen');
const stage = byId('stage');

let connection = null;
let shown = null;
let fit = true;
const currentRfb = () => connection?.rfb ?? null;
const backToScreen = () => currentRfb()?.focus({ preventScroll: true });

const clipboard = new ClipboardPanel(currentRfb);
const bar = new Bar({
  onPanel: (panel) => {
    if (panel === 'clipboard-panel') clipboard.opened();
  },
  onFit: (wanted) => {
    fit = wanted;
    if (currentRfb()) currentRfb().scaleViewport = fit;
  },
  onLeave: () => connection?.close(),
  onDone: backToScreen,
});
const handoffs = new HandoffPanel({
  onSpoken: (sentence) => { byId('spoken').textContent = sentence; },
  onDone: backToScreen,
});
const cards = new Cards((does, value) => {
  if (does === 'open') connection?.open();
  if (does === 'stop') connection?.close();
  if (does !== 'link') return false;
  const credential = parseLink(value);
  if (credential) start(credential);
  return Boolean(credential);
});

fillKeyGrid(byId('key-grid'), currentRfb);
new TouchKeyboard(byId('touch-input'), byId('keyboard'), currentRfb);
byId('keyboard').hidden = !matchMedia('(any-pointer: coarse)').matches;

/** Connects with `credential`, in place of whatever there was. */
function start(credential) {
  connection?.discard();
  keepPicture(null);
  bar.session(credential.session);
  shown = credential;
  connection = new Connection(credential, {
    base: new URL('.', location.href),
    screen,
    onState: show,
    onClipboard: (text) => clipboard.arrived(text),
    onPicture: keepPicture,
  });
  connection.open();
}

function show(state) {
  document.body.dataset.state = state.name;
  byId('veil').hidden = state.name === 'live';
  if (state.name !== 'live') {
    bar.live(null);
    handoffs.stop();
  }
  switch (state.name) {
    case 'no-link':
      cards.noLink();
      return announce('No link', 'Open your viewer link.');
    case 'connecting':
      cards.connecting(state.again);
      return announce(state.again ? 'Reconnecting' : 'Connecting');
    case 'waiting':
      cards.waiting(state);
      return announce('Reconnecting', `${state.reason.title}. ${state.reason.text} Trying again.`);
    case 'over':
      cards.over(state.reason);
      // Whoever uses the keyboard was inside the picture, which is gone.
      byId('card-title').focus({ preventScroll: true });
      return announce(state.reason.sign === 'refused' ? 'Refused' : 'Ended', `${state.reason.title}. ${state.reason.text}`);
    default:
      return showLive(state);
  }
}

function showLive({ role, expiresAt }) {
  cards.hide();
  keepPicture(null);
  bar.live(role, expiresAt);
  document.body.dataset.role = role;
  currentRfb().scaleViewport = fit;
  announce('Live', role === 'controller' ? 'Connected. You are in control.' : 'Connected. Viewing only.');
  backToScreen();
  handoffs.start(new URL('.', location.href), shown, role);
}

/** Says the state beside the light, in the tab's title, and to screen readers. */
function announce(word, sentence = `${word}.`) {
  bar.word(word);
  document.title = `${word} · Viewer`;
  byId('spoken').textContent = sentence;
}

/** Leaves the last picture in view, dimmed, while the connection comes back; with null takes it away. */
function keepPicture(canvas) {
  stage.querySelector('.last-picture')?.remove();
  if (!canvas || canvas.width === 0) return;
  const copy = document.createElement('canvas');
  copy.className = 'last-picture';
  copy.width = canvas.width;
  copy.height = canvas.height;
  copy.getContext('2d').drawImage(canvas, 0, 0);
  stage.prepend(copy);
}

// noVNC hears keys on its canvas, which cannot be reached by Tab; this element can.
screen.addEventListener('focus', backToScreen);
// noVNC lets go of held keys only when the whole window loses its focus, so a key held while the focus moves to the bar
// would stay down on the remote side.
screen.addEventListener('focusout', () => window.dispatchEvent(new Event('blur')));
window.addEventListener('keydown', (event) => {
  if (!(event.ctrlKey && event.altKey && event.shiftKey) || !screen.contains(document.activeElement)) return;
  bar.fold(false);
  byId('tools').querySelector('button:not([hidden], .withheld)')?.focus();
}, { capture: true });

window.addEventListener('online', () => {
  if (document.body.dataset.state === 'waiting') connection.open();
});
window.addEventListener('hashchange', () => {
  const credential = takeFromAddress(location, history);
  if (credential) start(credential);
});

const credential = takeFromAddress(location, history);
if (credential) start(credential);
else show({ name: 'no-link' });
