// Drives one Chromium for the Go tests. Commands come in as lines of JSON,
// {id, op, page, …}, and are answered by {id, result} or {id, error}; what
// happens meanwhile goes out as {event, page, …}.
//
//   open  {page, url}       a fresh browser context with one page
//   call  {page, fn, args}  window.phone[fn](...args) in that page
//   visit {page, url}       the same with any page, which has no window.phone
//   act   {page, method, args}        playwright's page[method](...args)
//   save  {page, selector, path}      clicks what downloads a file
//   close {page}            the context with its sockets

import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const pages = new Map();

function watchSocket(page, socket) {
  const frame = (direction) => ({ payload }) =>
    say(typeof payload === 'string'
      ? { event: 'frame', page, direction, text: payload }
      : { event: 'frame', page, direction, binary: payload.toString('base64') });
  say({ event: 'socket', page, state: 'open', text: socket.url() });
  socket.on('framesent', frame('sent'));
  socket.on('framereceived', frame('received'));
  socket.on('close', () => say({ event: 'socket', page, state: 'closed', text: socket.url() }));
  socket.on('socketerror', (error) => say({ event: 'socket', page, state: 'error', text: error }));
}

const operations = {
  async open({ page: name, url }) {
    const context = await browser.newContext();
    const page = await context.newPage();
    pages.set(name, { context, page });
    page.on('websocket', (socket) => watchSocket(name, socket));
    page.on('console', (message) => say({ event: 'console', page: name, text: `${message.type()}: ${message.text()}` }));
    page.on('pageerror', (error) => say({ event: 'pageError', page: name, text: String(error.stack ?? error) }));
    await page.exposeFunction('reportEvent', (report) => say({ event: 'report', page: name, report }));
    await page.goto(url);
    await page.waitForFunction('window.phone');
  },
  call: ({ page, fn, args }) =>
    pages.get(page).page.evaluate(async ([fn, args]) => {
      const result = await window.phone[fn](...args);
      return typeof result === 'string' ? result : null;
    }, [fn, args ?? []]),
  async visit({ page: name, url }) {
    const context = await browser.newContext();
    const page = await context.newPage();
    pages.set(name, { context, page });
    page.on('console', (message) => {
      if (message.type() === 'error') say({ event: 'pageError', page: name, text: message.text() });
    });
    page.on('pageerror', (error) => say({ event: 'pageError', page: name, text: String(error.stack ?? error) }));
    await page.goto(url);
  },
  async act({ page, method, args }) {
    const result = await pages.get(page).page[method](...args);
    return typeof result === 'string' ? result : null;
  },
  async save({ page: name, selector, path }) {
    const { page } = pages.get(name);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click(selector)]);
    await download.saveAs(path);
  },
  async close({ page }) {
    const { context } = pages.get(page);
    pages.delete(page);
    await context.close();
  },
};

async function perform({ id, op, ...args }) {
  try {
    say({ id, result: (await operations[op](args)) ?? null });
  } catch (error) {
    say({ id, error: String(error.stack ?? error) });
  }
}

await build({
  entryPoints: [here('src/jssip.js'), here('src/sipjs.js')],
  outdir: here('dist'),
  bundle: true,
  format: 'iife',
  logLevel: 'warning',
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  args: [
    '--no-sandbox',
    '--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream',
    '--allow-loopback-in-peer-connection',
    '--autoplay-policy=no-user-gesture-required',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    `--ignore-certificate-errors-spki-list=${process.env.TEST_AUTHORITY_SPKI}`,
  ],
});
say({ event: 'ready' });

for await (const line of createInterface({ input: process.stdin })) {
  perform(JSON.parse(line));
}
await browser.close();
