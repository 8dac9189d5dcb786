// The bar above the screen: who you are here, and the tools. It folds away in full screen, or when asked to.

const byId = (id) => document.getElementById(id);

const ROLES = {
  controller: { short: 'In control', full: 'You are in control' },
  spectator: { short: 'Viewing', full: 'Viewing only' },
};

/** Access that ends within so long is announced. */
const EXPIRY_NOTICE_MS = 120_000;

export class Bar {
  #panels = [['keys', 'keys-panel'], ['clipboard', 'clipboard-panel']];
  #expiry = 0;

  /** @param {{onPanel: (id: string) => void, onFit: (fit: boolean) => void, onLeave: () => void, onDone: () => void}} does */
  constructor(does) {
    this.does = does;
    for (const [button, panel] of this.#panels) {
      byId(button).addEventListener('click', () => this.#toggle(button, panel));
    }
    byId('fit').addEventListener('click', () => {
      const fit = byId('fit').getAttribute('aria-pressed') !== 'true';
      byId('fit').setAttribute('aria-pressed', String(fit));
      does.onFit(fit);
      does.onDone();
    });
    byId('leave').addEventListener('click', does.onLeave);
    byId('hide-bar').addEventListener('click', () => {
      this.fold(true);
      does.onDone();
    });
    byId('show-bar').addEventListener('click', () => {
      this.fold(false);
      byId('tools').querySelector('button:not([hidden])').focus();
    });
    this.#fullScreen();
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.closePanels()) does.onDone();
    });
  }

  /** The words beside the light. */
  word(text) {
    byId('state-word').textContent = text;
  }

  session(id) {
    byId('session').textContent = id;
  }

  /** Live as `role`, or with null not live. */
  live(role, expiresAt) {
    clearInterval(this.#expiry);
    byId('expiry').hidden = true;
    byId('tools').hidden = !role;
    const badge = byId('role');
    badge.hidden = !role;
    if (!role) {
      this.closePanels();
      this.fold(false);
      return;
    }
    const words = ROLES[role] ?? { short: role, full: role };
    badge.dataset.role = role;
    badge.title = words.full;
    badge.replaceChildren(span('long', words.full), span('short', words.short));
    for (const tool of document.querySelectorAll('.acting')) tool.classList.toggle('withheld', role !== 'controller');
    if (expiresAt) {
      const show = () => this.#showExpiry(expiresAt - Date.now());
      this.#expiry = setInterval(show, 1000);
      show();
    }
    if (document.fullscreenElement) this.fold(true);
  }

  /** Folds the bar away, leaving a handle. */
  fold(away) {
    this.closePanels();
    byId('bar').hidden = away;
    byId('show-bar').hidden = !away;
  }

  /** Closes what is open; says whether something was. */
  closePanels() {
    let closed = false;
    for (const [button, panel] of this.#panels) {
      closed ||= !byId(panel).hidden;
      byId(panel).hidden = true;
      byId(button).setAttribute('aria-expanded', 'false');
    }
    return closed;
  }

  #toggle(button, panel) {
    const open = byId(panel).hidden;
    this.closePanels();
    if (!open) {
      this.does.onDone();
      return;
    }
    byId(panel).hidden = false;
    byId(button).setAttribute('aria-expanded', 'true');
    byId(panel).querySelector('textarea, button')?.focus();
    this.does.onPanel(panel);
  }

  #showExpiry(leftMs) {
    const chip = byId('expiry');
    chip.hidden = leftMs > EXPIRY_NOTICE_MS || leftMs <= 0;
    const seconds = Math.ceil(leftMs / 1000);
    chip.textContent = `Ends in ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  }

  #fullScreen() {
    const button = byId('fullscreen');
    button.hidden = !document.fullscreenEnabled;
    button.addEventListener('click', async () => {
      if (document.fullscreenElement) {
        await document.exitFullscreen();
      } else {
        // Refused without a gesture or by policy: then the page stays as it is.
        await document.documentElement.requestFullscreen({ navigationUI: 'hide' }).catch(() => {});
      }
      this.does.onDone();
    });
    document.addEventListener('fullscreenchange', () => {
      const full = Boolean(document.fullscreenElement);
      button.setAttribute('aria-pressed', String(full));
      this.fold(full && !byId('tools').hidden);
      // Where browsers let us: Ctrl+W and the like go to the remote screen; holding Esc still leaves.
      if (full) navigator.keyboard?.lock?.().catch(() => {});
      else navigator.keyboard?.unlock?.();
    });
  }
}

function span(className, text) {
  const element = document.createElement('span');
  element.className = className;
  element.textContent = text;
  return element;
}
