// What happens when one thing comes while another is under way: models, pictures, strokes, the camera.

import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import path from 'node:path';

import { open } from './browser.mjs';
import { serve, until } from './program.mjs';

/** `kit` is what all checks share. */
export const turns = (kit) => ({
  'the last model that was chosen is shown, and after a failure the one in use': async () => {
    const twin = path.join(kit.runs, 'second');
    await cp(kit.digits, twin, { recursive: true });
    const server = await serve(kit.program, ['serve', kit.digits, twin]);
    const { page, problems, close } = await open(kit.browser, server.address);
    const command = () => page.locator('.program code').textContent();
    await page.getByLabel('Model').waitFor();
    await page.locator('.pad').waitFor();
    await page.locator('.program summary').click();
    await page.route('**/v1/models/second', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await route.continue().catch(() => {});
    });
    await page.getByLabel('Model').selectOption('second');
    await page.getByLabel('Model').selectOption('digits');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal(await page.getByLabel('Model').inputValue(), 'digits');
    assert.match(await command(), /models\/digits\//);
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.route('**/v1/models/second', (route) => route.fulfill({ status: 500, body: '{"error": "it is broken"}' }));
    await page.getByLabel('Model').selectOption('second');
    await page.getByRole('alert').filter({ hasText: 'it is broken' }).waitFor();
    assert.equal(await page.getByLabel('Model').inputValue(), 'digits');
    assert.match(await command(), /models\/digits\//);
    assert.deepEqual(problems.filter((problem) => !problem.includes('status of 500')), []);
    await close();
    await server.stop();
  },

  'a pad that is wiped right after a stroke stays empty': async () => {
    const { page, done } = await kit.openPage();
    await page.locator('.pad').waitFor();
    const box = await page.locator('.pad').boundingBox();
    await page.mouse.move(box.x + 50, box.y + 50);
    await page.mouse.down();
    await page.mouse.move(box.x + 150, box.y + 200);
    await page.evaluate(() => {
      document.querySelector('.pad').dispatchEvent(new PointerEvent('pointercancel'));
      document.querySelector('.draw button').click();
    });
    await page.mouse.up();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.equal(await page.locator('.preview').textContent(), '');
    assert.ok(await page.locator('.results .empty').isVisible());
    await done();
  },

  'the camera is closed with its tab, and opened once': async () => {
    const { page, done } = await kit.openPage();
    await page.evaluate(() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.streams = [];
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await ask(wanted);
        window.streams.push(stream);
        return stream;
      };
    });
    const live = () => page.evaluate(() => window.streams.filter((stream) => stream.getTracks().some((track) => track.readyState === 'live')).length);
    await page.getByRole('button', { name: 'Use the camera' }).click();
    await page.locator('video').waitFor();
    assert.equal(await live(), 1);
    await page.locator('.tabs a[href="#network"]').click();
    // The tab is closed when the browser tells of the new address, which may be after the click.
    await page.waitForFunction(() => window.streams.every((stream) => stream.getTracks().every((track) => track.readyState === 'ended')));
    await page.locator('.tabs a[href="#try"]').click();
    await page.locator('video').waitFor({ state: 'detached' });
    await page.evaluate(() => {
      const button = [...document.querySelectorAll('button')].find(({ textContent }) => textContent === 'Use the camera');
      button.click();
      button.click();
    });
    await page.locator('video').waitFor();
    await page.getByRole('button', { name: 'Close' }).click();
    await page.waitForFunction(() => window.streams.every((stream) => stream.getTracks().every((track) => track.readyState === 'ended')));
    await done();
  },

  'of a picture before, nothing stays beside the message about a bad one': async () => {
    const { page, problems, close } = await kit.openPage();
    await kit.choose(page);
    await page.locator('.explain .primary').click();
    await page.locator('canvas.explained').waitFor();
    await page.locator('.tabs a[href="#network"]').click();
    await page.locator('.layers button[data-layer="conv1"]').click();
    await page.locator('.tile').first().waitFor();
    await page.locator('.tabs a[href="#try"]').click();
    const bad = { name: 'words.png', mimeType: 'image/png', buffer: Buffer.from('no picture') };
    await page.locator('[data-tab=try] input[type=file]').setInputFiles(bad);
    await page.locator('.explain .alert p').waitFor();
    for (const left of ['.explain canvas', '.classes li', '.tile']) {
      await until(`${left} has gone`, async () => await page.locator(left).count() === 0);
    }
    assert.deepEqual(problems.filter((problem) => !problem.startsWith('console: Failed to load resource')), []);
    await close();
  },

  'a tab is shown from its beginning, under its name': async () => {
    const { page, done } = await kit.openPage('#lecture');
    await page.locator('.row-text h3').waitFor();
    assert.equal(await page.title(), 'Lecture · convnet');
    await page.evaluate(() => scrollTo(0, 600));
    await page.locator('.tabs a[href="#network"]').evaluate((link) => link.click());
    await page.locator('.layers tbody tr').first().waitFor();
    assert.equal(await page.title(), 'Network · convnet');
    assert.equal(await page.evaluate(() => scrollY), 0);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'step-1');
    await done();
  },

  'the class that is explained is the one that was chosen': async () => {
    const { page, close } = await kit.openPage();
    // Classes whose names are numbers, counted from 1, and so many that they are searched.
    const names = [...Array.from({ length: 39 }, (_, i) => String(i + 1)), '18-wheeler truck'];
    await page.route('**/v1/models/digits', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), classes: names } });
    });
    await page.reload();
    const asked = [];
    await page.route('**/explain*', async (route) => {
      asked.push(new URL(route.request().url()).searchParams.get('class_index'));
      await route.abort();
    });
    await page.locator('[data-tab=try] input[type=file]').setInputFiles(kit.sample);
    await page.locator('.classes li').first().waitFor();
    for (const [text, number] of [['18-wheeler truck', '39'], ['7', '6'], ['17 18', '17'], ['0', '0']]) {
      await page.locator('#explain-class').fill(text);
      await page.locator('.explain .primary').click();
      await until(`class ${number} is asked for`, () => asked.at(-1) === number);
    }
    await page.locator('#explain-class').fill('40');
    await page.locator('.explain .primary').click();
    await page.locator('.explain .alert').filter({ hasText: 'There is no class “40”' }).waitFor();
    await close();
  },
});
