// The elements of which the ladder is made. Text of messages goes in as text
// nodes and attributes only.

import { compare, explain, lines, marks, split, summarise } from './message.js';

/** el makes an element; children are elements, strings, or nothing. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ''));
  return element;
}

const two = (n) => String(n).padStart(2, '0');

/** clock returns a time of day to the millisecond. */
export function clock(time) {
  const t = new Date(time);
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${String(t.getMilliseconds()).padStart(3, '0')}`;
}

/** span returns a time between two messages, in microseconds, as text. */
export function span(micros) {
  const ms = Number(micros) / 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  return `${Math.floor(ms / 60_000)} min ${two(Math.floor((ms % 60_000) / 1000))} s`;
}

/**
 * read makes of an event what a row shows: the event with its lines ended by LF,
 * and raw as it came; what its message and the answer to it are, and which headers
 * were changed.
 */
export function read(raw) {
  const event = { ...raw, before: lines(raw.before), after: lines(raw.after) };
  const message = summarise(event.before || event.after || '');
  const relayed = event.kind === 'relayed';
  const changes = relayed ? explain(event.direction, message.class !== 'request', compare(event.before, event.after)) : [];
  return {
    event, raw, message, relayed,
    answer: event.kind === 'answered' ? summarise(event.after) : undefined,
    changed: [...new Set(changes.map((c) => c.header))],
  };
}

const ends = { up: ['browser', 'PBX'], down: ['PBX', 'browser'] };

/** label is the row's lanes for those who do not see them. */
function label({ event, message, relayed, answer, changed }) {
  const [from, to] = ends[event.direction];
  const what = `${message.title}${message.about && ` ${message.about}`}`;
  if (event.kind === 'own') return `${what}, from Viaduct itself to the ${to}`;
  if (event.kind === 'repeated') return `${what}, sent to the ${to} again by Viaduct`;
  if (event.kind === 'absorbed') return `${what}, from the ${from} again, absorbed by Viaduct`;
  if (answer) return `${what}, from the ${from}, answered by Viaduct: ${answer.title}`;
  if (!relayed) return `${what}, from the ${from}, dropped by Viaduct: ${event.reasonText}`;
  return `${what}, from ${from} to ${to}${changed.length ? `, changed: ${changed.join(', ')}` : ''}`;
}

const name = ({ title, about }) => [el('b', {}, title), ...(about === '' ? [] : [' ', el('i', {}, about)])];

/** hop is the way between two of the three: a text and an arrow. */
const hop = (side, arrow, ...text) =>
  el('span', { class: `hop ${side} ${arrow}` }, el('span', { class: 'text' }, ...text), el('span', { class: 'arrow' }));

function hops(entry) {
  const { event, message, relayed, answer, changed } = entry;
  const [here, there] = event.direction === 'up' ? ['left', 'right'] : ['right', 'left'];
  const way = event.direction === 'up' ? 'east' : 'west';
  const quiet = (...text) => el('span', { class: 'quiet' }, ...text);
  let both;
  if (event.kind === 'own' || event.kind === 'repeated') {
    const what = event.kind === 'repeated' ? 'sent again by Viaduct' : `Viaduct’s own ${message.class === 'request' ? message.title : 'answer'}`;
    both = [hop(here, 'none', quiet(what)), hop(there, way, ...name(message))];
  } else if (event.kind === 'absorbed') {
    both = [hop(here, 'stop', ...name(message)), hop(there, 'none', quiet('duplicate, absorbed'))];
  } else if (relayed) {
    const list = changed.length === 0 ? ['nothing changed'] : [
      el('span', { class: 'names' }, changed.join(' · ')),
      el('span', { class: 'count' }, changed.length === 1 ? '1 change' : `${changed.length} changes`),
    ];
    both = [hop(here, way, ...name(message)), hop(there, way, quiet(...list))];
  } else {
    const said = answer ? [el('b', {}, answer.title)] : [el('b', {}, 'Dropped')];
    both = [
      hop(here, answer ? 'back' : 'stop', ...name(message)),
      hop(there, 'none', ...said, ' ', quiet(event.reason.replaceAll('_', ' '))),
    ];
  }
  return event.direction === 'up' ? both : both.reverse();
}

/** row makes the list item of an entry; toggle is called when it is to open or close. */
export function row(entry, toggle) {
  const { event, message, answer, since } = entry;
  const time = clock(event.time);
  const colour = event.kind === 'refused' ? 'dropped' : answer?.class ?? message.class;
  const button = el('button', {
    type: 'button', class: 'message', tabindex: '-1', 'aria-expanded': 'false', click: toggle,
  }, el('time', { datetime: event.time }, el('span', { class: 'hours' }, time.slice(0, 3)), time.slice(3),
    since ? el('span', { class: 'since' }, `+${span(since.last)}`) : ''),
  el('span', { class: 'label' }, label(entry)),
  el('span', { class: 'lanes', 'aria-hidden': 'true' }, ...hops(entry)));
  return el('li', { class: `row ${event.direction} ${event.kind} c-${colour}` }, button);
}

/** gap is a line of the list that is no message. */
export const gap = (text) => el('li', { class: 'gap' }, text);

const titles = {
  up: ['From the browser', 'To the PBX'],
  down: ['From the PBX', 'To the browser'],
};

/**
 * detail makes what a row opens. Active has the filters that are set, by name;
 * only is called with a filter's name and value to set it, or to end it.
 */
export function detail(entry, active, only) {
  const { event, message, relayed } = entry;
  return el('div', { class: 'detail', role: 'group', 'aria-label': `${message.title} before and after` },
    facts(entry, active, only),
    ...(relayed ? relaying(event, message) : sayings[event.kind] ? saying(event) : refusal(event)));
}

const onlyTexts = { 'call-id': 'Only this call', user: 'Only this user', connection: 'Only this connection' };

/** onlyText is what a button says that sets a filter, or ends it. */
export const onlyText = (name, isSet) => (isSet ? 'Show everything' : onlyTexts[name]);

function facts({ event, since }, active, only) {
  const pick = (name, value) => el('button', {
    type: 'button', class: 'only', 'data-filter': name, click: () => only(name, value),
  }, onlyText(name, active.has(name)));
  const all = [
    ['User', event.user, 'user'], ['Browser', event.browser], ['PBX', event.peer], ['Connection', event.connection, 'connection'],
    ['Timing', since && `${span(since.last)} after the message before, ${span(since.first)} after the call’s first`],
  ];
  return el('div', { class: 'facts' },
    event.callId ? el('div', { class: 'call' },
      el('span', { class: 'key' }, 'Call-ID'), el('code', {}, event.callId), pick('call-id', event.callId)) : '',
    el('dl', {}, ...all.filter(([, value]) => value).map(([key, value, filter]) =>
      el('div', {}, el('dt', {}, key), el('dd', {}, value, filter ? ' ' : '', filter ? pick(filter, value) : '')))));
}

const sayings = {
  repeated: ['Sent again: ', 'UDP loses datagrams, so Viaduct repeats this one until it is answered, and when it is asked for again.'],
  absorbed: ['A duplicate: ', 'the PBX has repeated itself. The browser has this already, and would take it for something new.'],
  own: ['Viaduct’s own: ', 'it speaks here for a side that cannot do so itself.'],
};

function saying(event) {
  const [what, why] = sayings[event.kind];
  const text = event.before || event.after;
  const title = titles[event.direction][event.before ? 0 : 1];
  return [el('p', { class: 'reason plain' }, el('b', {}, what), why), whole([[title, text]])];
}

function relaying(event, message) {
  const rows = compare(event.before, event.after);
  const changes = explain(event.direction, message.class !== 'request', rows);
  const body = split(event.before).body;
  const same = body !== '' && rows.every((r) => r.name !== 'body');
  return [
    changes.length === 0 ? el('p', { class: 'reason' }, 'Relayed as it came: not a byte was changed.')
      : el('ul', { class: 'whys' }, ...changes.map(({ header, why }) => el('li', {}, el('b', {}, header), why))),
    panes(rows, titles[event.direction]),
    same ? el('details', { class: 'body' },
      el('summary', {}, `Body, ${count(body.split('\n').length, 'line')}, untouched`),
      el('pre', { tabindex: '0', role: 'region', 'aria-label': 'Body' }, body)) : '',
  ];
}

const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

/** panes shows two versions side by side; the lines of both are in one grid. */
function panes(rows, [left, right]) {
  const made = rows.map(({ before, after }) => {
    if (before === after) return [line('same', before), line('same', after)];
    if (before === undefined) return [filler(), line('changed', el('ins', {}, after))];
    if (after === undefined) return [line('changed', el('del', {}, before)), filler()];
    const [was, is] = marks(before, after);
    return [line('changed', ...was.map(mark('del'))), line('changed', ...is.map(mark('ins')))];
  });
  const grid = el('div', { class: 'panes' },
    pane(left, made.map(([l]) => l)), pane(right, made.map(([, r]) => r)));
  grid.style.setProperty('--lines', String(made.length + 1));
  return grid;
}

const mark = (tag) => ({ text, changed }) => (changed ? el(tag, {}, text) : text);
const line = (kind, ...content) => el('span', { class: `line ${kind}` }, ...content, '\n');
const filler = () => el('span', { class: 'line filler', 'aria-hidden': 'true' });

const pane = (title, lines) => el('div', { class: 'pane', role: 'group', 'aria-label': title }, el('h3', {}, title), ...lines);

/** whole shows texts side by side, each with its title. */
const whole = (texts) => el('div', { class: 'panes' }, ...texts.map(([title, text]) =>
  pane(title, text.replace(/\n+$/, '').split('\n').map((l) => line('plain', l)))));

function refusal(event) {
  const [from] = ends[event.direction];
  const texts = [[titles[event.direction][0], event.before]];
  if (event.after) texts.push([`Viaduct’s answer to the ${from}`, event.after]);
  return [
    el('p', { class: 'reason' }, el('b', {}, 'Not relayed: '), `${event.reasonText} `, el('code', {}, event.reason)),
    whole(texts),
  ];
}
