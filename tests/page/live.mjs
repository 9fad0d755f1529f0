// Runs that begin, end, are resumed and lose their server while the page shows them.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { open } from './browser.mjs';
import { serve, train, until } from './program.mjs';

/** `kit` is what all checks share. */
export const live = (kit) => ({
  'a run from before its first weights, through a server that breaks off, to being resumed': async () => {
    const folder = path.join(kit.runs, 'young');
    const beside = train(kit.program, ['--data', 'digits', '--quiet', '--threads', '1', '--epochs', '6', '--out', folder]);
    await until('the run has its folder', () => existsSync(path.join(folder, 'config.toml')));
    let server = await serve(kit.program, ['studio', folder, '--no-browser']);
    const port = new URL(server.address).port;
    const { page, close } = await open(kit.browser, server.address, '#run');
    const epochs = async () => Number(/\d+/.exec(await page.locator('.cards .more').last().textContent())[0]);
    await page.locator('.cards').waitFor();
    // Its network can be tried without starting anything again.
    await page.locator('header .model .only', { hasText: 'young' }).waitFor();
    await page.locator('.configuration summary').focus();
    const first = await epochs();
    await until('another epoch has come', async () => await epochs() > first, 120);
    assert.equal(await page.evaluate(() => document.activeElement.tagName), 'SUMMARY', 'the focus stays');
    await server.kill();
    await page.getByRole('alert').filter({ hasText: 'does not answer' }).first().waitFor();
    server = await serve(kit.program, ['studio', folder, '--no-browser'], port);
    const before = await epochs();
    await until('epochs come again', async () => await epochs() > before, 120);
    await page.getByRole('alert').filter({ hasText: /./ }).filter({ visible: true }).first().waitFor({ state: 'detached' });
    await beside.ended;
    await page.locator('.run .badge').waitFor({ state: 'detached' });
    await until('its last epoch is shown', async () => await epochs() === 6);
    await page.locator('table.heat').waitFor();
    assert.equal(await page.locator('table.heat tbody tr').count(), 10);
    await kit.shot(page, 'run-results');
    const resumed = train(kit.program, ['--resume', folder, '--epochs', '8', '--threads', '1', '--quiet']);
    await until('the resumed run is followed', async () => await epochs() > 6, 120);
    await resumed.ended;
    await until('all epochs are shown', async () => await epochs() === 8);
    const lines = (await readFile(path.join(folder, 'metrics.jsonl'), 'utf8')).trim().split('\n');
    assert.equal(lines.length, 8);
    // What is explained is the version that answers.
    await page.locator('.tabs a[href="#try"]').click();
    await kit.choose(page);
    await page.locator('.explain .primary').click();
    await page.locator('canvas.explained').waitFor();
    await close();
    await server.stop();
  },

  'a model whose file has changed is loaded again by a button': async () => {
    const folder = path.join(kit.runs, 'changing');
    await train(kit.program, ['--data', 'digits', '--quiet', '--epochs', '1', '--out', folder]).ended;
    const server = await serve(kit.program, ['serve', folder]);
    const { page, close } = await open(kit.browser, server.address);
    await train(kit.program, ['--resume', folder, '--epochs', '3', '--quiet']).ended;
    await kit.choose(page);
    await page.locator('.explain .primary').click();
    await page.locator('.explain').getByRole('button', { name: 'Load the model again' }).click();
    await page.locator('canvas.explained').waitFor();
    assert.equal(await page.locator('.explain .alert p').count(), 0);
    await close();
    await server.stop();
  },
});
