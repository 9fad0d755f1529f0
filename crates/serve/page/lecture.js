// The tab "Lecture": the rows of `convnet lecture`, and from a row the way to where it can be tried.

import { Job, alertBox } from './job.js';
import { fill, h, set } from './dom.js';
import { getLecture } from './api.js';
import { language, say } from './i18n.js';

/** Rows about what one layer does are tried on layers, the exercise on a run; all others are about whole networks. */
const NETWORK = ['L1', 'L2', 'L3', 'L4', 'L5', 'L6', 'L7', 'L8', 'L9'];
const RUN = ['L15'];

/** `hasRuns()` says whether there is a tab for runs. */
export function lectureTab(hasRuns) {
  const alert = alertBox();
  const list = h('ol', {});
  const text = h('article', { class: 'row-text', 'aria-live': 'polite' });
  const body = h('div', { class: 'lecture' }, h('nav', { 'aria-label': say('lecture.rows') }, list), text);
  const job = new Job(body, alert);
  const node = h('section', { 'aria-labelledby': 'lecture-title' },
    h('h2', { id: 'lecture-title' }, say('lecture.title')), h('p', { class: 'note lead' }, say('lecture.lead')), alert.node, body);
  let rows = [];
  let told = null;

  const show = (id) => {
    const row = rows.find((candidate) => candidate.id === id) ?? rows[0];
    for (const link of list.querySelectorAll('a')) set(link, 'aria-current', link.dataset.row === row?.id ? 'true' : null);
    fill(text, row && rowText(row, hasRuns()));
  };
  const open = async (id) => {
    if (told !== language()) {
      const wanted = language();
      const isRead = await job.run(async (signal) => {
        rows = await getLecture(wanted, signal);
      });
      if (!isRead) return;
      told = wanted;
      fill(list, rows.map((row) => h('li', {}, h('a', { href: `#lecture/${row.id}`, 'data-row': row.id },
        h('span', { class: 'id' }, row.id), row.title))));
    }
    show(id);
  };
  return { node, open };
}

function rowText({ id, title, blocks }, hasRuns) {
  const tab = NETWORK.includes(id) ? 'network' : RUN.includes(id) && hasRuns ? 'run' : 'try';
  return [
    h('h3', {}, `${id} · `, title),
    parted(blocks).map((part) => PARTS[part[0].kind](part)),
    h('a', { class: 'button', href: `#${tab}` }, say(`lecture.to.${tab}`)),
  ];
}

/** Neighbouring blocks of one kind stand together. */
function parted(blocks) {
  const parts = [];
  for (const block of blocks) {
    if (parts.at(-1)?.[0].kind === block.kind) parts.at(-1).push(block);
    else parts.push([block]);
  }
  return parts;
}

/** What becomes of the blocks of each kind. */
const PARTS = {
  words: (part) => part.map(({ text }) => h('p', {}, rich(text))),
  // Their columns matter, so they are scrolled and never wrapped.
  exhibit: (part) => part.map(({ text }) => h('pre', { tabindex: 0, role: 'region', 'aria-label': say('lecture.exhibit') }, text)),
  slip: (part) => part.map(({ text }) => h('p', { class: 'slip' }, h('strong', {}, say('lecture.careful')), ' ', rich(text))),
  figure: (part) => h('dl', { class: 'lecture-figures' }, part.map(figure)),
  try: (part) => [h('h4', {}, say('lecture.tryIt')), h('ul', { class: 'commands' }, part.map(({ command, text }) =>
    h('li', {}, h('code', {}, command), h('span', { class: 'note' }, rich(text)))))],
};

function figure({ name, working, computed, unit, notes, agrees, remark }) {
  const mark = { true: '✓', false: '≠' }[agrees] ?? '';
  const meaning = { true: say('lecture.agrees'), false: say('lecture.differs') }[agrees];
  return h('div', { class: agrees === false ? 'differs' : null },
    h('dt', {}, name),
    h('dd', {},
      working && h('span', { class: 'note' }, `${working} = `), h('strong', {}, computed), ` ${unit} `,
      mark && h('span', { class: 'mark', role: 'img', 'aria-label': meaning, title: meaning }, mark),
      agrees === false && h('p', { class: 'note' }, say('lecture.notes', { notes })),
      remark && h('p', { class: 'note' }, rich(remark))));
}

/** Words with code between backticks. */
function rich(text) {
  return text.split('`').map((part, i) => (i % 2 === 1 ? h('code', {}, part) : part));
}
