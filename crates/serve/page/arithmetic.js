// The arithmetic of one output, number by number, as one would do it on paper: for each input channel the window of
// values, the kernel, their products and the sum of these; then what is added, and what comes out. Each number carries
// its full value (`data-value`, and the hint that appears over it); what is shown is rounded, in each table alike.

import { digitsFor, fixed, short, thousands } from './numbers.js';
import { fill, h } from './dom.js';
import { say } from './i18n.js';
import { tint } from './colours.js';

/** Groups, or terms, that are shown at first: those that contribute most. Of large windows fewer are, so many numbers. */
const SHOWN = 16;
const SHOWN_NUMBERS = 300;
const LEAST_SHOWN = 4;
/** Most rows and columns of a window that is drawn as a table; a larger one is a list of terms. */
const LARGEST = 12;
/** Wider windows scroll where the page is narrow, and have smaller numbers of fewer figures. */
const NARROW = 5;
const [FIGURES, FEW_FIGURES, MANY_FIGURES] = [3, 2, 6];

export function arithmetic(unit) {
  const { groups, formula } = unit;
  const isWindow = ({ rows, columns }) => rows <= LARGEST && columns <= LARGEST;
  const areWindows = groups.every(isWindow) && groups.some((group) => !isSingle(group));
  return h('div', { class: areWindows ? 'ledger' : 'ledger short' },
    h('p', { class: 'formula' }, h('code', {}, formula)),
    groups.length > 0 && (areWindows ? windows(unit) : terms(unit)),
    total(unit));
}

const isSingle = ({ values }) => values.length === 1;
const isSum = ({ groups }) => groups.length > 0 && groups.every(({ weights }) => weights);
/** A value that lies on padding is null; it adds nothing. */
const products = ({ values, weights }) => (weights ? values.map((value, i) => (value === null ? null : value * weights[i])) : null);
const sum = (numbers) => numbers.reduce((whole, number) => whole + number, 0);
const bySize = (of) => (a, b) => Math.abs(of(b)) - Math.abs(of(a));

/** How a kind of numbers is shown: the same digits and the same scale of tints wherever it stands. */
function style(numbers, figures = FIGURES) {
  const most = numbers.reduce((largest, number) => Math.max(largest, Math.abs(number ?? 0)), 0);
  return { digits: digitsFor(numbers, figures), most };
}

function cell(tag, number, { digits, most }, attributes = {}) {
  if (number === null) return h(tag, { class: 'padding', title: say('unit.padding') }, '·');
  // A zero that is none by rounding is told apart: after a ReLU there are many.
  const element = h(tag, { ...attributes, 'data-value': number, title: String(number) }, number === 0 ? '0' : fixed(number, digits));
  if (number === 0) element.classList.add('zero');
  if (most > 0) tint(element, number / most);
  return element;
}

/** Shows some of many parts and, behind a button, all; the rest is summed up so that what is shown adds up. */
function some(all, first, draw, rest, label) {
  const node = h('div', {});
  const show = (count) => {
    const left = all.slice(count);
    const button = h('button', { type: 'button', click: () => show(all.length) }, say(label, { count: thousands(all.length) }));
    fill(node, draw(all.slice(0, count)), left.length > 0 && [rest(left), button]);
  };
  show(first);
  return node;
}

/** What is left out of a sum, as one number. */
function restOf(left, label, how) {
  const whole = sum(left.map(({ result }) => result));
  const words = say(label, { count: thousands(left.length) });
  return h('p', { class: 'rest' }, words, cell('span', whole, how, { class: 'number rest-sum' }));
}

/** Windows as tables: values · kernel = products, and their sum. */
function windows(unit) {
  const { groups, op } = unit;
  const area = groups[0].values.length;
  const isWide = groups[0].columns > NARROW;
  const figures = isWide ? FEW_FIGURES : FIGURES;
  const styles = {
    values: style(groups.flatMap(({ values }) => values), figures),
    weights: style(groups.flatMap(({ weights }) => weights ?? []), figures),
    products: style(groups.flatMap((group) => products(group) ?? []), figures),
    result: style(groups.map(({ result }) => result)),
  };
  const sorted = [...groups].sort(bySize(({ result }) => result));
  const first = Math.min(Math.max(Math.floor(SHOWN_NUMBERS / area), LEAST_SHOWN), SHOWN);
  const draw = (shown) => h('ol', { class: isWide ? 'groups fine' : 'groups' }, shown.map((group) => windowOf(group, op, styles)));
  return some(sorted, first, draw, (left) => isSum(unit) && restOf(left, 'unit.otherGroups', styles.result), 'unit.allGroups');
}

function windowOf(group, op, styles) {
  const { values, weights, title, result, columns } = group;
  const isMaximum = op === 'max_pool2d';
  const table = (kind, numbers) => matrix(say(`unit.${kind}`), numbers, columns, styles[kind], isMaximum ? result : null);
  // Where the line breaks, the next one begins with its sign.
  const part = (sign, content) => h('div', { class: 'part' }, h('span', { class: 'sign', 'aria-hidden': 'true' }, sign), content);
  return h('li', { class: 'group' },
    h('h4', {}, titleOf(title)),
    h('div', { class: 'equation' },
      part('', table('values', values)),
      weights && [part('·', table('weights', weights)), part('=', table('products', products(group)))]),
    part(isMaximum ? 'max' : 'Σ', cell('span', result, styles.result, { class: 'number sum' })));
}

/** Numbers in rows; those equal to `marked` are framed. */
function matrix(caption, numbers, columns, how, marked) {
  const rows = Array.from({ length: Math.ceil(numbers.length / columns) }, (_, i) => numbers.slice(i * columns, (i + 1) * columns));
  const one = (number) => cell('td', number, how, { class: number !== null && number === marked ? 'marked' : null });
  return h('div', { class: 'scroll', tabindex: columns > NARROW ? 0 : null },
    h('table', { class: 'matrix' }, h('caption', {}, caption),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map(one))))));
}

/** Terms in a list, the largest contributions first: of a 1×1 kernel, of a linear layer, of a sum. */
function terms(unit) {
  const all = unit.groups.flatMap(termsOf).sort(bySize(({ result }) => result));
  const isProduct = isSum(unit);
  // A number that stands alone has room for more of its figures.
  const figures = all.length === 1 ? MANY_FIGURES : FIGURES;
  const styles = {
    value: style(all.map(({ value }) => value), figures),
    weight: style(all.map(({ weight }) => weight), figures),
    result: style(all.map(({ result }) => result), figures),
  };
  const heading = (name, kind) => h('th', { scope: 'col', class: kind }, say(`unit.${name}`));
  const row = ({ title, value, weight, result }) => h('tr', {},
    h('th', { scope: 'row', class: 'name' }, title),
    cell('td', value, styles.value),
    isProduct && [cell('td', weight, styles.weight), cell('td', result, styles.result)]);
  const draw = (shown) => h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': say('unit.terms') },
    h('table', { class: 'terms' },
      h('thead', {}, h('tr', {}, heading('input', 'name'), heading('value'), isProduct && [heading('weight'), heading('product')])),
      h('tbody', {}, shown.map(row))));
  return some(all, SHOWN, draw, (left) => isProduct && restOf(left, 'unit.otherTerms', styles.result), 'unit.allTerms');
}

/** What the server calls a group: "channel 3 of relu1", "features 16 to 31 of relu1". */
const ONE = /^(channel|feature) (\d+) of (.+)$/;
const RANGE = /^(channel|feature)s (\d+) to (\d+) of (.+)$/;

function titleOf(title) {
  const [one, range] = [ONE.exec(title), RANGE.exec(title)];
  if (one) return say(`unit.${one[1]}`, { index: one[2], layer: one[3] });
  return range ? say(`unit.${range[1]}s`, { first: range[2], last: range[3], layer: range[4] }) : title;
}

/** The numbers of a group, one by one. */
function termsOf(group) {
  const { title, values, weights, columns, rows } = group;
  // "features 16 to 31 of relu1" are one feature each.
  const range = RANGE.exec(title);
  const named = (i) => {
    if (isSingle(group)) return titleOf(title);
    if (range) return say(`unit.${range[1]}`, { index: Number(range[2]) + i, layer: range[4] });
    return say('unit.place', { title: titleOf(title), place: rows === 1 ? i : `(${Math.floor(i / columns)}, ${i % columns})` });
  };
  const term = (value, i) => ({
    title: named(i), value, weight: weights?.[i] ?? null, result: weights ? (value ?? 0) * weights[i] : value ?? 0,
  });
  return values.map(term);
}

/** What is added to the sums, what comes out, and what the engine computed. */
function total(unit) {
  const { groups, constants, result, value } = unit;
  const line = (name, number, kind, figures = MANY_FIGURES) => h('div', { class: kind },
    h('dt', {}, name),
    h('dd', { 'data-value': number, title: String(number) }, short(number, figures)));
  return h('dl', { class: 'total' },
    isSum(unit) && line(say('unit.sum'), sum(groups.map((group) => group.result)), 'sum-of-all'),
    constants.map(({ name, value: constant }) => line(h('code', {}, name), constant, 'constant')),
    line(say('unit.result'), result, 'result'),
    line(say('unit.engine'), value, 'engine'),
    line(say('unit.difference'), value - result, 'difference', 2));
}
