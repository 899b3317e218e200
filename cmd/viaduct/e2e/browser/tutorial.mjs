// Opens the page of deploy/README.md, of which the address is given, for two
// accounts; one calls the other. Ends well once each hears the other.

import { chromium } from 'playwright-core';

const address = process.argv[2];
const patience = { timeout: 30_000 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
    '--autoplay-policy=no-user-gesture-required', '--disable-gpu'],
});

async function open(account) {
  const page = await browser.newPage();
  page.on('console', (message) => console.log(`${account}: ${message.text()}`));
  page.on('pageerror', (error) => console.log(`${account}: ${error.stack}`));
  await page.goto(`${address}/?${account}`);
  await says(page, 'registered');
  return page;
}

const says = (page, text) => page.waitForFunction(
  (wanted) => document.querySelector('output').value.endsWith(`: ${wanted}`), text, patience);
const hears = (page) => page.waitForFunction(
  () => document.querySelector('audio').currentTime > 0, undefined, patience);

const callee = await open('1002');
const caller = await open('1001');
await caller.getByRole('button').click();
for (const page of [caller, callee]) {
  await says(page, 'in a call');
  await hears(page);
}
await browser.close();
console.log('called');
