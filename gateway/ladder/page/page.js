// The page around the ladder: what is shown is chosen here, and stands in the
// address, so that it can be handed on.

import './ladder.js';

const ladder = document.getElementById('ladder');
const form = document.getElementById('choice');
const by = document.getElementById('by');
const value = document.getElementById('value');
const all = document.getElementById('all');
const wrong = document.getElementById('wrong');
const seen = document.getElementById('seen');

const names = [...by.options].map((option) => option.value);
const hints = { 'call-id': 'Call-ID', user: '1001 or 1001@pbx.example', connection: 'Number, as a message shows it' };

/** clean returns a value as it is asked for; undefined if there is no such one. */
function clean(name, text) {
  const trimmed = text.trim();
  if (name === 'user') return trimmed.replace(/^sips?:/i, '') || undefined;
  if (name === 'connection') return /^0*([0-9a-f]{1,16})$/i.exec(trimmed)?.[1].toLowerCase();
  return trimmed || undefined;
}

function refuse(text) {
  wrong.hidden = text === '';
  wrong.textContent = text;
  value.setAttribute('aria-invalid', String(text !== ''));
}

/** follow makes the form and the address say what the ladder shows. */
function follow() {
  const chosen = names.filter((name) => ladder.hasAttribute(name));
  all.hidden = chosen.length === 0;
  const hash = String(new URLSearchParams(chosen.map((name) => [name, ladder.getAttribute(name)])));
  history.replaceState(null, '', hash ? `#${hash}` : location.pathname);
  document.title = `${chosen.map((name) => ladder.getAttribute(name)).join(', ') || 'Live trace'} · viaduct`;
  if (chosen.length === 1) [by.value, value.value] = [chosen[0], ladder.getAttribute(chosen[0])];
  else if (chosen.length === 0) value.value = '';
  refuse('');
  hint();
}

function hint() { value.placeholder = hints[by.value]; }

/** suggest offers what the messages that are shown have. */
function suggest() {
  const found = ladder.values(by.value).map((text) => {
    const option = document.createElement('option');
    option.value = text;
    return option;
  });
  seen.replaceChildren(...found);
}

function choose(e) {
  e.preventDefault();
  const text = clean(by.value, value.value);
  if (text === undefined) refuse(value.value.trim() ? 'That is no number of a connection.' : 'Nothing was chosen.');
  else ladder.only(by.value, text);
}

/** read takes what the address says, when the page is opened or the address changes. */
function read() {
  const [[name, text] = []] = [...new URLSearchParams(location.hash.slice(1))].filter(([n]) => names.includes(n));
  const wanted = name && clean(name, text);
  if (wanted) ladder.only(name, wanted);
  else ladder.only();
}

form.addEventListener('submit', choose);
by.addEventListener('change', () => { hint(); suggest(); refuse(''); });
value.addEventListener('focus', suggest);
all.addEventListener('click', () => { ladder.only(); value.focus(); });
ladder.addEventListener('filter', follow);
window.addEventListener('hashchange', read);
hint();
read();
