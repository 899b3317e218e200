// The line to the PBX: one JsSIP user agent, its socket and its registration.

import JsSIP from 'jssip';
import { registrationFailure } from './words.js';

// Quick to come back: this page and viaduct are on one machine as a rule.
const recovery = { connection_recovery_min_interval: 1, connection_recovery_max_interval: 2 };

/**
 * Fires "change" when connection, registration or problem change, "connected"
 * at each new socket, and "incoming" with a JsSIP session as its detail.
 */
export class Line extends EventTarget {
  /** off, connecting, connected, or lost: JsSIP is trying again. */
  connection = 'off';
  /** none, registering, registered, or unregistering. */
  registration = 'none';
  /** Why there is no registration, in words, or null. */
  problem = null;
  /** The account in use, {user, domain, password}, or null. */
  account = null;

  #socketURL;
  #agent = null;

  constructor(socketURL) {
    super();
    this.#socketURL = socketURL;
  }

  /** Connects as account and registers; ends what another account did. */
  register(account) {
    if (this.#agent && same(account, this.account)) {
      this.#set({ registration: 'registering', problem: null });
      this.#agent.register();
      return;
    }
    this.#agent?.stop();
    this.account = account;
    this.#set({ connection: 'connecting', registration: 'registering', problem: null });
    this.#agent = this.#start(account);
  }

  unregister() {
    this.#set({ registration: 'unregistering', problem: null });
    this.#agent.unregister();
  }

  /** A JsSIP session that calls target. */
  call(target, options) {
    return this.#agent.call(target, options);
  }

  /** Whether target, as it was typed, can be called. */
  valid(target) {
    return Boolean(this.#agent?.normalizeTarget(target));
  }

  #start(account) {
    const agent = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(this.#socketURL)],
      uri: `sip:${account.user}@${account.domain}`,
      password: account.password,
      session_timers: false,
      ...recovery,
    });
    // What an agent says after it was replaced is of no interest.
    const on = (event, hear) => agent.on(event, (e) => { if (agent === this.#agent) hear(e); });
    on('connecting', () => {
      if (this.connection !== 'lost') this.#set({ connection: 'connecting' });
    });
    on('connected', () => {
      this.#set({ connection: 'connected', registration: 'registering' });
      this.dispatchEvent(new Event('connected'));
    });
    on('disconnected', () => this.#set({ connection: 'lost', registration: 'none' }));
    on('registered', () => this.#set({ registration: 'registered', problem: null }));
    on('unregistered', () => this.#set({ registration: 'none' }));
    on('registrationFailed', (e) => {
      // A lost socket is told by connection; JsSIP registers again by itself.
      if (this.connection === 'connected') this.#set({ registration: 'none', problem: registrationFailure(e) });
    });
    on('newRTCSession', ({ originator, session }) => {
      if (originator === 'remote') this.dispatchEvent(new CustomEvent('incoming', { detail: session }));
    });
    agent.start();
    return agent;
  }

  #set(state) {
    Object.assign(this, state);
    this.dispatchEvent(new Event('change'));
  }
}

function same(a, b) {
  return a.user === b.user && a.domain === b.domain && a.password === b.password;
}
