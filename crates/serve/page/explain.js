// What in the picture speaks for a class: a map over the picture, with the scale of its colours.

import { Job, alertBox } from './job.js';
import { ServerError, explain } from './api.js';
import { percent, product, short } from './numbers.js';
import { enlarged, prepared } from './picture.js';
import { factorFor, signed, strip, warm } from './colours.js';
import { field, fill, h } from './dom.js';
import { knows, say } from './i18n.js';
import { model, picture, version } from './state.js';

/** Side in which a picture is drawn, about. */
const SIDE = 336;
/** More classes than this are searched instead of listed. */
const LISTED = 30;
/** Of a map of pixels this share of the numbers is within the scale: single ones are far above the others. */
const WITHIN = 0.995;

export function explanation() {
  const alert = alertBox();
  const controls = h('div', { class: 'controls' });
  const pictures = h('div', { class: 'pictures' });
  let seen = null;
  // A map of another picture is not left beside the message; the picture itself is, where it could be read.
  const job = new Job(pictures, alert, () => fill(pictures, seen && seenFigure(seen)));
  const node = h('section', { class: 'explain', 'aria-labelledby': 'explain-title', hidden: true },
    h('h2', { id: 'explain-title' }, say('explain.title')),
    h('p', { class: 'note lead' }, say('explain.lead')), controls, alert.node, pictures);
  let settings = null;
  // Some methods take long, so the first map is asked for; from then on it follows the picture and the settings.
  let follows = false;

  const run = () => job.run(async (signal) => {
    seen = null;
    seen = await prepared(signal);
    if (!follows || !settings) {
      fill(pictures, seenFigure(seen));
      return;
    }
    const map = await explain(model.value.name, picture.value.blob, settings.read(), signal);
    version.value = map.version;
    fill(pictures, seenFigure(seen), mapFigure(seen.canvas, map, settings.opacity));
  });
  const refresh = () => {
    node.hidden = !model.value || !picture.value;
    if (node.hidden) job.cancel();
    else run();
  };
  model.watch((value) => {
    follows = false;
    settings = value?.explain ? settingsOf(value, () => follows && run()) : null;
    const start = () => {
      follows = true;
      run();
    };
    const button = h('button', { type: 'button', class: 'primary', click: start }, say('explain.run'));
    fill(controls, settings ? [settings.nodes, button] : h('p', { class: 'note' }, say('explain.cannot')));
    refresh();
  });
  picture.watch(refresh);
  return { node };
}

/** Method, class, layer and opacity; `read()` gives what the server is asked. */
function settingsOf({ methods, classes, layers }, changed) {
  const about = h('p', { class: 'note about' });
  const method = h('select', { id: 'explain-method', change: () => { describe(); changed(); } },
    methods.map(({ name }) => h('option', { value: name }, name)));
  const wanted = classChooser(classes, changed);
  const layer = h('select', { id: 'explain-layer', change: changed },
    h('option', { value: '' }, say('explain.lastMaps')),
    layerOptions(layers));
  const layerField = field(say('explain.layer'), layer);
  const opacity = h('input', { id: 'explain-opacity', type: 'range', min: 0, max: 100, value: 65 });
  const chosen = () => methods.find(({ name }) => name === method.value);
  const describe = () => {
    const { name, takes_layer: takesLayer, caution } = chosen();
    const key = `method.${name}`;
    layerField.hidden = !takesLayer;
    fill(about, knows(key) && say(key), caution && h('strong', { class: 'caution' }, ' ', cautionOf(name, caution)));
  };
  describe();
  const nodes = [field(say('explain.method'), method), field(say('explain.class'), wanted.control, wanted.more), layerField,
    field(say('explain.opacity'), opacity), about];
  const read = () => ({ method: method.value, class_index: wanted.read(), layer: chosen().takes_layer ? layer.value : '' });
  return { nodes, read, opacity };
}

/** A choice among the classes, at first the predicted one. Classes go by number: two may have the same name. */
function classChooser(classes, changed) {
  if (classes.length <= LISTED) {
    const control = h('select', { id: 'explain-class', change: changed },
      h('option', { value: '' }, say('explain.predicted')),
      classes.map((label, i) => h('option', { value: i }, label)));
    return { control, read: () => control.value };
  }
  const control = h('input', {
    id: 'explain-class', list: 'explain-classes', autocomplete: 'off', placeholder: say('explain.predicted'), change: changed,
  });
  const more = h('datalist', { id: 'explain-classes' }, classes.map((label, i) => h('option', { value: `${i} ${label}` })));
  const read = () => {
    const text = control.value.trim();
    if (text === '') return '';
    // A name may begin with a number, or be one.
    const named = classes.indexOf(text);
    const listed = named < 0 ? classes.findIndex((label, i) => text === `${i} ${label}`) : named;
    const number = listed < 0 && /^\d+$/.test(text) ? Number(text) : listed;
    if (!(number >= 0 && number < classes.length)) throw new ServerError(say('explain.noClass', { text }));
    return number;
  };
  return { control, more, read };
}

/** Layers with maps of more than one pixel, those of a block together where there are many. */
function layerOptions(layers) {
  const maps = layers.filter(({ op, shape }) => shape.length === 3 && shape[1] * shape[2] > 1 && op !== 'input');
  const option = ({ name, shape }) => h('option', { value: name }, `${name} · ${product(shape)}`);
  if (maps.length <= LISTED) return maps.map(option);
  const blockOf = ({ name }) => name.split('.').slice(0, -1).slice(0, 2).join('.');
  const blocks = Map.groupBy ? Map.groupBy(maps, blockOf) : new Map([['', maps]]);
  return [...blocks].map(([block, inside]) => (block === '' ? inside.map(option) : h('optgroup', { label: block }, inside.map(option))));
}

/** What is to be said of a method, in the page's language where it knows the method. */
function cautionOf(method, caution) {
  const key = `caution.${method}`;
  return say('explain.caution', { caution: knows(key) ? say(key) : caution });
}

function seenFigure(seen) {
  const canvas = enlarged(seen.canvas, factorFor([seen.canvas.height, seen.canvas.width], SIDE));
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-labelledby', 'seen-title');
  return h('figure', {}, canvas, h('figcaption', {},
    h('strong', { id: 'seen-title' }, say('explain.seen')), ' ', h('span', { class: 'note' }, preparation(seen))));
}

/** What was done to this picture. */
function preparation({ canvas: { width, height }, source, resize, interpolation }) {
  const { mean, std } = model.value.preprocessing;
  const values = { width, height, resize, interpolation, from: source ? product([source[1], source[0]]) : '?' };
  const numbers = (list) => list.map((number) => String(Number(number.toPrecision(4)))).join(', ');
  return [say(resize ? 'explain.resized' : 'explain.asItIs', values), ' ', say('explain.normalised', { mean: numbers(mean), std: numbers(std) })];
}

function mapFigure(seen, map, opacity) {
  const scale = scaleOf(map);
  const large = enlarged(seen, factorFor([seen.height, seen.width], SIDE));
  const paint = blender(large, coloursOf(map, scale, [large.height, large.width]));
  paint(opacity.value / 100);
  // A new map takes the place of the one before, and the slider paints the new one.
  opacity.oninput = () => paint(opacity.value / 100);
  large.setAttribute('role', 'img');
  large.setAttribute('aria-labelledby', 'map-title');
  large.classList.add('explained');
  const nothing = scale.end === 0 && h('p', { class: 'caution' }, say('explain.zero'));
  const title = say('explain.shown', { label: map.label, percent: percent(map.probability), method: map.method });
  return h('figure', {}, large, legend(map, scale, large.width), h('figcaption', {}, h('strong', { id: 'map-title' }, title), ' ', facts(map), nothing));
}

function facts({ method, layer, score, completeness_error: error, caution }) {
  return [
    h('span', { class: 'note' }, say('explain.facts', { score: short(score, 4) })),
    layer && h('span', { class: 'note' }, ' ', say('explain.ofLayer', { layer })),
    typeof error === 'number' && h('span', { class: 'note' }, ' ', say('explain.completeness', { error: percent(error, 2) })),
    caution && h('strong', { class: 'caution' }, ' ', cautionOf(method, caution)),
  ];
}

/** The numbers at a scale's end, and whether there are numbers beyond it. */
function scaleOf({ values, range: [low, high], is_signed: isSigned, layer }) {
  const largest = Math.max(high, -low, 0);
  if (layer) return { end: Math.max(high, 0), isSigned, isCut: false };
  const sizes = Float64Array.from(values, Math.abs).sort();
  const within = sizes[Math.min(Math.floor(WITHIN * sizes.length), sizes.length - 1)];
  const end = within > 0 ? within : largest;
  return { end, isSigned, isCut: end < largest };
}

const colourOf = ({ end, isSigned }) => (value) => {
  const share = end > 0 ? value / end : 0;
  return isSigned ? signed(share) : warm(share);
};

/** A colour for each pixel of the drawing. Maps of a layer are coarse and drawn smoothly, maps of pixels as they are. */
function coloursOf({ size: [rows, columns], values, layer }, scale, [height, width]) {
  const colour = colourOf(scale);
  const pixels = new Uint8ClampedArray(3 * height * width);
  const nearest = (y, x) => values[Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width)];
  const between = (y, x) => {
    const [top, down, downShare] = neighbours(y, rows, height);
    const [left, right, rightShare] = neighbours(x, columns, width);
    const row = (r) => values[r * columns + left] * (1 - rightShare) + values[r * columns + right] * rightShare;
    return row(top) * (1 - downShare) + row(down) * downShare;
  };
  const value = layer ? between : nearest;
  for (let i = 0; i < height * width; i += 1) pixels.set(colour(value(Math.floor(i / width), i % width)), 3 * i);
  return pixels;
}

/** The two numbers of `count` between which a pixel of `size` lies, and how near it is to the second. */
function neighbours(pixel, count, size) {
  const place = Math.min(Math.max(((pixel + 0.5) * count) / size - 0.5, 0), count - 1);
  const before = Math.floor(place);
  return [before, Math.min(before + 1, count - 1), place - before];
}

/** Paints colours over the grey picture on a canvas: `paint(opacity)`. */
function blender(canvas, colours) {
  const context = canvas.getContext('2d');
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = new Float32Array(canvas.width * canvas.height);
  for (let i = 0; i < grey.length; i += 1) {
    grey[i] = 0.299 * image.data[4 * i] + 0.587 * image.data[4 * i + 1] + 0.114 * image.data[4 * i + 2];
  }
  return (opacity) => {
    for (let i = 0; i < grey.length; i += 1) {
      for (let part = 0; part < 3; part += 1) {
        image.data[4 * i + part] = grey[i] * (1 - opacity) + colours[3 * i + part] * opacity;
      }
    }
    context.putImageData(image, 0, 0);
  };
}

function legend({ range }, scale, width) {
  const { end, isSigned, isCut } = scale;
  const sign = (mark) => (isCut ? `${mark} ` : '');
  const colour = colourOf({ ...scale, end: 1 });
  const [low, high] = range.map((value) => short(value));
  const ends = isSigned
    ? [say('explain.against', { value: sign('≤') + short(-end) }), '0', say('explain.for', { value: sign('≥') + short(end) })]
    : ['0', sign('≥') + short(end)];
  const node = h('div', { class: 'legend', title: say('explain.range', { low, high }) },
    strip((share) => colour(isSigned ? 2 * share - 1 : share)),
    h('div', { class: 'ends' }, ends.map((text) => h('span', {}, text))));
  node.style.maxWidth = `${width}px`;
  return node;
}
