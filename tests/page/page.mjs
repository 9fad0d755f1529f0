// The page of `convnet serve` in a real browser, against a network that is trained for one epoch on the built-in digits.
//
//     cd tests/page && npm ci && node page.mjs ../../target/release/convnet --shots /tmp/shots
//
// Needs Node 20 or newer and Chromium (Debian: apt-get install chromium fonts-noto-cjk; the fonts are for Korean). Flags:
// --chromium PATH [default: /usr/bin/chromium], --shots FOLDER for a picture of every state, --only WORD for the checks
// whose name has this word in it, --page FOLDER to show the files of a folder instead of those within the program. Some
// minutes on two cores: runs are trained while the page shows them.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { accessible, launch, open, pixels, showFilesOf, tabTo } from './browser.mjs';
import { checkMaximum, checkRounding, checkTerms, checkWindows, near, shown } from './arithmetic.mjs';
import { endAll, run, serve, train, until } from './program.mjs';
import { live } from './live.mjs';
import { turns } from './turns.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shots: { type: 'string' },
    only: { type: 'string', default: '' },
    page: { type: 'string' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
  },
});
const program = path.resolve(positionals[0] ?? '../../target/release/convnet');
const sources = path.resolve(import.meta.dirname, '../../crates/serve/page');
const folder = await mkdtemp(path.join(tmpdir(), 'convnet-page-'));
const runs = path.join(folder, 'runs');
const digits = path.join(runs, 'digits');
const sample = path.join(digits, 'sample.png');
const TABS = ['try', 'network', 'run', 'lecture'];

const checks = {
  'both languages have the same texts, and every text that is named': async () => {
    const { page, close } = await openPage();
    const { en, ko } = await page.evaluate(async () => (await import('./assets/i18n.js')).TABLES);
    await close();
    assert.deepEqual(Object.keys(ko), Object.keys(en));
    const places = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const key of Object.keys(en)) assert.deepEqual(places(ko[key]), places(en[key]), key);
    const files = (await readdir(sources)).filter((file) => file.endsWith('.js'));
    const code = (await Promise.all(files.map((file) => readFile(path.join(sources, file), 'utf8')))).join('\n');
    const named = [...code.matchAll(/\bsay\('([^']+)'/g)].map(([, key]) => key);
    assert.ok(named.length > 100);
    for (const key of named) assert.ok(key in en, key);
  },

  'a picture that is chosen': async () => {
    const { page, done } = await openPage('', { camera: false });
    await shot(page, 'try-empty');
    await choose(page);
    const labels = await page.locator('.classes .label').allTextContents();
    const told = JSON.parse(await run(program, ['predict', '--run', digits, sample, '--json', '--quiet']));
    assert.ok(JSON.stringify(told).includes(`"label":"${labels[0]}"`), `${labels[0]} is not what convnet predict says: ${JSON.stringify(told)}`);
    const shares = (await page.locator('.classes .share').allTextContents()).map(parseFloat);
    assert.deepEqual(shares, [...shares].sort((a, b) => b - a));
    assert.ok(shares[0] > 50 && shares.reduce((all, share) => all + share) < 100.5, shares.join());
    await page.locator('.explain .pictures canvas').waitFor();
    await done();
  },

  'a digit that is drawn': async () => {
    const { page, done } = await openPage();
    await draw(page, [[0.3, 0.2], [0.7, 0.2], [0.45, 0.85]]);
    assert.equal(await page.locator('.preview figcaption').textContent(), 'drawing');
    await page.locator('.explain .pictures canvas').waitFor();
    const seen = await pixels(page.locator('.explain .pictures canvas').first());
    assert.ok(seen.some((value) => value > 200) && seen.includes(0));
    assert.equal(await page.locator('.classes .label').first().textContent(), '7');
    await shot(page, 'try-drawn');
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.locator('.results .empty').waitFor();
    assert.ok(await page.locator('.explain').isHidden());
    await done();
  },

  'a picture that is pasted, one that is dropped, one from the camera': async () => {
    const { page, done } = await openPage();
    const bytes = (await readFile(sample)).toString('base64');
    for (const [kind, of] of [['paste', 'clipboardData'], ['drop', 'dataTransfer']]) {
      await page.evaluate(([type, data, png]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0))], `${type}.png`, { type: 'image/png' }));
        const Kind = type === 'paste' ? ClipboardEvent : DragEvent;
        document.body.dispatchEvent(new Kind(type, { [data]: transfer, bubbles: true, cancelable: true }));
      }, [kind, of, bytes]);
      await page.locator('.preview figcaption', { hasText: `${kind}.png` }).waitFor();
      await page.locator('.classes li').first().waitFor();
    }
    await page.getByRole('button', { name: 'Use the camera' }).click();
    await page.locator('.camera video').waitFor();
    await until('the camera gives a picture', () => page.locator('.camera video').evaluate((video) => video.videoWidth > 0));
    await page.getByRole('button', { name: 'Take the picture' }).click();
    await page.locator('.preview figcaption', { hasText: 'camera' }).waitFor();
    assert.equal(await page.locator('.camera video').count(), 0);
    await done();
  },

  'explanations by every method': async () => {
    const { page, done } = await openPage();
    await choose(page);
    await page.getByRole('button', { name: 'Explain' }).click();
    const canvas = page.locator('canvas.explained');
    const methods = await page.locator('#explain-method option').allTextContents();
    assert.ok(methods.includes('grad-cam') && methods.includes('occlusion'));
    const drawn = [];
    for (const method of methods) {
      await page.locator('#explain-method').selectOption(method);
      await page.locator('.explain figcaption', { hasText: `by ${method}.` }).waitFor();
      await page.locator('#explain-opacity').fill('100');
      // A map may be zero, which is said; then it has one colour.
      const colours = new Set((await pixels(canvas)).map((value, i, all) => value * 65536 + all[i + 1] * 256 + all[i + 2]).filter((_, i) => i % 3 === 0));
      const isZero = await page.getByText('The map is zero everywhere').count() > 0;
      assert.ok(isZero ? colours.size === 1 : colours.size > 20, `${method}: ${colours.size} colours`);
      if (!isZero) drawn.push(method);
      assert.equal(await page.locator('#explain-layer').isVisible(), ['grad-cam', 'grad-cam++', 'hires-cam', 'layer-cam'].includes(method));
      assert.equal(await page.locator('.about .caution').count(), method === 'guided-backprop' ? 1 : 0);
    }
    assert.ok(drawn.length >= methods.length - 2, `maps that are not zero: ${drawn}`);
    await page.locator('#explain-opacity').fill('65');
    await page.locator('#explain-method').selectOption('integrated-gradients');
    await page.locator('.explain figcaption', { hasText: 'integrated-gradients' }).waitFor();
    await shot(page, 'explain-signed');
    await page.locator('#explain-method').selectOption('grad-cam');
    await page.locator('#explain-layer').selectOption('relu1');
    await page.locator('#explain-class').selectOption('3');
    await page.locator('.explain figcaption', { hasText: 'Maps of relu1' }).waitFor();
    await page.locator('.explain figcaption', { hasText: '“3”' }).waitFor();
    await shot(page, 'explain-warm');
    await page.locator('#explain-opacity').fill('0');
    const grey = await pixels(canvas);
    assert.ok(grey.every((value, i) => value === grey[i - (i % 3)]), 'without the map the picture is grey');
    await page.locator('#explain-opacity').fill('100');
    const coloured = await pixels(canvas);
    assert.ok(coloured.some((value, i) => Math.abs(value - coloured[i - (i % 3)]) > 60));
    await done();
  },

  'from a layer to the arithmetic of a unit': async () => {
    const { page, done } = await openPage('#network');
    await shot(page, 'network-empty');
    await page.locator('.structure .layers tbody tr').first().waitFor();
    await page.locator('.hint input[type=file]').setInputFiles(sample);
    await page.locator('.graph [data-layer="conv2"]').click();
    await page.locator('.sheet .tile').first().waitFor();
    assert.equal(await page.locator('.sheet .tile').count(), 64);
    assert.equal(await page.locator('.layers tr.marked button').textContent(), 'conv2');
    await page.locator('.tile[data-channel="5"]').hover();
    assert.match(await page.locator('.sheet + .readout').textContent(), /^Map 5: from .+ to /);
    await page.locator('.tile[data-channel="5"]').click();
    await page.locator('.cells').waitFor();
    await clickCell(page, [6, 7], [14, 14]);
    await page.locator('.unit .total').waitFor();
    const few = await shown(page);
    assert.equal(few.groups.length, 16);
    checkRounding(few);
    checkWindows(few, { isWhole: false });
    const box = await pixels(page.locator('.seen canvas'));
    assert.ok(box.some((value, i) => i % 3 === 0 && value === 0xd5 && box[i + 1] === 0x5e && box[i + 2] === 0), 'the box of the field');
    await shot(page, 'network-convolution');
    await page.getByRole('button', { name: 'Show all 32 inputs' }).click();
    const all = await shown(page);
    assert.equal(all.groups.length, 32);
    checkRounding(all);
    checkWindows(all, { isWhole: true });
    await done();
  },

  'the arithmetic of every kind of layer': async () => {
    const { page, done } = await openPage('#network');
    await page.locator('.hint input[type=file]').setInputFiles(sample);
    const look = async (layer, place) => {
      await page.locator(`.layers button[data-layer="${layer}"]`).click();
      await page.locator('.step h3', { hasText: layer }).first().waitFor();
      if (place.length === 3) await page.locator(`.tile[data-channel="${place[0]}"]`).click();
      if (place.length === 3) await page.locator('#map-row').fill(String(place[1]));
      await page.locator('#map-column').fill(String(place.at(-1)));
      // The pointer's way across the map undoes nothing.
      await page.locator('.cells').hover();
      await page.locator('.place button').click();
      await page.locator('.unit .unit-title', { hasText: ` of ${layer},` }).waitFor();
      const found = await shown(page);
      checkRounding(found);
      near(found.engine, found.result, Math.abs(found.result), `${layer}: the engine's value`);
      await shot(page, `unit-${layer}`);
      return found;
    };
    checkWindows(await look('conv1', [2, 10, 11]), { isWhole: true });
    const { terms: [[value]], constants: c, result } = await look('bn1', [2, 10, 11]);
    const names = Object.keys(c).join();
    const [mean, variance, eps, weight, bias] = ['mean', 'variance', 'eps', 'weight', 'bias'].map((name) => c[name]);
    near(((value - mean) / Math.sqrt(variance + eps)) * weight + bias, result, Math.abs(value), `batch norm of ${names}`);
    const relu = await look('relu1', [2, 10, 11]);
    near(Math.max(relu.terms[0][0], 0), relu.result, 1, 'ReLU');
    checkMaximum(await look('pool1', [2, ...await brightest('pool1', 2)]));
    checkWindows(await look('linear1', [35]), { isWhole: false });
    const head = await look('head', [7]);
    checkTerms(head);
    assert.equal(head.terms.length, 16);
    assert.match(await page.locator('#map-readout').textContent(), /Class 7, 7: /);
    await page.getByRole('button', { name: 'Show all 128 terms' }).click();
    const whole = await shown(page);
    assert.equal(whole.terms.length, 128);
    checkTerms(whole);
    await done();
  },

  'curves of a training while it goes on, and of two runs': async () => {
    const folder = path.join(runs, 'beside');
    const beside = train(program, ['--data', 'digits', '--quiet', '--threads', '1', '--epochs', '3', '--out', folder]);
    await until('the run has its folder', () => existsSync(path.join(folder, 'config.toml')));
    const server = await serve(program, ['studio', digits, folder, '--no-browser']);
    const { page, problems, close } = await open(browser, server.address, '#run');
    // The run that is under way is shown at first.
    await page.locator('.run-name .badge').waitFor();
    assert.match(await page.locator('.run-name').textContent(), /^beside/);
    const points = () => page.locator('.chart').first().locator('title').count();
    const counts = new Set();
    await until('three epochs are drawn', async () => {
      counts.add(await points());
      return counts.has(6);
    }, 120);
    await beside.ended;
    assert.ok(counts.size > 1, `the curves have grown: ${[...counts]}`);
    await page.locator('.badge').first().waitFor({ state: 'detached' });
    await page.locator('.run-name a', { hasText: 'Report' }).waitFor();
    await page.locator('.configuration summary').click();
    assert.ok((await page.locator('.configuration dt').allTextContents()).includes('epochs'));
    await page.locator('details summary', { hasText: 'The epochs as a table' }).click();
    assert.equal(await page.locator('.run details table tbody tr').count(), 3);
    await shot(page, 'run-live');
    const report = await page.request.get(new URL(await page.locator('.run-name a').getAttribute('href'), page.url()).href);
    assert.match(await report.text(), /^<!DOCTYPE html>/);
    const sheet = await page.context().newPage();
    await sheet.setContent(await report.text());
    const reported = await sheet.evaluate(drawings, '#curves .charts figure > svg');
    assert.deepEqual(await page.evaluate(drawings, '.chart > svg'), reported, 'curves are drawn as in the report');
    await sheet.close();
    await page.locator('.runs').getByLabel('digits').check();
    await page.locator('table.figures tbody tr').nth(1).waitFor();
    await page.locator('.chart').first().locator('.legend-of-curves li').nth(3).waitFor();
    await shot(page, 'run-compared');
    assert.deepEqual(problems, []);
    await close();
    await server.stop();
  },

  'a choice among models, behind a token': async () => {
    const [twin, file] = [path.join(runs, 'twin'), path.join(folder, 'token')];
    await cp(digits, twin, { recursive: true });
    await writeFile(file, 'open-sesame-open-sesame');
    const server = await serve(program, ['serve', digits, twin, '--token-file', file]);
    const { page, problems, close } = await open(browser, server.address);
    // The model that is shown first does not come before the other is chosen: the choice must not wait for it, nor lead elsewhere.
    await page.route('**/v1/models/digits', () => {});
    const give = async (token) => {
      await page.getByRole('dialog').getByLabel('Token').fill(token);
      await page.keyboard.press('Enter');
    };
    await page.getByRole('dialog').waitFor();
    await shot(page, 'token');
    await give('wrong');
    await page.getByRole('dialog').getByText('does not accept').waitFor();
    await give('open-sesame-open-sesame');
    await page.getByLabel('Model').selectOption('twin');
    await choose(page);
    await page.locator('.program summary').click();
    assert.match(await page.locator('.program code').textContent(), /models\/twin\/predict/);
    await page.locator('.tabs a[href="#run"]').click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save the report' }).click()]);
    assert.match(await readFile(await download.path(), 'utf8'), /^<!DOCTYPE html>/);
    assert.deepEqual(problems.filter((problem) => !problem.includes('401')), []);
    await close();
    await server.stop();
  },

  'the lecture, in both languages': async () => {
    const { page, done } = await openPage('#lecture');
    await page.locator('.lecture nav a').first().waitFor();
    assert.equal(await page.locator('.lecture nav a').count(), 16);
    await page.locator('.lecture nav a', { hasText: 'Padding' }).click();
    await page.locator('.row-text h3', { hasText: 'L7' }).waitFor();
    assert.match(await page.locator('.row-text .commands').textContent(), /convnet filter/);
    assert.equal(await page.locator('.lecture-figures .mark').first().getAttribute('aria-label'), 'as the notes state it');
    await shot(page, 'lecture');
    await page.getByRole('button', { name: '한국어' }).click();
    await page.locator('.row-text', { hasText: '픽셀' }).waitFor();
    assert.match(page.url(), /#lecture\/L7$/);
    await shot(page, 'lecture-ko');
    await page.locator('.row-text .button').click();
    await page.locator('[data-tab=network]').waitFor({ state: 'visible' });
    await done();
  },

  'by keyboard alone': async () => {
    const { page, done } = await openPage();
    // Asked for early: Chromium takes a moment until it tells of choosers.
    const chooser = page.waitForEvent('filechooser');
    await tabTo(page, 'input[type=file]');
    await page.keyboard.press('Enter');
    await (await chooser).setFiles(sample);
    await page.locator('.classes li').first().waitFor();
    await tabTo(page, '.explain .primary');
    await page.keyboard.press('Enter');
    await page.locator('canvas.explained').waitFor();
    await page.keyboard.press('Home');
    await tabTo(page, '.tabs a[href="#network"]');
    await page.keyboard.press('Enter');
    await tabTo(page, '.graph [data-layer]');
    for (let i = 0; i < 2; i += 1) await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.locator('.sheet .tile').first().waitFor();
    await tabTo(page, '.layers button');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await settled(page);
    await tabTo(page, '.tile');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.locator('.cells').waitFor();
    await tabTo(page, '.cells');
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'Enter']) await page.keyboard.press(key);
    await page.locator('.unit .total').waitFor();
    assert.match(await page.locator('.unit-title').textContent(), /, 2, 1\) of /);
    await shot(page, 'keyboard');
    await tabTo(page, '.tabs a[href="#lecture"]', 200);
    await page.keyboard.press('Enter');
    await tabTo(page, '.lecture nav a[href="#lecture/L8"]');
    await page.keyboard.press('Enter');
    await page.locator('.row-text h3', { hasText: 'L8' }).waitFor();
    await done();
  },

  'language and colours follow the browser, and a choice is kept': async () => {
    const { page, done } = await openPage('', { locale: 'ko-KR', colorScheme: 'dark' });
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(await page.locator('html').getAttribute('lang'), 'ko');
    await page.getByRole('link', { name: '네트워크' }).waitFor();
    assert.equal(await ground(), 'rgb(21, 24, 28)');
    await shot(page, 'try-ko-dark');
    await page.getByRole('button', { name: 'English' }).click();
    await page.getByRole('button', { name: 'Light' }).click();
    assert.equal(await ground(), 'rgb(255, 255, 255)');
    await page.reload();
    await page.getByRole('link', { name: 'Network' }).waitFor();
    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
    assert.equal(await ground(), 'rgb(255, 255, 255)');
    await done();
  },

  'every tab at 390 pixels, light and dark, by axe': async () => {
    const narrow = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
    const korean = { locale: 'ko-KR', colorScheme: 'dark' };
    const looks = { light: {}, dark: korean, narrow, 'narrow-ko': { ...narrow, ...korean } };
    for (const [name, options] of Object.entries(looks)) {
      const { page, done } = await openPage('', options);
      await choose(page);
      await page.locator('.explain .primary').click();
      await page.locator('canvas.explained').waitFor();
      for (const tab of TABS) {
        await page.locator(`.tabs a[href="#${tab}"]`).click();
        await page.locator({ try: '.classes', network: '.layers tbody tr', run: '.cards', lecture: '.row-text pre' }[tab]).first().waitFor();
        if (tab === 'network') await unitOf(page, 'conv2', 3);
        await settled(page);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= page.viewportSize().width, `${tab}, ${name}: the page is ${width} pixels wide`);
        await accessible(page, `${tab}, ${name}`);
        await shot(page, `${name}-${tab}`);
      }
      await done();
    }
  },

  'what the server refuses is said in its place, and that it is gone': async () => {
    const { page, problems, close } = await openPage();
    const alert = page.getByRole('alert').filter({ hasText: /./ }).filter({ visible: true });
    await page.locator('input[type=file]').first().setInputFiles({ name: 'words.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
    await alert.or(page.locator('.results .problem')).first().waitFor();
    await shot(page, 'try-refused');
    await page.locator('input[type=file]').first().setInputFiles(sample);
    await page.locator('.classes li').first().waitFor();
    assert.equal(await alert.count(), 0);
    await page.route('**/predict*', (route) => route.abort());
    await page.locator('input[type=file]').first().setInputFiles(sample);
    await alert.filter({ hasText: 'does not answer' }).waitFor();
    // The browser itself writes of answers that are errors; the page adds nothing.
    const own = problems.filter((problem) => !problem.startsWith('console: Failed to load resource'));
    assert.deepEqual(own, []);
    await close();
  },
};


/** The server's address, once there is one. */
let address = null;
let browser = null;

async function openPage(hash = '', options = {}) {
  const opened = await open(browser, address, hash, options);
  const done = async () => {
    assert.deepEqual(opened.problems, []);
    await opened.close();
  };
  return { ...opened, done };
}

async function shot(page, name) {
  if (!flags.shots) return;
  await page.screenshot({ path: path.join(flags.shots, `${name}.png`), fullPage: true });
}

/** Waits until nothing is computed any more. */
/** Labels and heights of the curves of loss and accuracy, on the page and in a report; at the left, labels take more room on the page. */
function drawings(selector) {
  return [...document.querySelectorAll(selector)].slice(0, 2).map((svg) => ({
    labels: [...svg.querySelectorAll('text')].map((text) => text.textContent.replace(/\s/g, ' ')),
    curves: [...svg.querySelectorAll('polyline')].map((line) => line.getAttribute('points').split(' ').map((point) => point.split(',')[1])),
  }));
}

const settled = (page) => page.locator('[aria-busy]').waitFor({ state: 'detached' });

/** Chooses the sample picture and waits for its classes. */
async function choose(page) {
  await page.locator('[data-tab=try] input[type=file]').setInputFiles(sample);
  await page.locator('.classes li').nth(4).waitFor();
}

/** Draws a stroke through points, in shares of the pad, with the mouse. */
async function draw(page, points) {
  const box = await page.locator('.pad').boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  await page.mouse.move(...at(points[0]));
  await page.mouse.down();
  for (const point of points.slice(1)) await page.mouse.move(...at(point), { steps: 12 });
  await page.mouse.up();
  await page.locator('.classes li').first().waitFor();
}

async function clickCell(page, [row, column], [rows, columns]) {
  const canvas = page.locator('.cells');
  await canvas.scrollIntoViewIfNeeded();
  const box = await canvas.boundingBox();
  await page.mouse.click(box.x + ((column + 0.5) / columns) * box.width, box.y + ((row + 0.5) / rows) * box.height);
}

/** Row and column of the largest number of a map, by the server's answer: one that is not 0. */
async function brightest(layer, channel) {
  const answer = await fetch(`${address}/v1/models/digits/features?layer=${layer}`, { method: 'POST', body: await readFile(sample) });
  const { shape: [, height, width], maps } = await answer.json();
  const own = Buffer.from(maps, 'base64').subarray(channel * height * width, (channel + 1) * height * width);
  const place = own.indexOf(Math.max(...own));
  return [Math.floor(place / width), place % width];
}

/** Goes from a layer to the arithmetic of one of its units. */
async function unitOf(page, layer, channel) {
  await page.locator(`.layers button[data-layer="${layer}"]`).click();
  await page.locator(`.tile[data-channel="${channel}"]`).click();
  await page.locator('.cells').waitFor();
  await page.locator('.place button').click();
  await page.locator('.unit .total').waitFor();
}

async function main() {
  if (flags.page) showFilesOf(path.resolve(flags.page));
  if (flags.shots) await mkdir(flags.shots, { recursive: true });
  await run(program, ['train', '--data', 'digits', '--quiet', '--epochs', '1', '--out', digits]);
  const server = await serve(program, ['serve', digits]);
  address = server.address;
  browser = await launch(flags.chromium);
  const kit = { program, runs, digits, sample, browser, openPage, choose, shot };
  const wanted = Object.entries({ ...checks, ...turns(kit), ...live(kit) }).filter(([name]) => name.includes(flags.only));
  for (const [name, check] of wanted) {
    const start = Date.now();
    await check().catch((error) => {
      console.error(`not ok: ${name}`);
      throw error;
    });
    console.log(`ok: ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  }
  await browser.close();
  await server.stop();
}

try {
  await main();
} finally {
  await browser?.close();
  endAll();
  await rm(folder, { recursive: true, force: true });
}
