// Drives one Chromium for the Go tests. Commands come in as lines of JSON,
// {id, op, …}, and are answered by {id, result} or {id, error}; what goes wrong
// on a page meanwhile goes out as {page, trouble}.
//
//   open   {page, tab, url, options}  a page in a browser context of its own, or in
//                                     that of the page tab, as a second tab
//   act    {page, method, args}       page[method](...args)
//   audit  {page}                     axe-core's findings, serious and critical
//   frames {page}                     what passed its WebSockets, [{sent, text}, …]
//   close  {page}                     the page's context, with every tab

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const pages = new Map();
const frames = new Map();

/** Runs in each page first: lets the tests see the peer connections. */
function keepConnections() {
  window.connections = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      window.connections.push(this);
    }
  };
}

async function newContext({ microphone = true, ...options }) {
  const context = await browser.newContext({ permissions: microphone ? ['microphone'] : [], ...options });
  context.setDefaultTimeout(30_000);
  await context.addInitScript(keepConnections);
  return context;
}

const operations = {
  async open({ page: name, tab, url, options }) {
    const context = tab ? pages.get(tab).context() : await newContext(options ?? {});
    const page = await context.newPage();
    pages.set(name, page);
    frames.set(name, []);
    page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => frames.get(name).push({ sent: true, text: String(payload) }));
      socket.on('framereceived', ({ payload }) => frames.get(name).push({ sent: false, text: String(payload) }));
    });
    page.on('console', (message) => {
      if (message.type() === 'error') say({ page: name, trouble: message.text() });
    });
    page.on('pageerror', (error) => say({ page: name, trouble: String(error.stack ?? error) }));
    await page.goto(url);
  },
  async act({ page, method, args }) {
    const result = await pages.get(page)[method](...args);
    return ['evaluate', 'textContent', 'getAttribute', 'inputValue'].includes(method) ? result : null;
  },
  async audit({ page: name }) {
    const page = pages.get(name);
    await page.evaluate(axe);
    // To look into style sheets, axe would put them into the page, where the policy forbids that.
    const { violations } = await page.evaluate('axe.run({ preload: false })');
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
  },
  frames: ({ page }) => frames.get(page),
  async close({ page }) {
    await pages.get(page).context().close();
  },
};

async function perform({ id, op, ...args }) {
  try {
    say({ id, result: (await operations[op](args)) ?? null });
  } catch (error) {
    say({ id, error: String(error.stack ?? error) });
  }
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  args: [
    '--no-sandbox',
    '--use-fake-device-for-media-stream',
    '--allow-loopback-in-peer-connection',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
say({ id: 0, result: null });

for await (const line of createInterface({ input: process.stdin })) {
  perform(JSON.parse(line));
}
await browser.close();
