// The tab "Run": curves of trainings, live while they go on, alone or over one another, with their last figures.

import { Job, alertBox } from './job.js';
import { chart } from './charts.js';
import { duration, fixed, percent, short } from './numbers.js';
import { ServerError, epochs, getReport, getRun, hasToken, listRuns, pause, reportAddress } from './api.js';
import { fill, h, refill, set, wide } from './dom.js';
import { results } from './results.js';
import { say } from './i18n.js';

/** What axes never leave, and the size below which differences are rounding. */
const LOSS = { from: 0, to: 1e6 };
const SHARE = { from: 0, to: 100 };
const RATE = { from: 0, to: 1e6, least: 1e-9 };
/** Runs whose curves can still be told apart. */
const MOST = 8;
/** Milliseconds after which the server is asked for new runs. */
const EVERY = 5000;
/** Seconds until a stream that has broken off is asked for again. */
const AGAIN = 2;

export function runTab() {
  // The list is asked for again and again, which wipes its own errors only.
  const [alert, followAlert] = [alertBox(), alertBox()];
  const list = h('div', { class: 'runs' });
  const body = h('div', { class: 'run' });
  const job = new Job(list, alert);
  /** The runs that are shown, by name: `{ run, config, epochs, results, isFollowed, controller }`. */
  const shown = new Map();
  const node = h('section', { 'aria-labelledby': 'run-title' },
    h('h2', { id: 'run-title' }, say('run.title')), h('p', { class: 'note lead' }, say('run.lead')), alert.node, followAlert.node, list, body);

  let isWaiting = false;
  /** Epochs come in heaps; they are drawn once a frame. */
  const redraw = () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      refill(body, view([...shown.values()]));
    });
  };
  const toggle = (run, isShown) => {
    const before = shown.get(run.name);
    before?.controller.abort();
    if (isShown) shown.set(run.name, follow(run, before, { redraw, ended: () => look(), alert: followAlert }));
    else shown.delete(run.name);
    redraw();
  };
  let known = null;
  let timer = null;
  /** Trainings begin and end while the page is open; the list is built anew only where it has changed. */
  const look = () => job.run(async (signal) => {
    const runs = await listRuns(signal);
    if (JSON.stringify(runs) === known) return;
    known = JSON.stringify(runs);
    // A run that has ended may be resumed, and one that was read before its first epoch may have begun.
    for (const run of runs) {
      const state = shown.get(run.name);
      if (state && run.is_training && !state.isFollowed) toggle(run, true);
    }
    const first = runs.find((run) => run.is_training) ?? runs[0];
    if (shown.size === 0 && first) toggle(first, true);
    fill(list, runs.length > 0 ? choice(runs, shown, toggle) : h('p', { class: 'empty' }, say('run.none')));
  });
  const open = () => {
    clearInterval(timer);
    timer = setInterval(() => document.visibilityState === 'visible' && look(), EVERY);
    look();
  };
  return { node, open, close: () => clearInterval(timer) };
}

/** Reads a run, and goes on reading while it trains; `ended` is told when the training has ended. What was known stays until then. */
function follow(run, before, { redraw, ended, alert }) {
  const controller = new AbortController();
  const state = { run, config: before?.config ?? null, epochs: before?.epochs ?? [], results: null, isFollowed: run.is_training, controller };
  const { signal } = controller;
  const read = async () => {
    Object.assign(state, await getRun(run.name, signal));
    redraw();
    if (run.is_training) {
      await watch(state, redraw, alert);
      const now = await getRun(run.name, signal);
      Object.assign(state, { run: { ...run, is_training: false, has_report: now.has_report }, epochs: now.epochs, isFollowed: false });
      redraw();
      ended();
    }
    if (!state.run.has_report) return;
    state.results = results(await (await getReport(run.name, signal)).text());
    redraw();
  };
  read().catch((error) => {
    state.isFollowed = false;
    if (!signal.aborted) alert.show(error);
  });
  return state;
}

/** Takes epochs as they come until the training ends. Where the server cannot be reached it is asked again, and what is shown stays. */
async function watch(state, redraw, alert) {
  const { signal } = state.controller;
  for (;;) {
    let count = 0;
    try {
      for await (const row of epochs(state.run.name, signal)) {
        alert.clear();
        if (row === null) {
          count = 0;
          continue;
        }
        state.epochs = [...state.epochs.slice(0, count), row, ...state.epochs.slice(count + 1)];
        count += 1;
        redraw();
      }
      state.epochs = state.epochs.slice(0, count);
      return;
    } catch (error) {
      const isBusy = error instanceof ServerError && (error.status === undefined || error.status === 503);
      if (signal.aborted || !isBusy) throw error;
      alert.show(error);
      await pause(AGAIN, signal);
    }
  }
}

function choice(runs, shown, toggle) {
  const box = (run, i) => {
    const input = h('input', { type: 'checkbox', id: `run-${i}`, checked: shown.has(run.name) });
    input.addEventListener('change', () => {
      toggle(run, input.checked);
      boxes.forEach(({ input: other }) => set(other, 'disabled', !other.checked && shown.size >= MOST));
    });
    const state = run.is_training && h('span', { class: 'badge' }, say('run.training'));
    const label = h('label', { for: `run-${i}` }, run.name, ' ', h('span', { class: 'note' }, run.folder));
    return { input, node: h('li', { class: 'check' }, input, label, state) };
  };
  const boxes = runs.map(box);
  return h('fieldset', {}, h('legend', {}, say('run.choose')), h('ul', {}, boxes.map(({ node }) => node)));
}

function view(states) {
  if (states.length === 0) return h('p', { class: 'empty' }, say('run.chooseOne'));
  const isAlone = states.length === 1;
  return [
    isAlone && headline(states[0]),
    h('div', { class: 'charts' }, charts(states)),
    figures(states),
    isAlone && [states[0].results, table(states[0].epochs), configuration(states[0].config)],
  ];
}

/** A run by itself has a colour for each part of the data; among others, one for itself. */
function charts(states) {
  const isAlone = states.length === 1;
  const curve = (state, i, part, of) => ({
    name: isAlone ? say(`run.${part}`) : say(`run.${part}Of`, { run: state.run.name }),
    colour: isAlone ? (part === 'train' ? 0 : 1) : i,
    isDashed: !isAlone && part === 'train',
    points: state.epochs.map((row) => [row.epoch, of(row)]),
  });
  const pair = (training, heldOut) => states.flatMap((state, i) => [curve(state, i, 'train', training), curve(state, i, 'val', heldOut)]);
  const rate = (state, i) => ({
    ...curve(state, i, 'val', (row) => row.lr),
    name: isAlone ? say('run.rate') : state.run.name,
    colour: isAlone ? 2 : i,
  });
  const drawn = [
    chart({ title: say('run.loss'), digits: 4, limits: LOSS, curves: pair((row) => row.train_loss, (row) => row.val_loss) }),
    chart({
      title: say('run.accuracy'), unit: '\u00a0%', digits: 2, limits: SHARE,
      curves: pair((row) => 100 * accuracyInTraining(row), (row) => (row.val_accuracy ?? NaN) * 100),
    }),
    chart({ title: say('run.rate'), digits: 6, limits: RATE, curves: states.map(rate) }),
  ];
  return drawn.some(Boolean) ? drawn : h('p', { class: 'empty' }, say('run.noEpoch'));
}

/** Of a sample measured after the epoch, where there is one, else of the pictures as they were learned from. */
const accuracyInTraining = (row) => row.train_eval_accuracy ?? row.train_accuracy;

/** The epoch with the best accuracy on held-out pictures, the earliest of equals. */
function bestOf(rows) {
  return rows.reduce((best, row) => (typeof row.val_accuracy === 'number' && !(row.val_accuracy <= best?.val_accuracy) ? row : best), null);
}

function headline({ run, epochs: rows }) {
  const [last, best] = [rows.at(-1), bestOf(rows)];
  const card = (name, figure, more) => h('div', {}, h('dt', {}, name), h('dd', { class: 'figure' }, figure), h('dd', { class: 'more' }, more));
  return [
    h('h3', { class: 'run-name', 'data-key': run.name },
      run.name, ' ', run.is_training && h('span', { class: 'badge', role: 'status' }, say('run.training')), ' ', report(run)),
    last && h('dl', { class: 'cards' },
      best && card(say('run.best'), percent(best.val_accuracy, 2), say('run.inEpoch', { epoch: best.epoch })),
      card(say('run.accuracyTrain'), percent(accuracyInTraining(last), 2), say('run.inEpoch', { epoch: last.epoch })),
      card(say('run.lossVal'), fixed(last.val_loss, 4), say('run.inEpoch', { epoch: last.epoch })),
      card(say('run.time'), duration(rows.reduce((sum, { seconds }) => sum + seconds, 0)), say('run.epochs', { epochs: rows.length }))),
  ];
}

/** A link to the report. Where the server wants a token a link would lack it, so the page is saved as a file instead. */
function report({ name, has_report: hasReport }) {
  if (!hasReport) return null;
  if (!hasToken()) return h('a', { href: reportAddress(name), target: '_blank', rel: 'noopener' }, say('run.report'));
  const save = async () => {
    const address = URL.createObjectURL(await getReport(name));
    h('a', { href: address, download: `${name}.html` }).click();
    URL.revokeObjectURL(address);
  };
  return h('button', { type: 'button', class: 'link', click: save }, say('run.saveReport'));
}

/** The last figures of each run, side by side. */
function figures(states) {
  const headings = ['run', 'epochs', 'lossTrain', 'accuracyTrain', 'lossVal', 'accuracyVal', 'best', 'time'];
  const heading = (name, i) => h('th', { scope: 'col', class: i === 0 ? 'name' : null }, say(name === 'epochs' ? 'run.epochCount' : `run.${name}`));
  const row = ({ run, epochs: rows }) => {
    const [last, best] = [rows.at(-1), bestOf(rows)];
    const cells = [rows.length, fixed(last?.train_loss, 4), percent(last && accuracyInTraining(last), 2), fixed(last?.val_loss, 4),
      percent(last?.val_accuracy, 2), percent(best?.val_accuracy, 2), duration(rows.reduce((sum, { seconds }) => sum + seconds, 0))];
    return h('tr', {}, h('th', { scope: 'row', class: 'name' }, run.name), cells.map((cell) => h('td', {}, cell)));
  };
  if (states.length < 2) return null;
  return h('div', {}, h('h3', {}, say('run.figures')), wide(say('run.figures'), h('table', { class: 'figures' },
    h('thead', {}, h('tr', {}, headings.map(heading))), h('tbody', {}, states.map(row)))));
}

/** What has been opened stays open when the next epoch is drawn. */
const opened = new Set();
function details(name, summary, content) {
  const toggle = ({ target }) => (target.open ? opened.add(name) : opened.delete(name));
  return h('details', { class: name, 'data-key': name, open: opened.has(name), toggle }, h('summary', {}, summary), content);
}

/** The curves as numbers. */
function table(rows) {
  const hasRate = rows.some(({ lr }) => typeof lr === 'number');
  const headings = ['epoch', 'lossTrain', 'accuracyTrain', 'lossVal', 'accuracyVal', ...(hasRate ? ['rate'] : []), 'seconds'];
  const row = (of) => h('tr', {}, h('th', { scope: 'row' }, of.epoch), [
    fixed(of.train_loss, 4), percent(accuracyInTraining(of), 2), fixed(of.val_loss, 4), percent(of.val_accuracy, 2),
    ...(hasRate ? [short(of.lr)] : []), fixed(of.seconds, 1),
  ].map((cell) => h('td', {}, cell)));
  if (rows.length === 0) return null;
  return details('table', say('run.table'), wide(say('run.table'), h('table', {},
    h('thead', {}, h('tr', {}, headings.map((name) => h('th', { scope: 'col' }, say(`run.${name}`))))), h('tbody', {}, rows.map(row)))));
}

/** The run's settings by their keys, `optimizer.lr`. */
function configuration(config) {
  const flat = (value, path) => (value !== null && typeof value === 'object' && !Array.isArray(value)
    ? Object.entries(value).flatMap(([key, inner]) => flat(inner, [...path, key]))
    : [[path.join('.'), Array.isArray(value) ? JSON.stringify(value) : String(value)]]);
  if (!config) return null;
  return details('configuration', say('run.configuration'),
    h('dl', {}, flat(config, []).map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', {}, value)))));
}
