import { $, element, say } from './dom.js';

/**
 * Who this page is: a choice among the demo's accounts, or a form for those of
 * a real PBX. Calls back with {user, password, domain} to register, and with
 * nothing to unregister.
 */
export class AccountView {
  #config;
  #hear;
  #chosen = null;

  constructor(config, { register, unregister }) {
    this.#config = config;
    this.#hear = { register, unregister };
    const { accounts } = config;
    $('account-choice').replaceChildren(...accounts.map(({ user, name }) => new Option(name, user)));
    $('account-choice').onchange = (e) => this.choose(accounts.find(({ user }) => user === e.target.value));
    $('account').hidden = $('sign-in').hidden = true;
    $('sign-in-hint').textContent =
      `An account of ${config.domain}. Write 1001@example.org if the PBX serves another domain.`;
    $('sign-in').onsubmit = (e) => {
      e.preventDefault();
      const [user, domain] = $('user').value.trim().split('@');
      this.choose({ user, domain, name: user, password: $('password').value });
    };
    this.show(null);
  }

  /** Registers as that account. */
  choose(account) {
    this.#chosen = { domain: this.#config.domain, ...account };
    this.#chosen.domain ||= this.#config.domain;
    this.#hear.register(this.#chosen);
  }

  /** Shows how the line is; null before the first account. A call keeps its account. */
  show(line, call = null) {
    const typed = this.#config.accounts.length === 0;
    const away = !line || line.registration === 'none' && line.connection !== 'lost';
    $('sign-in').hidden = !typed || !away;
    $('account').hidden = !line;
    if (!line) return;
    const { name, user } = this.#chosen;
    if (typed) $('account-choice').replaceChildren(new Option(`${user}@${this.#chosen.domain}`, user));
    $('account-choice').value = user;
    $('account-choice').disabled = typed || call !== null;
    say($('avatar'), (name ?? user).slice(0, 1).toUpperCase());
    const { state, text } = condition(line, user, call?.state === 'talking');
    $('line').dataset.state = state;
    say($('line'), text);
    this.#showButton(line, typed && away);
  }

  #showButton(line, hidden) {
    const registered = line.registration === 'registered' || line.registration === 'unregistering';
    const button = $('registration');
    button.hidden = hidden;
    button.disabled = line.connection !== 'connected' || line.registration.endsWith('ing');
    say(button, registered ? 'Unregister' : 'Register');
    button.onclick = () => (registered ? this.#hear.unregister() : this.#hear.register(this.#chosen));
  }
}

/** The line's condition: a word for the style sheet, and a sentence. */
function condition({ connection, registration, problem }, user, talking) {
  if (connection === 'lost') {
    return {
      state: 'lost',
      text: talking
        ? 'Connection to viaduct lost, trying again. You can go on talking: audio takes another way.'
        : 'Connection to viaduct lost, trying again.',
    };
  }
  if (connection === 'connecting') return { state: 'busy', text: 'Connecting to viaduct…' };
  if (problem) return { state: 'refused', text: problem };
  switch (registration) {
    case 'registering': return { state: 'busy', text: 'Connected, registering…' };
    case 'unregistering': return { state: 'busy', text: 'Unregistering…' };
    case 'registered': return { state: 'registered', text: `Registered as ${user}` };
    default: return { state: 'off', text: 'Connected, not registered' };
  }
}
