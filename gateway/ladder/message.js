// What can be said of a message and of what became of it. Pure functions on
// text; message text is hostile and never trusted to have a form.

// RFC 3261 7.3.3 and its successors, as far as viaduct touches them.
const longNames = { v: 'via', m: 'contact', k: 'supported', l: 'content-length', i: 'call-id', f: 'from', t: 'to' };

const spelling = {
  'call-id': 'Call-ID', cseq: 'CSeq', 'p-asserted-identity': 'P-Asserted-Identity',
  'p-preferred-identity': 'P-Preferred-Identity', 'p-served-user': 'P-Served-User',
  'remote-party-id': 'Remote-Party-ID',
};

const titled = (name) => spelling[name] ?? name.replace(/(^|-)[a-z]/g, (s) => s.toUpperCase());

/** nameOf returns a header line's field name, long and in lower case; '' if it has none. */
export function nameOf(line) {
  const colon = line.indexOf(':');
  if (colon < 1) return '';
  const name = line.slice(0, colon).trim().toLowerCase();
  return Object.hasOwn(longNames, name) ? longNames[name] : name;
}

/** split returns a message's start line, header lines and body; folds stay with their line. */
export function split(text) {
  const end = text.indexOf('\n\n');
  const head = (end < 0 ? text : text.slice(0, end)).split('\n');
  const headers = [];
  for (const line of head.slice(1)) {
    if (/^[ \t]/.test(line) && headers.length > 0) headers[headers.length - 1] += `\n${line}`;
    else headers.push(line);
  }
  return { start: head[0], headers, body: end < 0 ? '' : text.slice(end + 2).replace(/\n$/, '') };
}

const valueOf = (headers, name) => {
  const line = headers.find((l) => nameOf(l) === name);
  return line === undefined ? '' : line.slice(line.indexOf(':') + 1).trim();
};

/** userIn returns who a From or To names: the user of its URI, else the host. */
function userIn(value) {
  const uri = /<([^>]*)>/.exec(value)?.[1] ?? value.split(';')[0];
  const [, user, host] = /^[a-z]+:(?:([^@:;?]*)[^@]*@)?([^;?>]*)/i.exec(uri.trim()) ?? [];
  return user ?? host ?? '';
}

/** lines returns a text with every line end an LF, as the mask of a log has them. */
export const lines = (text) => text?.replace(/\r\n?/g, '\n');

/** concerns reports whether an event is of a user: its connection, its From or its To. */
export function concerns(event, user) {
  const { headers } = split(event.before || event.after || '');
  const is = (address) => address === user || address.startsWith(`${user}@`);
  return is(event.user ?? '') || ['from', 'to'].some((name) => is(addressIn(valueOf(headers, name))));
}

/** addressIn returns the user@host that a From or To names. */
function addressIn(value) {
  const uri = /<([^>]*)>/.exec(value)?.[1] ?? value;
  const [, user, host] = /^sips?:([^@:;?]*)[^@]*@(\[[^\]]*\]|[^:;?>\s]*)/i.exec(uri.trim()) ?? [];
  return user === undefined ? '' : `${user}@${host}`;
}

/**
 * summarise returns what a row shows of a message: what is its class
 * (request, 1 to 6, or none), title the method or status with its phrase,
 * about what it is for.
 */
export function summarise(text) {
  const { start, headers } = split(text);
  const cseq = valueOf(headers, 'cseq').split(/\s+/);
  const response = /^SIP\/2\.0 ([1-6]\d\d) ?(.*)$/.exec(start);
  if (response) {
    return { class: response[1][0], code: response[1], title: `${response[1]} ${response[2]}`.trim(), about: cseq[1] ?? '' };
  }
  const method = /^([!-~]+) [!-~]+ SIP\/2\.0$/.exec(start)?.[1];
  if (method === undefined) return { class: 'none', title: 'Not SIP', about: '' };
  const to = userIn(valueOf(headers, 'to'));
  return { class: 'request', title: method, about: /\*\*\*/.test(to) ? '' : to };
}

// An alignment costs the product of the lengths; past this one is not worth it.
const mostCells = 250_000;

/** align returns the pairs [i, j] of a longest common subsequence of two lists. */
function align(a, b) {
  let lo = 0;
  while (lo < a.length && lo < b.length && a[lo] === b[lo]) lo++;
  let cut = 0;
  while (cut < a.length - lo && cut < b.length - lo && a[a.length - 1 - cut] === b[b.length - 1 - cut]) cut++;
  const pairs = [];
  for (let i = 0; i < lo; i++) pairs.push([i, i]);
  const n = a.length - lo - cut;
  const m = b.length - lo - cut;
  if (n * m <= mostCells) middle(a, b, lo, n, m, pairs);
  for (let i = cut; i > 0; i--) pairs.push([a.length - i, b.length - i]);
  return pairs;
}

function middle(a, b, lo, n, m, pairs) {
  const width = m + 1;
  const best = new Uint32Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      best[i * width + j] = a[lo + i] === b[lo + j]
        ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[lo + i] === b[lo + j]) pairs.push([lo + i++, lo + j++]);
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
}

const tokens = (line) => line.match(/z9hG4bK|[A-Za-z0-9_.!~*'+%-]+|[^A-Za-z0-9_.!~*'+%-]/g) ?? [];

/**
 * marks returns how two versions of a line differ: for each the pieces
 * {text, changed} of which it consists.
 */
export function marks(before, after) {
  const [a, b] = [tokens(before), tokens(after)];
  const pairs = align(a, b);
  return [pieces(a, new Set(pairs.map(([i]) => i))), pieces(b, new Set(pairs.map(([, j]) => j)))];
}

function pieces(list, kept) {
  const out = [];
  list.forEach((text, i) => {
    const changed = !kept.has(i);
    if (out.length > 0 && out.at(-1).changed === changed) out.at(-1).text += text;
    else out.push({ text, changed });
  });
  return out;
}

function likeness(a, b) {
  const [s, t] = [tokens(a), tokens(b)];
  return (2 * align(s, t).length) / Math.max(s.length + t.length, 1);
}

/**
 * compare returns the lines of two versions of a message side by side:
 * [{before, after, name}], with undefined where one has no such line, and the
 * same string in both where nothing changed. The name is that of the header,
 * 'start' or 'body'; a body that did not change is left out.
 */
export function compare(before, after) {
  const [s, t] = [split(before), split(after)];
  const whole = s.body !== t.body;
  const [a, b] = [flat(s, whole), flat(t, whole)];
  const pairs = align(a.map((l) => l.key), b.map((l) => l.key));
  const rows = [];
  let i = 0;
  let j = 0;
  for (const [ni, nj] of [...pairs, [a.length, b.length]]) {
    rows.push(...hunk(a.slice(i, ni), b.slice(j, nj)));
    if (ni < a.length) rows.push({ name: a[ni].name, before: a[ni].text, after: b[nj].text });
    [i, j] = [ni + 1, nj + 1];
  }
  return rows;
}

/** flat returns the lines of a message that was split, each with its name. */
function flat({ start, headers, body }, whole) {
  const line = (name, t) => ({ name, text: t, key: `${name}\n${t}` });
  return [
    line('start', start), ...headers.map((h) => line(nameOf(h), h)),
    ...(whole ? ['', ...body.split('\n')] : []).map((l) => line('body', l)),
  ];
}

/** hunk pairs what was taken out with what came in its place: the likest of the same name. */
function hunk(out, came) {
  const rows = [];
  let from = 0;
  for (const old of out) {
    let best = -1;
    let score = -1;
    // Looking further would cost the square of a hostile message.
    for (let j = from; j < Math.min(came.length, from + 16); j++) {
      const s = came[j].name === old.name ? likeness(old.text, came[j].text) : -1;
      if (s > score) [best, score] = [j, s];
    }
    if (best < 0) {
      rows.push({ name: old.name, before: old.text, after: undefined });
      continue;
    }
    for (; from < best; from++) rows.push({ name: came[from].name, before: undefined, after: came[from].text });
    rows.push({ name: old.name, before: old.text, after: came[best].text });
    from = best + 1;
  }
  for (; from < came.length; from++) rows.push({ name: came[from].name, before: undefined, after: came[from].text });
  return rows;
}

const trusted = 'The PBX trusts Viaduct’s address, so no browser may claim an identity there.';
const unsteered = 'A browser may not steer which way the PBX sends its requests.';
const outbound = 'A PBX without Outbound would refuse this.';
const reachable = 'The PBX must be able to call this address; the token in it leads back to this browser.';
const framed = 'A WebSocket frame has an end of its own; on the PBX’s side the length must be said.';

const never = {
  'record-route': unsteered, path: unsteered, 'p-asserted-identity': trusted, 'p-preferred-identity': trusted,
  'p-served-user': trusted, 'remote-party-id': trusted,
};

const reasons = {
  'up request': (name, { before = '', after }) => {
    switch (name) {
      case 'via': return 'The PBX answers to this Via; the browser’s own travels sealed inside the branch.';
      case 'max-forwards': return before === '' ? 'Every request carries a limit of hops.' : 'One hop used.';
      case 'route': return 'This hop is done: the Route named Viaduct itself.';
      case 'contact': return /;\s*reg-id\s*=/i.test(before) ? `${reachable} reg-id is left out: a PBX without Outbound would refuse it.` : reachable;
      case 'supported': return outbound;
      case 'content-length': return framed;
    }
    if (Object.hasOwn(never, name)) return never[name];
    return after === undefined ? 'This gateway is set to strip it.' : 'Tells the PBX the browser’s address.';
  },
  'up response': (name, { after }) => {
    switch (name) {
      case 'via': return 'Viaduct’s own Via has done its work: the seal in it said where this answer goes.';
      case 'contact': return reachable;
      case 'content-length': return framed;
    }
    if (Object.hasOwn(never, name)) return never[name];
    return after === undefined ? 'This gateway is set to strip it.' : '';
  },
  'down request': (name, { before }) => {
    switch (name) {
      case 'start': return 'The browser answers only to the address that it registered itself.';
      case 'via': return before === undefined
        ? 'The browser answers to Viaduct; where the PBX is travels sealed in this Via.'
        : 'Where the request really came from, so that the answer finds its way (received, rport).';
    }
    return '';
  },
  'down response': (name) => {
    switch (name) {
      case 'via': return 'The browser gets its own Via back, byte for byte, and only that.';
      case 'contact': return 'Only the browser’s own address means something to its stack.';
    }
    return '';
  },
};

/**
 * explain returns what changed and why, [{header, why}], once for each thing to
 * say; rows are those of compare.
 */
export function explain(direction, response, rows) {
  const said = new Map();
  for (const row of rows) {
    if (row.before === row.after) continue;
    const why = row.name === 'body'
      ? 'Only with a media relay: the call’s audio is to pass there.'
      : reasons[`${direction} ${response ? 'response' : 'request'}`](row.name, row);
    const header = row.name === 'start' ? 'Request-URI' : row.name === 'body' ? 'Body' : titled(row.name);
    said.set(`${header}\n${why}`, { header, why });
  }
  return [...said.values()];
}
