// What a run has come to, from its report: which classes are taken for which, and the worst mistakes. The report is read as
// data, and of it only texts, numbers and pictures within it are shown: it may come from elsewhere.

import { h, wide } from './dom.js';
import { say } from './i18n.js';

/** Pictures that are shown at first. */
const SHOWN = 12;

/** Nothing where the report has neither. */
export function results(html) {
  const sections = html.match(/<section id="(?:confusion|mistakes)".*?<\/section>/gs) ?? [];
  // The page's policy allows no styles within markup; the shades in them are read as data.
  const report = new DOMParser().parseFromString(sections.join('').replaceAll(' style="', ' data-style="'), 'text/html');
  const [heat, pairs] = [report.querySelector('#confusion table.heat'), report.querySelector('#confusion table:not(.heat)')];
  const mistakes = [...report.querySelectorAll('#mistakes .pictures > li')];
  const parts = [
    (heat || pairs) && h('div', { class: 'confusion' },
      h('h3', {}, say('run.confusion')),
      h('p', { class: 'note' }, say(heat ? 'run.confusion.lead' : 'run.confusion.pairs')),
      heat ? wide(say('run.confusion'), matrix(heat)) : wide(say('run.confusion'), plain(pairs))),
    mistakes.length > 0 && h('div', {},
      h('h3', {}, say('run.mistakes')), h('p', { class: 'note' }, say('run.mistakes.lead')),
      h('ul', { class: 'mistakes' }, mistakes.slice(0, SHOWN).map(mistake))),
  ].filter(Boolean);
  return parts.length > 0 ? parts : null;
}

const textOf = (element) => element?.textContent.trim() ?? '';
const rowsOf = (table, part) => [...table.querySelectorAll(`${part} tr`)].map((row) => [...row.children]);

/** True classes by predicted ones; each cell is shaded by its share of the row. */
function matrix(table) {
  const heading = (cell) => h('th', { scope: 'col', title: cell.title || null }, textOf(cell));
  const corner = h('td', { class: 'corner' }, say('run.confusion.corner'));
  const head = rowsOf(table, 'thead').map(([, ...names]) => h('tr', {}, corner, names.map(heading)));
  const body = rowsOf(table, 'tbody').map(([name, ...cells]) => h('tr', {},
    h('th', { scope: 'row', class: 'name', title: name.title || null }, textOf(name)),
    cells.map((cell) => {
      const shaded = h('td', { class: cell.classList.contains('r') ? 'right' : 'wrong' }, textOf(cell));
      const share = /--h:([\d.]+)/.exec(cell.dataset.style)?.[1];
      if (share) shaded.style.setProperty('--size', share);
      return shaded;
    })));
  return h('table', { class: 'heat' }, h('thead', {}, head), h('tbody', {}, body));
}

/** The pairs that are confused most. */
function plain(table) {
  const headings = ['label', 'predicted', 'pictures', 'share'];
  return h('table', {},
    h('thead', {}, h('tr', {}, headings.map((name, i) => h('th', { scope: 'col', class: i < 2 ? 'name' : null }, say(`run.pair.${name}`))))),
    h('tbody', {}, rowsOf(table, 'tbody').map((cells) => h('tr', {}, cells.map((cell, i) => h('td', { class: i < 2 ? 'name' : null }, textOf(cell)))))));
}

/** A picture with what was predicted. Only pictures that the report holds itself are shown. */
function mistake(item) {
  const [image, caption] = [item.querySelector('img'), item.querySelector('figcaption')];
  const source = image?.getAttribute('src') ?? '';
  const lines = [...(caption?.childNodes ?? [])].map((node) => textOf(node)).filter((text) => text !== '');
  const name = textOf(caption?.querySelector('.file'));
  const [label, share] = lines;
  const told = lines.slice(2).find((line) => line !== name) ?? '';
  const truth = /^true: (.*)$/s.exec(told)?.[1] ?? told;
  return h('li', {}, h('figure', {},
    source.startsWith('data:image/png;base64,') && h('img', { src: source, alt: '', width: 96, height: 96 }),
    h('figcaption', {},
      h('strong', {}, label, share), h('span', {}, say('run.mistakes.truth', { truth })), h('span', { class: 'note file', title: name }, name))));
}
