// The page: header, tabs by the address's hash, model, language, colours, token.

import { Job, alertBox } from './job.js';
import { chooseLanguage, language, LANGUAGES, say } from './i18n.js';
import { field, fill, h, retell, set } from './dom.js';
import { getModel, listModels, listRuns, whenTokenIsWanted } from './api.js';
import { lectureTab } from './lecture.js';
import { listenEverywhere } from './picker.js';
import { model } from './state.js';
import { networkTab } from './network.js';
import { runTab } from './run.js';
import { tryTab } from './try.js';

const THEME = 'convnet.theme';
const MODEL = 'convnet.model';
/** Milliseconds after which the server is asked for new models. */
const EVERY = 5000;
const root = document.documentElement;

let hasRuns = false;
/** The tab of an address that names none. */
let home = 'try';
let current = null;
const alert = alertBox();
const tabs = { try: tryTab(), network: networkTab(), run: runTab(), lecture: lectureTab(() => hasRuns) };
const links = Object.fromEntries(Object.keys(tabs).map((name) => [name, h('a', { href: `#${name}` }, say(`tab.${name}`))]));
const modelChoice = h('div', { class: 'model' });
const modelJob = new Job(modelChoice, alert);
const panels = Object.fromEntries(Object.entries(tabs).map(([name, { node }]) =>
  [name, h('div', { class: 'panel', 'data-tab': name, hidden: true }, node)]));

function build() {
  const header = h('header', {},
    h('div', { class: 'bar' },
      h('h1', {}, h('img', { src: 'assets/icon.svg', alt: '', width: 28, height: 28 }), 'convnet'),
      modelChoice,
      h('div', { class: 'switches' }, languageSwitch(), themeSwitch())),
    h('nav', { class: 'tabs', 'aria-label': say('tab.all') }, Object.values(links)));
  const skip = h('a', { class: 'skip', href: '#content', click: skipTo }, say('page.skip'));
  fill(document.body, skip, header, h('main', { id: 'content', tabindex: -1 }, alert.node, Object.values(panels)));
}

/** Moves to the content; the hash belongs to the tabs. */
function skipTo(event) {
  event.preventDefault();
  document.getElementById('content').focus();
}

/** Shows the tab that the hash names: `#network`, or with an argument `#lecture/L7`. A tab is shown from its beginning. */
function route() {
  const before = current;
  const [name, argument] = location.hash.slice(1).split('/');
  const shown = Object.hasOwn(tabs, name) && !(name === 'run' && !hasRuns) ? name : home;
  for (const [tab, panel] of Object.entries(panels)) {
    panel.hidden = tab !== shown;
    if (tab !== shown) tabs[tab].close?.();
    set(links[tab], 'aria-current', tab === shown ? 'page' : null);
  }
  links.run.hidden = !hasRuns;
  current = shown;
  nameDocument();
  tabs[shown].open?.(argument);
  if (before === null || before === shown) return;
  scrollTo(0, 0);
  const heading = panels[shown].querySelector('h2');
  set(heading, 'tabindex', -1);
  heading?.focus({ preventScroll: true });
}

/** The tab's name stands in the browser's history and among its windows. */
function nameDocument() {
  document.title = current ? `${say(`tab.${current}`)} · convnet` : `convnet · ${say('page.title')}`;
}

function languageSwitch() {
  const button = h('button', { type: 'button', click: () => {
    chooseLanguage(LANGUAGES.find((code) => code !== language()));
    sayAll();
  } });
  const name = () => {
    const other = LANGUAGES.find((code) => code !== language());
    set(button, 'lang', other);
    fill(button, { en: 'English', ko: '한국어' }[other]);
  };
  const sayAll = () => {
    root.lang = language();
    name();
    retell(document.body);
    route();
  };
  root.lang = language();
  nameDocument();
  name();
  return button;
}

function themeSwitch() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const button = h('button', { type: 'button', click: () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    localStorage.setItem(THEME, root.dataset.theme);
    name();
  } });
  const name = () => fill(button, say(isDark() ? 'page.light' : 'page.dark'));
  const kept = localStorage.getItem(THEME);
  if (kept === 'dark' || kept === 'light') root.dataset.theme = kept;
  system.addEventListener('change', name);
  name();
  return button;
}

/** Asks for the server's token in a dialog: the token, or null. */
function askForToken(wasRefused) {
  return new Promise((resolve) => {
    const input = h('input', { id: 'token', type: 'password', autocomplete: 'off', required: true });
    const give = (event) => {
      event.preventDefault();
      dialog.close(input.value);
    };
    const form = h('form', { submit: give },
      h('h2', { id: 'token-title' }, say('token.title')),
      h('p', { class: 'note' }, say('token.why')),
      wasRefused && h('p', { role: 'alert', class: 'problem' }, say('token.refused')),
      field(say('token.label'), input),
      h('div', { class: 'row' },
        h('button', { type: 'submit', class: 'primary' }, say('token.give')),
        h('button', { type: 'button', click: () => dialog.close('') }, say('token.cancel'))));
    const dialog = h('dialog', { 'aria-labelledby': 'token-title' }, form);
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === '' ? null : dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Shows a model; of several choices in a row the last one counts. The choice says what is shown, also after a failure. */
async function chooseModel(name) {
  await modelJob.run(async (signal) => {
    const chosen = await getModel(name, signal);
    if (signal.aborted) return;
    model.value = chosen;
    sessionStorage.setItem(MODEL, name);
  });
  const select = modelChoice.querySelector('select');
  if (select && !modelJob.isRunning && model.value) select.value = model.value.name;
}

/** A choice where there are several models, else the name of the only one. */
function showModels(models) {
  if (models.length === 0) {
    // The tabs say what to do. They ask for it once it is known that there is no model.
    model.value = null;
    return null;
  }
  const kept = model.value?.name ?? sessionStorage.getItem(MODEL);
  const first = models.find(({ name }) => name === kept) ?? models[0];
  if (models.length === 1) {
    fill(modelChoice, h('span', { class: 'only' }, first.name, ' ', h('span', { class: 'note' }, first.net)));
  } else {
    const option = ({ name, net }) => h('option', { value: name, selected: name === first.name }, `${name} · ${net}`);
    const select = h('select', { id: 'model', change: () => chooseModel(select.value) }, models.map(option));
    fill(modelChoice, h('label', { for: 'model' }, say('model.label')), select);
  }
  return model.value?.name === first.name ? null : chooseModel(first.name);
}

/** Models come while the page is open: a run has one once its first weights are written. */
function watchModels(known) {
  let before = known.map(({ name }) => name).join('\n');
  setInterval(async () => {
    if (document.visibilityState !== 'visible') return;
    const models = await listModels().catch(() => null);
    const now = models?.map(({ name }) => name).join('\n');
    if (!models || now === before) return;
    before = now;
    await showModels(models);
  }, EVERY);
}

async function start() {
  whenTokenIsWanted(askForToken);
  build();
  listenEverywhere();
  window.addEventListener('hashchange', route);
  route();
  try {
    const [models, runs] = await Promise.all([listModels(), listRuns()]);
    hasRuns = runs.length > 0;
    // Before its first epoch is over, a training has no model: there is only the run to look at.
    if (hasRuns && models.length === 0) home = 'run';
    await showModels(models);
    route();
    if (hasRuns) watchModels(models);
  } catch (error) {
    alert.show(error);
  }
}

start();
