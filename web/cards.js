// What lies over the screen while there is no picture: one card, five signs.

const byId = (id) => document.getElementById(id);

export class Cards {
  #ticking = 0;

  /** The card for `state`; nothing while it is live. `act` gets 'open', 'stop' or a link that was typed in. */
  constructor(act) {
    this.act = act;
    this.card = byId('card');
    this.primary = byId('card-primary');
    this.secondary = byId('card-secondary');
    this.primary.addEventListener('click', () => this.act(this.primary.dataset.does));
    this.secondary.addEventListener('click', () => this.act(this.secondary.dataset.does));
    byId('link-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const field = byId('link');
      const taken = this.act('link', field.value);
      byId('link-problem').hidden = taken;
      byId('link-problem').textContent = taken ? '' : 'That is not a viewer link: it needs a session and a token after the #.';
      // The link holds the token: it does not stay in the field.
      if (taken) field.value = '';
    });
  }

  noLink() {
    this.#show('nolink', 'Open your viewer link', 'This page shows a remote screen to people who were sent a link to it. For your safety the link’s '
      + 'secret part is kept in memory only, so after a reload you need the link again.');
    byId('link-form').hidden = false;
  }

  connecting(again) {
    this.#show('busy', again ? 'Reconnecting' : 'Connecting', 'Getting the remote screen…');
  }

  waiting({ reason, until, totalMs }) {
    this.#show('wait', reason.title, reason.text, reason.reference);
    this.#button(this.primary, 'Try now', 'open');
    this.#button(this.secondary, 'Stop trying', 'stop');
    const tick = () => {
      const leftMs = Math.max(0, until - performance.now());
      byId('countdown').textContent = String(Math.ceil(leftMs / 1000));
      byId('countdown-ring').setAttribute('stroke-dashoffset', String(100 - (100 * leftMs) / totalMs));
      this.#ticking = requestAnimationFrame(tick);
    };
    tick();
  }

  over(reason) {
    this.#show(reason.sign, reason.title, reason.text, reason.reference);
    if (reason.again === 'ask') this.#button(this.primary, reason.action, 'open');
  }

  #show(sign, title, text, reference) {
    cancelAnimationFrame(this.#ticking);
    this.card.dataset.sign = sign;
    byId('card-title').textContent = title;
    byId('card-text').textContent = text;
    byId('countdown').textContent = '';
    byId('link-form').hidden = true;
    byId('card-reference').hidden = !reference;
    byId('card-reference').textContent = reference ? `Reference ${reference}` : '';
    for (const button of [this.primary, this.secondary]) button.hidden = true;
  }

  #button(button, label, does) {
    button.textContent = label;
    button.dataset.does = does;
    button.hidden = false;
  }

  /** No card: stops counting. */
  hide() {
    cancelAnimationFrame(this.#ticking);
  }
}
