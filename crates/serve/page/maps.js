// What a layer makes of the picture: a contact sheet of its maps, each from its own smallest number to its largest.

import { WARM_BYTES, canvasOf } from './colours.js';
import { bytes } from './api.js';
import { extent, fixed, product, short } from './numbers.js';
import { fill, h, set } from './dom.js';
import { inARow, roving } from './keys.js';
import { say } from './i18n.js';

/** Maps that are shown at first; more are drawn when they are asked for. */
const SHOWN = 64;
/** Numbers of a vector in a row, where it is drawn as if it were a map. */
const COLUMNS = 32;
/** Figures of the numbers of a map that is the same everywhere, and most digits after the point. */
const FIGURES = 3;
const MOST_DIGITS = 8;

/**
 * The maps of an answer: `{ layer, version, maps: [{ channel, size, range, share(i), text(i), isExact, count, isVector }] }`. A map
 * comes as bytes, and where it is small as numbers, too; otherwise its values are known to 1/255 of its range, and have no more
 * figures than that. A vector comes as numbers and is one map in rows of 32.
 */
export function mapsOf({ layer, shape, ranges, maps, numbers, values, version }) {
  if (shape.length === 1) {
    const range = extent(values);
    const columns = Math.min(shape[0], COLUMNS);
    const size = [Math.ceil(shape[0] / columns), columns];
    const share = (i) => (range[1] > range[0] ? (values[i] - range[0]) / (range[1] - range[0]) : 0);
    const text = (i) => short(values[i]);
    return { layer, shape, version, maps: [{ channel: 0, size, range, share, text, isExact: true, count: shape[0], isVector: true }] };
  }
  const [, height, width] = shape;
  const all = bytes(maps);
  const exact = numbers && new DataView(bytes(numbers).buffer);
  const map = (range, channel) => {
    const own = all.subarray(channel * height * width, (channel + 1) * height * width);
    const step = (range[1] - range[0]) / 255;
    const digits = step > 0 ? Math.max(-Math.floor(Math.log10(step)) - 1, 0) : FIGURES;
    const about = (i) => fixed(range[0] + own[i] * step, Math.min(digits, MOST_DIGITS));
    const text = (i) => (exact ? short(exact.getFloat32(4 * (channel * height * width + i), true)) : about(i));
    return {
      channel, size: [height, width], range, share: (i) => own[i] / 255, text, isExact: Boolean(exact), count: height * width, isVector: false,
    };
  };
  return { layer, shape, version, maps: ranges.map(map) };
}

/** A drawing of a map with a pixel for each number; what lies past a vector's end is black. */
export function pictureOf({ size, share, count }) {
  return canvasOf(size, (i) => (i < count ? WARM_BYTES[Math.round(255 * share(i))] : [0, 0, 0]));
}

/** `onMap(map)` is told which map is chosen. */
export function contactSheet(onMap) {
  const sheet = h('div', { class: 'sheet', role: 'group', 'aria-label': say('maps.sheet') });
  const readout = h('p', { class: 'readout', 'aria-live': 'polite' });
  const more = h('div', {});
  const node = h('div', {}, sheet, readout, more);
  const tiles = () => [...sheet.children];
  const keys = roving(sheet, tiles, () => inARow(tiles()));

  const tell = ({ channel, range: [low, high] }) =>
    fill(readout, say('maps.range', { channel, low: short(low), high: short(high) }));
  const mark = (channel) => {
    tiles().forEach((tile) => set(tile, 'aria-pressed', String(Number(tile.dataset.channel) === channel)));
    const tile = tiles()[channel];
    if (tile) keys.enter(tile);
  };
  const tile = (map) => {
    const [low, high] = map.range.map((value) => short(value));
    const label = say('maps.tile', { channel: map.channel, low, high });
    return h('button', {
      type: 'button', class: 'tile', title: label, 'aria-label': label, 'aria-pressed': 'false', tabindex: -1,
      'data-channel': map.channel,
      click: () => onMap(map), focus: () => tell(map), pointerenter: () => tell(map),
    }, pictureOf(map), h('span', {}, map.channel));
  };
  const show = ({ maps }, chosen) => {
    const draw = (count) => {
      fill(sheet, maps.slice(0, count).map(tile));
      const rest = maps.length - count;
      fill(more, rest > 0 && h('button', { type: 'button', click: () => draw(maps.length) }, say('maps.all', { count: maps.length })));
      mark(chosen);
      if (tiles()[chosen] === undefined) keys.enter(tiles()[0]);
    };
    draw(chosen >= SHOWN ? maps.length : SHOWN);
    fill(readout, say('maps.hint'));
  };
  const clear = () => [sheet, readout, more].forEach((part) => fill(part));
  return { node, show, mark, tell, clear };
}

/** What a layer's maps are, in words. */
export function described({ layer, shape }) {
  const size = product(shape);
  return shape.length === 1 ? say('maps.vector', { layer, size }) : say('maps.title', { layer, size });
}
