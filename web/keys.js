// Keys that the viewer's own browser or system would swallow, sent by a click; and text typed key by key.

import KeyTable from './novnc/core/input/keysym.js';
import keysyms from './novnc/core/input/keysymdef.js';

const CONTROL = [KeyTable.XK_Control_L, 'ControlLeft'];
const ALT = [KeyTable.XK_Alt_L, 'AltLeft'];
const SHIFT = [KeyTable.XK_Shift_L, 'ShiftLeft'];

/** Label, what it does in a browser, keys in the order in which they go down. */
const CHORDS = [
  ['Ctrl+Alt+Del', '', null],
  ['Esc', '', [[KeyTable.XK_Escape, 'Escape']]],
  ['Tab', '', [[KeyTable.XK_Tab, 'Tab']]],
  ['Ctrl+T', 'New tab', [CONTROL, [0x74, 'KeyT']]],
  ['Ctrl+W', 'Close tab', [CONTROL, [0x77, 'KeyW']]],
  ['Ctrl+Shift+T', 'Reopen', [CONTROL, SHIFT, [0x54, 'KeyT']]],
  ['Ctrl+Tab', 'Next tab', [CONTROL, [KeyTable.XK_Tab, 'Tab']]],
  ['Ctrl+L', 'Address', [CONTROL, [0x6c, 'KeyL']]],
  ['F5', 'Reload', [[KeyTable.XK_F5, 'F5']]],
  ['Alt+←', 'Back', [ALT, [KeyTable.XK_Left, 'ArrowLeft']]],
];

/** Presses the keys in order, releases them in reverse. */
function press(rfb, chord) {
  for (const [keysym, code] of chord) rfb.sendKey(keysym, code, true);
  for (const [keysym, code] of [...chord].reverse()) rfb.sendKey(keysym, code, false);
}

/** Fills the panel; `currentRfb` gives the live RFB or null. */
export function fillKeyGrid(grid, currentRfb) {
  for (const [label, meaning, chord] of CHORDS) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'button key';
    const name = document.createElement('span');
    name.textContent = label;
    button.append(name);
    if (meaning) {
      const hint = document.createElement('small');
      hint.textContent = meaning;
      button.append(hint);
    }
    button.addEventListener('click', () => {
      const rfb = currentRfb();
      if (!rfb) return;
      if (chord) press(rfb, chord);
      else rfb.sendCtrlAltDel();
    });
    grid.append(button);
  }
}

/** Types `text`, character by character. */
export function typeText(rfb, text) {
  for (const character of text.replaceAll('\r\n', '\n')) {
    const keysym = character === '\n' ? KeyTable.XK_Return
      : character === '\t' ? KeyTable.XK_Tab
        : keysyms.lookup(character.codePointAt(0));
    // No scancode: it depends on the keyboard's layout, and the server finds the key for the character itself.
    if (keysym) rfb.sendKey(keysym, '');
  }
}

/** Deletes `count` characters before the caret. */
export function backspace(rfb, count) {
  for (let i = 0; i < count; i += 1) rfb.sendKey(KeyTable.XK_BackSpace, 'Backspace');
}

const NAMED = {
  Escape: KeyTable.XK_Escape,
  Tab: KeyTable.XK_Tab,
  Delete: KeyTable.XK_Delete,
  ArrowLeft: KeyTable.XK_Left,
  ArrowRight: KeyTable.XK_Right,
  ArrowUp: KeyTable.XK_Up,
  ArrowDown: KeyTable.XK_Down,
  Home: KeyTable.XK_Home,
  End: KeyTable.XK_End,
  PageUp: KeyTable.XK_Page_Up,
  PageDown: KeyTable.XK_Page_Down,
};

/** Sends a key that writes nothing; false when it is not one of those. */
export function pressNamed(rfb, key) {
  const keysym = NAMED[key];
  if (keysym) rfb.sendKey(keysym, key);
  return Boolean(keysym);
}
