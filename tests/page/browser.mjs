// Chromium, and what is watched on every page: errors of the console, requests to elsewhere, faults that axe finds.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The camera is a moving pattern that Chromium draws. */
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
];

export const launch = (executablePath) => chromium.launch({ executablePath, args: ARGUMENTS });

/** The folder whose files are shown instead of those within the program, for work on the page. */
let files = null;
export const showFilesOf = (folder) => {
  files = folder;
};

/**
 * A page of the server, with what went wrong on it in `problems`. `locale`, `colorScheme` and `viewport` are those of
 * Playwright's contexts.
 */
export async function open(browser, address, hash = '', options = {}) {
  const context = await browser.newContext({ locale: 'en-US', viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  const problems = [];
  // Other work on the machine may slow down all of this.
  page.setDefaultTimeout(60_000);
  page.on('console', (message) => {
    // A server that is busy is asked again; the browser tells of it all the same.
    if (message.type() === 'error' && !message.text().includes('status of 503')) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`error: ${error.stack}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !url.startsWith('blob:') && !url.startsWith('data:')) problems.push(`request to elsewhere: ${url}`);
  });
  if (files) await page.route(({ pathname }) => /^\/(assets\/.*)?$/.test(pathname), replaced);
  await page.goto(`${address}/${hash}`);
  const close = async () => {
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  };
  return { page, problems, close };
}

/** Answers as the program does, with the file of the folder. */
async function replaced(route) {
  const response = await route.fetch();
  const name = new URL(route.request().url()).pathname.split('/').at(-1) || 'index.html';
  await route.fulfill({ response, body: await readFile(path.join(files, name)) });
}

/** Faults of accessibility that are serious or critical (WCAG A and AA, and best practices). */
export async function accessible(page, where) {
  // By evaluation, because the page's policy lets no other script in.
  await page.evaluate(`${AXE}; undefined`);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  const told = serious.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html, failureSummary }) => `  ${html}\n  ${failureSummary}`).join('\n')}`);
  assert.deepEqual(told, [], `axe, ${where}:\n${told.join('\n')}`);
}

/** Presses Tab until the focus is on what a selector names. */
export async function tabTo(page, selector, most = 60) {
  for (let i = 0; i < most; i += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  assert.fail(`no ${selector} within ${most} presses of Tab; the focus is on ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 300))}`);
}

/** The red, green and blue of every pixel of a canvas, as one list. */
export const pixels = (locator) => locator.evaluate((canvas) =>
  [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 < 3));
