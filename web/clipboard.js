// The clipboard panel: text out to the remote screen, text back from it. Nothing crosses without a press of a button:
// what a person copied for something else must not end up in a sandbox.

import { typeText } from './keys.js';

const byId = (id) => document.getElementById(id);

export class ClipboardPanel {
  #note = byId('clip-note');
  #incoming = byId('clip-in');
  #outgoing = byId('clip-out');

  /** @param {() => import('./novnc/core/rfb.js').default | null} currentRfb */
  constructor(currentRfb) {
    byId('clip-send').addEventListener('click', () => {
      currentRfb()?.clipboardPasteFrom(this.#outgoing.value);
      // Older VNC servers spoil everything past ASCII.
      this.#say(/[^\u0000-\u007f]/.test(this.#outgoing.value)
        ? 'Ready to paste. Should characters come out wrong, use “Type it”.'
        : 'Ready to paste on the remote screen.');
    });
    byId('clip-type').addEventListener('click', () => {
      const rfb = currentRfb();
      if (rfb) typeText(rfb, this.#outgoing.value);
      this.#say('Typed.');
    });
    byId('clip-read').hidden = !navigator.clipboard?.readText;
    byId('clip-read').addEventListener('click', async () => {
      try {
        this.#outgoing.value = await navigator.clipboard.readText();
        this.#say('');
      } catch {
        this.#outgoing.focus();
        this.#say('This browser did not allow it. Paste into the field instead.');
      }
    });
    byId('clip-copy').addEventListener('click', () => this.#copy());
  }

  /** Text was copied on the remote screen. */
  arrived(text) {
    this.#incoming.value = text;
    byId('clip-copy').disabled = text === '';
    byId('clipboard-news').hidden = !byId('clipboard-panel').hidden;
    this.#say('');
  }

  /** The panel was opened: its news is seen. */
  opened() {
    byId('clipboard-news').hidden = true;
    this.#say('');
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#incoming.value);
      this.#say('Copied.');
    } catch {
      this.#incoming.select();
      this.#say('Selected. Copy it with your keyboard.');
    }
  }

  #say(text) {
    this.#note.textContent = text;
  }
}
