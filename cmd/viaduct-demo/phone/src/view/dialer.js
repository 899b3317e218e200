import { $, element, say } from './dom.js';

/** Whom to call: a field for any number, and buttons for those the demo knows. */
export class DialerView {
  #config;
  #dial;

  constructor(config, dial) {
    this.#config = config;
    this.#dial = dial;
    $('dial').onsubmit = (e) => {
      e.preventDefault();
      const target = $('target').value.trim();
      if (target) dial(target);
      else $('target').focus();
    };
  }

  /** Shows how the last call ended, or nothing. */
  outcome(text) {
    say($('outcome'), text);
  }

  /** Offers everybody but user. */
  show(user, ready) {
    $('dial-button').disabled = !ready;
    const others = this.#config.accounts
      .filter((account) => account.user !== user)
      .map((account) => ({ number: account.user, name: account.name, about: 'Open this page in a second tab' }));
    const contacts = [...others, ...this.#config.extensions];
    const buttons = $('contacts').querySelectorAll('button');
    if ([...buttons].map((b) => b.value).join() !== contacts.map((c) => c.number).join()) {
      $('contacts').replaceChildren(...contacts.map((contact) => this.#contact(contact)));
    }
    for (const button of $('contacts').querySelectorAll('button')) button.disabled = !ready;
  }

  #contact({ number, name, about }) {
    return element('li', {}, element('button', { type: 'button', value: number, onclick: () => this.#dial(number) },
      element('strong', { textContent: name }),
      element('span', { className: 'number', textContent: number }),
      element('span', { className: 'about', textContent: about })));
  }
}
