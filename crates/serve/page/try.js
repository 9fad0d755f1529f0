// The tab "Try": a picture goes in, classes come out, with what the network saw and why it says so.

import { Job, alertBox } from './job.js';
import { camera, hasCamera } from './camera.js';
import { drawingPad } from './draw.js';
import { duration, percent } from './numbers.js';
import { explanation } from './explain.js';
import { fill, h } from './dom.js';
import { model, picture, version } from './state.js';
import { picker } from './picker.js';
import { hasToken, predict } from './api.js';
import { say } from './i18n.js';
import { take } from './picture.js';

/** Classes that are shown. */
const TOP = 5;

export function tryTab() {
  const input = h('div', { class: 'input' });
  const preview = h('div', { class: 'preview' });
  const results = resultsView();
  const explained = explanation();
  let lens = null;

  model.watch((value) => {
    lens?.stop();
    lens = value && hasCamera() ? camera((blob) => take(blob, say('camera.name'))) : null;
    fill(input, value ? [inputs(value), lens?.node] : []);
    results.predict();
  });
  picture.watch((value) => {
    fill(preview, value ? previewOf(value) : []);
    results.predict();
  });
  const left = h('section', { class: 'give', 'aria-labelledby': 'give-title' },
    h('h2', { id: 'give-title' }, say('try.give')), input, preview);
  return { node: h('div', {}, h('div', { class: 'try' }, left, results.node), explained.node), close: () => lens?.stop() };
}

/** The ways to give a picture to this model. */
function inputs({ input: [channels, height, width] }) {
  const isGrey = channels === 1;
  const drawn = (blob) => {
    if (blob) take(blob, say('draw.name'));
    else picture.value = null;
  };
  return [
    isGrey && h('p', { class: 'note' }, say('draw.note')),
    isGrey && drawingPad([height, width], drawn),
    picker(),
  ];
}

function previewOf({ address, name }) {
  const image = h('img', { src: address, alt: say('picture.given', { name }) });
  // A file may be of a kind that the server reads and the browser does not.
  image.addEventListener('error', () => image.remove());
  return h('figure', {}, image, h('figcaption', {}, name));
}

function resultsView() {
  const alert = alertBox();
  const body = h('div', { class: 'results', 'aria-live': 'polite' }, h('p', { class: 'empty' }, say('try.empty')));
  const job = new Job(body, alert, () => fill(body));
  let told = null;
  // While a run trains its network is loaded again: the classes are those of the version that is explained.
  version.watch((newer) => told !== null && newer > told && again());
  const again = async () => {
    told = null;
    if (!model.value || !picture.value) {
      job.cancel();
      fill(body, h('p', { class: 'empty' }, say(model.value ? 'try.empty' : 'model.none')));
      return;
    }
    const { name, classes } = model.value;
    await job.run(async (signal) => {
      const top = Math.min(TOP, classes.length);
      const { predictions: [first], seconds, version } = await predict(name, picture.value.blob, { top }, signal);
      told = version;
      fill(body, first.error ? h('p', { class: 'problem' }, say('error.said', { text: first.error })) : answer(first, seconds));
    });
  };
  const node = h('section', { 'aria-labelledby': 'answer-title' },
    h('h2', { id: 'answer-title' }, say('try.answer')), alert.node, body, fromAProgram());
  return { node, predict: again };
}

function answer({ top, warnings }, seconds) {
  const line = ({ label, probability }) => {
    const bar = h('i', {});
    bar.style.width = `${100 * probability}%`;
    return h('li', {},
      h('span', { class: 'label' }, label),
      h('span', { class: 'share' }, percent(probability, 2)),
      h('span', { class: 'bar', 'aria-hidden': 'true' }, bar));
  };
  const [queue, compute, total] = [seconds.queue, seconds.compute, seconds.total].map(duration);
  return [
    h('ol', { class: 'classes' }, top.map(line)),
    h('p', { class: 'note times' }, say('try.times', { queue, compute, total })),
    (warnings ?? []).map((warning) => h('p', { class: 'note caution' }, warning)),
  ];
}

/** Text as one word of a shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same request as a command, to take away. */
function fromAProgram() {
  const command = h('code', {});
  const node = h('details', { class: 'program', hidden: true, toggle: () => tell() },
    h('summary', {}, say('try.program')),
    h('pre', { tabindex: 0 }, command),
    h('p', { class: 'note' }, say('try.programNote')));
  const tell = () => {
    node.hidden = !model.value;
    if (!model.value) return;
    const address = new URL(`v1/models/${encodeURIComponent(model.value.name)}/predict?top=${TOP}`, document.baseURI);
    const token = hasToken() ? `-H ${quoted('Authorization: Bearer TOKEN')} ` : '';
    fill(command, `curl ${token}--data-binary @picture.png ${quoted(address.href)}`);
  };
  model.watch(tell);
  return node;
}
