// Curves over epochs as SVG that scales with the page, with the axes and colours of the program's reports.

import { fixed, short, thousands } from './numbers.js';
import { h, s } from './dom.js';
import { say } from './i18n.js';

const SIZE = [440, 270];
/** Space around the plot itself: left at least, top, right, bottom. Labels may need more at the left, so many units a letter. */
const MARGINS = [56, 10, 12, 44];
const LETTER = 7.2;
/** Digits after the point that a tick's label has at most; smaller numbers have an exponent. */
const MOST_DIGITS = 5;
/** With more points than this they are drawn without marks. */
const MARKED = 40;
/** Share of a tick's step that is taken for rounding. */
const SLACK = 1e-6;
/** Colours that the style sheet has. */
const COLOURS = 8;

/**
 * A figure of curves `{ name, colour, isDashed, points: [[epoch, value], …] }`. `unit` stands behind each value, `limits`
 * are what the axis never leaves. Null where there is nothing to draw.
 */
export function chart({ title, unit = '', digits, limits, curves }) {
  const drawn = curves.map((curve) => ({ ...curve, points: curve.points.filter(([, value]) => Number.isFinite(value)) }));
  const full = drawn.filter(({ points }) => points.length > 0);
  if (full.length === 0) return null;
  const value = (number) => fixed(number, digits) + unit;
  const last = full.map(({ name, points }) => say('chart.last', { name, value: value(points.at(-1)[1]), epoch: points.at(-1)[0] }));
  const label = say('chart.label', { title, curves: { toString: () => last.join('; ') } });
  const svg = s('svg', { viewBox: `0 0 ${SIZE[0]} ${SIZE[1]}`, role: 'img', 'aria-label': label }, plot(full, unit, limits, value));
  const entry = ({ name, colour, isDashed }) => h('li', {}, swatch(colour, isDashed), name);
  return h('figure', { class: 'chart' },
    h('h3', {}, title), h('ul', { class: 'legend-of-curves' }, full.map(entry)), svg);
}

function plot(curves, unit, limits, value) {
  const points = curves.flatMap((curve) => curve.points);
  const y = axisOfValues(points.map(([, number]) => number), [SIZE[1] - MARGINS[3], MARGINS[1]], limits);
  const longest = Math.max(...y.ticks.map((tick) => tickLabel(tick, y, unit).length));
  const left = Math.max(MARGINS[0], Math.ceil(LETTER * longest) + 12);
  const x = axisOfEpochs(points.map(([epoch]) => epoch), [left, SIZE[0] - MARGINS[2]]);
  return [axes(x, y, unit), curves.map((curve) => curveOf(curve, x, y, value))];
}

function curveOf({ name, colour, isDashed, points }, x, y, value) {
  const places = points.map(([epoch, number]) => `${x.place(epoch).toFixed(1)},${y.place(number).toFixed(1)}`);
  const kind = `curve s${colour % COLOURS}${isDashed ? ' dashed' : ''}`;
  const line = s('polyline', { class: kind, points: places.join(' ') });
  if (points.length > MARKED) return line;
  const marks = points.map(([epoch, number]) => marker(colour, x.place(epoch), y.place(number), isDashed,
    s('title', {}, say('chart.point', { name, epoch, value: value(number) }))));
  return [line, marks];
}

/** A point of a curve: its shape tells neighbouring colours apart, too. */
function marker(colour, x, y, isSmall, ...content) {
  const kind = `f${colour % COLOURS}`;
  const radius = isSmall ? 2.2 : 3.4;
  return colour % 2 === 0
    ? s('circle', { class: kind, cx: x.toFixed(1), cy: y.toFixed(1), r: radius }, content)
    : s('rect', { class: kind, x: (x - radius).toFixed(1), y: (y - radius).toFixed(1), width: 2 * radius, height: 2 * radius }, content);
}

function swatch(colour, isDashed) {
  const line = s('polyline', { class: `curve s${colour % COLOURS}${isDashed ? ' dashed' : ''}`, points: '0,6 26,6' });
  return s('svg', { viewBox: '0 0 26 12', 'aria-hidden': 'true' }, line, marker(colour, 13, 6, isDashed));
}

const tickLabel = (tick, { decimals }, unit) => (decimals > MOST_DIGITS ? short(tick) : fixed(tick, decimals)) + unit;

/** Grid, ticks and their labels. */
function axes(x, y, unit) {
  const [left, right] = x.ends;
  const floor = y.ends[0];
  const line = (kind, x1, x2, y1, y2) => s('line', { class: kind, x1, x2, y1, y2 });
  const text = (content, at, height, anchor) => s('text', { x: at.toFixed(1), y: height.toFixed(1), 'text-anchor': anchor }, content);
  return [
    y.ticks.map((tick) => [
      line('grid', left, right, y.place(tick), y.place(tick)),
      text(tickLabel(tick, y, unit), left - 7, y.place(tick) + 4.2, 'end'),
    ]),
    line('axis', left, right, floor, floor),
    x.ticks.map((tick) => [
      line('axis', x.place(tick), x.place(tick), floor, floor + 4),
      text(thousands(tick), x.place(tick), floor + 18, 'middle'),
    ]),
    text(say('chart.epoch'), (left + right) / 2, floor + 37, 'middle'),
  ];
}

/** Whole epochs, with room beside the first and the last. */
function axisOfEpochs(epochs, ends) {
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const room = first === last ? 0.5 : 0.03 * (last - first);
  const step = Math.ceil(Math.max(niceStep((last - first) / 10), 1));
  return axis([first - room, last + room], ends, multiples(step, first, last), 0);
}

/** From the tick below the least value to the one above the largest, but never beyond the limits. */
function axisOfValues(values, ends, limits) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (high === low && high > 0) {
    // A constant: its height says how large it is.
    low = 0;
  } else if (high - low < 1e-3 * Math.max(Math.abs(high), limits.least ?? 1)) {
    const room = 0.01 * Math.max(Math.abs(high), limits.least ?? 0.1);
    [low, high] = [low - room, high + room];
  } else if (low < 0.5 * high) {
    // Well on the way to zero: show it.
    low = 0;
  }
  const step = niceStep((high - low) / 6);
  low = Math.max(Math.floor(low / step + SLACK) * step, limits.from);
  high = Math.min(Math.ceil(high / step - SLACK) * step, limits.to);
  const isWhole = (value) => Math.abs(value - Math.round(value)) < SLACK;
  const decimals = [0, 1, 2, 3, 4, 5, 6, 7, 8].find((digits) => isWhole(step * 10 ** digits)) ?? 8;
  return axis([low, high], ends, multiples(step, low, high), decimals);
}

function axis(range, ends, ticks, decimals) {
  const place = (value) => ends[0] + ((value - range[0]) / (range[1] - range[0])) * (ends[1] - ends[0]);
  return { ends, ticks, decimals, place };
}

/** The least of 1, 2, 2.5 and 5 times a power of ten that is not below `least`. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-12)));
  return [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((step) => step >= least) ?? 10 * power;
}

function multiples(step, low, high) {
  const [first, last] = [Math.ceil(low / step - SLACK), Math.floor(high / step + SLACK)];
  return Array.from({ length: Math.min(last - first, 100) + 1 }, (_, i) => (first + i) * step);
}
