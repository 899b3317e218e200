// <sip-ladder src="events"> shows what passes viaduct while it passes.
//
// Attributes: src is the stream of events; max how many messages are kept (500).
// Of call-id, user and connection, those that are there say what alone is shown; with
// narrow the stream is asked for no more than that. Methods: add, pause, resume,
// clear, only, values, text, pcap. The event "filter" tells that what is shown has changed.

import { concerns } from './message.js';
import { micros, pcap } from './pcap.js';
import { clock, detail, el, gap, onlyText, read, row } from './view.js';

const filters = { 'call-id': 'Call', user: 'User', connection: 'Connection' };
const defaultMax = 500;
const retryAfter = 3000; // ms; what EventSource itself does not retry
const gather = 60; // ms in which events are shown together

class SipLadder extends HTMLElement {
  static observedAttributes = ['src', 'max', ...Object.keys(filters)];

  #entries = []; // shown, the oldest first; one without an event is a gap
  #waiting = []; // not shown yet
  #timer;
  #retry;
  #source;
  #paused = false;
  #everLive = false;
  #asked; // what is to be said of it when the stream is another one
  #trouble = '';
  #calls = new Map(); // of what is kept: by Call-ID, when it began and when it was last seen
  #open;
  #unseen = 0;
  #ui;

  constructor() {
    super();
    const button = (text, click) => el('button', { type: 'button', click }, text);
    const status = el('span', { role: 'status', class: 'status' });
    const ui = {
      status,
      count: el('span', { class: 'count' }),
      filter: el('button', { type: 'button', class: 'chip', hidden: true, click: () => this.only() }),
      pause: button('Pause', () => (this.#paused ? this.resume() : this.pause())),
      clear: button('Clear', () => this.clear()),
      text: el('button', { type: 'button', 'aria-label': 'Download as text', click: () => this.#save('txt', new Blob([this.text()], { type: 'text/plain' })) }, '↓ Text'),
      pcap: el('button', { type: 'button', 'aria-label': 'Download as pcap', click: () => this.#save('pcap', this.pcap()) }, '↓ pcap'),
      list: el('ol', { role: 'list', 'aria-label': 'SIP messages', keydown: (e) => this.#key(e) }),
      tail: el('div', { class: 'tail', 'aria-hidden': 'true' }, el('span'), el('span', { class: 'lanes' })),
      empty: el('p', { class: 'empty' }),
      latest: el('button', { type: 'button', class: 'latest', hidden: true, click: () => this.#follow() }),
    };
    ui.scroll = el('div', { class: 'scroll', scroll: () => this.#seen() },
      el('div', { class: 'heads', 'aria-hidden': 'true' }, el('span'),
        el('span', { class: 'lanes' }, el('span', {}, 'Browser'), el('span', { class: 'us' }, 'Viaduct'), el('span', {}, 'PBX'))),
      ui.list, ui.tail, ui.empty);
    ui.frame = el('div', { class: 'ladder' },
      el('div', { class: 'bar', role: 'group', 'aria-label': 'Message ladder' },
        el('span', { class: 'state' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), status, ui.count),
        ui.filter, el('span', { class: 'tools' }, ui.pause, ui.clear, ui.text, ui.pcap)),
      ui.scroll, ui.latest);
    this.attachShadow({ mode: 'open' }).append(
      el('link', { rel: 'stylesheet', href: new URL('ladder.css', import.meta.url).href }), ui.frame);
    this.#ui = ui;
    this.#say('off', 'Not connected');
    this.#refresh();
  }

  connectedCallback() { this.#begin(); }

  disconnectedCallback() { this.#disconnect(); }

  attributeChangedCallback(name, old, value) {
    if (old === value) return;
    if (name in filters) this.#filter(value === null);
    else if (name === 'max') this.#trim();
    else if (this.isConnected) this.#begin();
  }

  /** add shows one event of the stream. */
  add(event) {
    const entry = read(event);
    this.#time(entry);
    this.#put(entry);
  }

  /** pause holds back what comes from now on. */
  pause() {
    this.#paused = true;
    this.#ui.pause.textContent = 'Resume';
    this.#announce();
  }

  /** resume shows what was held back, and what comes. */
  resume() {
    this.#paused = false;
    this.#ui.pause.textContent = 'Pause';
    this.#announce();
    this.#show();
  }

  /** clear forgets all that is shown and held back. */
  clear() {
    [this.#entries, this.#waiting, this.#open, this.#unseen] = [[], [], undefined, 0];
    this.#calls.clear();
    this.#ui.list.replaceChildren();
    this.#refresh();
  }

  /** only shows what has that value of a filter and nothing else; without arguments, everything. */
  only(name, value) {
    for (const other of Object.keys(filters)) if (other !== name) this.removeAttribute(other);
    if (name) this.setAttribute(name, value);
  }

  /** values returns those of a filter that what is shown has, the newest first. */
  values(name) {
    const field = { 'call-id': 'callId' }[name] ?? name;
    return [...new Set(this.#entries.map((e) => e.event?.[field]).filter(Boolean).reverse())].slice(0, 50);
  }

  /** text returns what is shown, before and after, for a file. */
  text() {
    return this.#shown().map(({ event, note, message, since }) => {
      if (!event) return `${note}\n`;
      const way = event.direction === 'up' ? `${event.browser ?? 'browser'} > ${event.peer ?? 'viaduct'}`
        : `${event.peer ?? 'PBX'} > ${event.browser ?? 'viaduct'}`;
      const why = event.reason ? ` (${event.reason}: ${event.reasonText})` : '';
      const timing = since ? `, +${Number(since.last) / 1e6} s` : '';
      const before = event.before ? `--- before\n${event.before}\n` : '';
      const after = event.after ? `--- ${event.kind === 'answered' ? 'answer' : 'after'}\n${event.after}\n` : '';
      return `=== ${event.time} ${message.title}, ${way}, ${event.kind}${why}${timing}\n${before}${after}`;
    }).join('\n');
  }

  /** pcap returns what is shown as a capture, a Blob. */
  pcap() { return pcap(this.#shown().filter((e) => e.raw).map((e) => e.raw)); }

  #shown() { return this.#entries.filter((e) => this.#matches(e)); }

  // The stream.

  #begin() {
    this.#connect();
    this.#trouble = 'Connecting…';
    this.#announce();
  }

  #connect() {
    this.#disconnect();
    const src = this.getAttribute('src');
    if (src === null) return;
    const query = this.hasAttribute('narrow') ? String(new URLSearchParams(this.#filters())) : '';
    const source = new EventSource(query ? `${src}?${query}` : src);
    this.#source = source;
    source.addEventListener('open', () => this.#live());
    source.addEventListener('error', () => this.#broken());
    source.addEventListener('sip', (e) => this.add(JSON.parse(e.data)));
    source.addEventListener('lost', (e) => this.#note(`${JSON.parse(e.data).lost} messages were missed: they came faster than they could be shown.`));
  }

  #disconnect() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = undefined;
  }

  #live() {
    if (this.#everLive) this.#note(this.#asked ?? 'Connected again. What passed in between is not shown.');
    [this.#everLive, this.#asked] = [true, undefined];
    this.#announce();
  }

  #broken() {
    this.#trouble = this.#everLive ? 'Connection lost, trying again…' : 'Not reachable, trying again…';
    this.#announce();
    if (this.#source.readyState === EventSource.CLOSED) this.#retry = setTimeout(() => this.#connect(), retryAfter);
  }

  #announce() {
    if (!this.#source) this.#say('off', 'Not connected');
    else if (this.#source.readyState !== EventSource.OPEN) this.#say('wait', this.#trouble);
    else if (this.#paused) this.#say('paused', 'Paused');
    else this.#say('live', 'Live');
  }

  #say(state, text) {
    this.#ui.frame.dataset.state = state;
    if (this.#ui.status.textContent !== text) this.#ui.status.textContent = text;
  }

  #note(note) { this.#put({ note }); }

  // The list.

  get #max() { return Math.max(1, Number.parseInt(this.getAttribute('max') ?? '', 10) || defaultMax); }

  #put(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > this.#max) this.#forget(this.#waiting.shift());
    // Not animation frames: a page in the background has none.
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#show();
    }, gather);
  }

  #show() {
    if (this.#paused) {
      this.#refresh();
      return;
    }
    const follows = this.#atEnd() && !this.#open;
    for (const entry of this.#waiting) this.#make(entry);
    this.#ui.list.append(...this.#waiting.map((entry) => entry.item));
    this.#entries.push(...this.#waiting);
    if (!follows) this.#unseen += this.#waiting.filter((e) => e.event && this.#matches(e)).length;
    this.#waiting = [];
    this.#trim();
    if (follows) this.#follow();
    this.#refresh();
  }

  #make(entry) {
    entry.item = entry.event ? row(entry, () => this.#toggle(entry)) : gap(entry.note);
    entry.item.hidden = !this.#matches(entry);
  }

  #trim() {
    for (const entry of this.#entries.splice(0, Math.max(0, this.#entries.length - this.#max))) {
      if (entry === this.#open) this.#open = undefined;
      entry.item.remove();
      this.#forget(entry);
    }
  }

  /** #time notes how long after the others of its call a message came. */
  #time(entry) {
    const { callId, time } = entry.event;
    if (!callId) return;
    const now = micros(time);
    const call = this.#calls.get(callId) ?? { first: now, last: now, kept: 0 };
    if (call.kept > 0) entry.since = { first: now - call.first, last: now - call.last };
    this.#calls.set(callId, { first: call.first, last: now, kept: call.kept + 1 });
  }

  #forget({ event }) {
    const call = this.#calls.get(event?.callId);
    if (call && --call.kept === 0) this.#calls.delete(event.callId);
  }

  #filters() { return Object.keys(filters).filter((name) => this.hasAttribute(name)).map((name) => [name, this.getAttribute(name)]); }

  #matches({ event }) {
    return !event || this.#filters().every(([name, value]) => {
      if (name === 'user') return concerns(event, value);
      return (name === 'call-id' ? event.callId : event.connection) === value;
    });
  }

  #filter(wider) {
    for (const entry of this.#entries) entry.item.hidden = !this.#matches(entry);
    if (this.#open && !this.#matches(this.#open)) this.#close();
    const active = new Map(this.#filters());
    const { filter } = this.#ui;
    filter.hidden = active.size === 0;
    filter.replaceChildren(...[...active].flatMap(([name, value]) => [`${filters[name]} `, el('code', {}, value)]), el('span', { 'aria-hidden': 'true' }, '×'));
    filter.setAttribute('aria-label', `Only ${[...active].map(([name, value]) => `${filters[name].toLowerCase()} ${value}`).join(', ')}. Show everything`);
    for (const button of this.shadowRoot.querySelectorAll('.only')) button.textContent = onlyText(button.dataset.filter, active.has(button.dataset.filter));
    this.#refresh();
    this.dispatchEvent(new Event('filter'));
    if (this.hasAttribute('narrow') && this.isConnected) this.#ask(wider);
  }

  /** #ask has the stream begin again with what is wanted now, once for all that changes at once. */
  #ask(wider) {
    this.#asked = wider ? 'More is shown from here on: it was not asked for before.' : this.#asked ?? 'Only what was chosen is asked for from here on.';
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#begin());
  }

  #refresh() {
    const { count, empty, tail, list, clear, text, pcap: capture, latest } = this.#ui;
    const shown = this.#entries.filter((e) => e.event && this.#matches(e)).length;
    const held = this.#paused ? this.#waiting.length : 0;
    count.textContent = `${shown} ${shown === 1 ? 'message' : 'messages'}${held ? `, ${held} waiting` : ''}`;
    empty.hidden = shown > 0;
    tail.hidden = shown === 0;
    empty.textContent = this.#filters().length > 0 ? 'Nothing of what was chosen has passed yet.'
      : 'Nothing has passed yet. Register or place a call: each message appears here as it passes, on both sides of Viaduct.';
    clear.disabled = text.disabled = capture.disabled = this.#entries.length === 0;
    latest.hidden = this.#unseen === 0;
    latest.textContent = `${this.#unseen} new ↓`;
    const buttons = this.#buttons();
    if (buttons.length > 0 && !buttons.some((b) => b.tabIndex === 0)) buttons[0].tabIndex = 0;
    list.hidden = this.#entries.length === 0;
  }

  #atEnd() {
    const { scroll } = this.#ui;
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
  }

  #seen() {
    if (this.#unseen === 0 || !this.#atEnd()) return;
    this.#unseen = 0;
    this.#refresh();
  }

  #follow() {
    this.#ui.scroll.scrollTop = this.#ui.scroll.scrollHeight;
    this.#unseen = 0;
    this.#ui.latest.hidden = true;
  }

  // One message.

  #toggle(entry) {
    const same = this.#open === entry;
    this.#close();
    this.#activate(entry.item.firstChild);
    if (same) return;
    this.#open = entry;
    const only = (name, value) => this.#only(entry, name, value);
    entry.item.append(detail(entry, new Map(this.#filters()), only));
    entry.item.classList.add('open');
    entry.item.firstChild.setAttribute('aria-expanded', 'true');
    entry.item.scrollIntoView({ block: 'nearest' });
  }

  #close() {
    const item = this.#open?.item;
    this.#open = undefined;
    item?.classList.remove('open');
    item?.firstChild.setAttribute('aria-expanded', 'false');
    item?.querySelector('.detail').remove();
  }

  #only(entry, name, value) {
    if (this.hasAttribute(name)) this.only();
    else this.only(name, value);
    entry.item.scrollIntoView({ block: 'nearest' });
  }

  #buttons() { return [...this.#ui.list.querySelectorAll('.row:not([hidden]) > .message')]; }

  #activate(button) {
    for (const other of this.#ui.list.querySelectorAll('.message[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
  }

  #key(e) {
    const button = e.target.closest('.row')?.firstChild;
    if (!button) return;
    if (e.key === 'Escape' && this.#open) {
      const { item } = this.#open;
      this.#close();
      item.firstChild.focus();
      e.preventDefault();
      return;
    }
    if (e.target !== button) return;
    const buttons = this.#buttons();
    const at = buttons.indexOf(button);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const next = buttons[Math.min(Math.max(to, 0), buttons.length - 1)];
    this.#activate(next);
    next.focus();
  }

  #save(ending, blob) {
    const href = URL.createObjectURL(blob);
    el('a', { href, download: `viaduct-${clock(Date.now()).slice(0, 8).replaceAll(':', '')}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  }
}

customElements.define('sip-ladder', SipLadder);
