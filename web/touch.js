// The on-screen keyboard of touch devices. It only comes up for a text field, and what it writes arrives as changes to
// that field's text: composition, autocorrect and swipes included. So there is a field out of sight, and each change to
// its text is replayed as key presses.

import { difference } from './difference.js';
import { backspace, pressNamed, typeText } from './keys.js';

/** Something to delete must always stand in the field, or Backspace would change nothing and go unnoticed. */
const FILLER = '\u00a0'.repeat(64);
const RESTORE_AT = 512;

export class TouchKeyboard {
  #field;
  #before = FILLER;

  /** @param {() => import('./novnc/core/rfb.js').default | null} currentRfb */
  constructor(field, button, currentRfb) {
    this.#field = field;
    field.addEventListener('input', (event) => this.#changed(currentRfb(), event.isComposing));
    field.addEventListener('compositionend', () => this.#changed(currentRfb(), false));
    field.addEventListener('keydown', (event) => {
      const rfb = currentRfb();
      if (rfb && pressNamed(rfb, event.key)) event.preventDefault();
    });
    field.addEventListener('focus', () => this.#shown(true, button, currentRfb()));
    field.addEventListener('blur', () => this.#shown(false, button, currentRfb()));
    // The field keeps its focus while the button is pressed, or the keyboard would close and open again.
    button.addEventListener('pointerdown', (event) => event.preventDefault());
    button.addEventListener('click', () => this.#toggle());
  }

  #toggle() {
    if (document.activeElement === this.#field) {
      this.#field.blur();
    } else {
      this.#restore();
      this.#field.focus({ preventScroll: true });
    }
  }

  #shown(shown, button, rfb) {
    button.setAttribute('aria-pressed', String(shown));
    // Or the first tap on the picture would take the focus, and the keyboard with it.
    if (rfb) rfb.focusOnClick = !shown;
  }

  #changed(rfb, composing) {
    const { removed, added } = difference(this.#before, this.#field.value);
    this.#before = this.#field.value;
    if (rfb) {
      backspace(rfb, removed);
      typeText(rfb, added);
    }
    // A field that is rewritten in the middle of a composition loses it.
    const outgrown = this.#field.value.length > RESTORE_AT || this.#field.value.length < FILLER.length / 2;
    if (outgrown && !composing) this.#restore();
  }

  #restore() {
    this.#field.value = FILLER;
    this.#before = FILLER;
    this.#field.setSelectionRange(FILLER.length, FILLER.length);
  }
}
