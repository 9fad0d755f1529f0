// One map as a grid of cells, of which each is a unit of the network. Mouse, arrow keys and Enter choose one; fields for
// its place do the same for those who see no canvas.

import { arrow } from './keys.js';
import { enlarged } from './picture.js';
import { fill, h, set } from './dom.js';
import { pictureOf } from './maps.js';
import { say } from './i18n.js';

/** Side of the whole grid, about, and the largest of a cell, in pixels of the page. */
const SIDE = 448;
const LARGEST = 56;
/** The canvas has so many pixels for each of the page's, so that numbers are sharp on fine screens. */
const FINE = 2;
/** Smaller cells have no lines between them, or no number in them. */
const LINED = 7;
const NUMBERED = 40;

/** `onUnit([row, column])` is told which cell is chosen. */
export function mapGrid(onUnit) {
  const canvas = h('canvas', {
    class: 'cells', tabindex: 0, role: 'application', 'aria-label': say('map.label'), 'aria-describedby': 'map-readout',
  });
  const readout = h('p', { id: 'map-readout', class: 'readout', 'aria-live': 'polite' });
  // What the pointer is over is told, too, but moves nothing: on its way to the button it would undo what was typed.
  const state = { map: null, labels: null, cell: 1, cursor: [0, 0], hover: null, chosen: null, painted: null };
  const choose = (place) => {
    moveTo(place);
    if (state.cursor[0] * state.map.size[1] + state.cursor[1] >= state.map.count) return;
    state.chosen = state.cursor;
    look();
    onUnit(state.cursor);
  };
  const form = placeForm(choose);
  const moveTo = (place) => {
    state.cursor = place.map((at, axis) => Math.min(Math.max(at, 0), state.map.size[axis] - 1));
    state.hover = null;
    form.tell(state.cursor);
    look();
  };
  const look = () => {
    fill(readout, told(state));
    paint(canvas, state);
  };
  listen(canvas, state, { moveTo, choose, look });

  /** `labels` names the cells of a vector, where they have names. */
  const show = (map, chosen, labels) => {
    const side = Math.min(Math.max(Math.floor(SIDE / Math.max(...map.size)), 1), LARGEST);
    Object.assign(state, { map, labels, chosen, cell: side * FINE, painted: enlarged(pictureOf(map), side * FINE) });
    [canvas.width, canvas.height] = [state.painted.width, state.painted.height];
    canvas.style.width = `${canvas.width / FINE}px`;
    form.show(map);
    moveTo(chosen ?? state.cursor);
  };
  return { node: h('div', {}, canvas, readout, form.node), show };
}

/** Fields for row and column, of a vector for the index alone. */
function placeForm(choose) {
  const [row, column] = ['row', 'column'].map((name) => h('input', { id: `map-${name}`, type: 'number', min: 0, required: true }));
  const rowField = h('span', { class: 'row' }, h('label', { for: 'map-row' }, say('map.row')), row);
  const columnLabel = h('label', { for: 'map-column' });
  let map = null;
  const submit = (event) => {
    event.preventDefault();
    const [y, x] = [Number(row.value), Number(column.value)];
    choose(map.isVector ? [Math.floor(x / map.size[1]), x % map.size[1]] : [y, x]);
  };
  const show = (shown) => {
    map = shown;
    set(row, 'max', map.size[0] - 1);
    set(column, 'max', map.isVector ? map.count - 1 : map.size[1] - 1);
    rowField.hidden = map.isVector;
    fill(columnLabel, say(map.isVector ? 'map.index' : 'map.column'));
  };
  const tell = ([y, x]) => {
    row.value = map.isVector ? 0 : y;
    column.value = map.isVector ? Math.min(y * map.size[1] + x, map.count - 1) : x;
  };
  const node = h('form', { class: 'row place', submit }, rowField, h('span', { class: 'row' }, columnLabel, column),
    h('button', { type: 'submit' }, say('map.compute')));
  return { node, show, tell };
}

function listen(canvas, state, { moveTo, choose, look }) {
  const place = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = state.map.size;
    const [row, column] = [((clientY - box.top) / box.height) * rows, ((clientX - box.left) / box.width) * columns].map(Math.floor);
    // At the very edge it lies one past the last.
    return [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
  };
  const hover = (at) => {
    state.hover = at;
    look();
  };
  canvas.addEventListener('pointermove', (event) => hover(place(event)));
  canvas.addEventListener('pointerleave', () => hover(null));
  canvas.addEventListener('click', (event) => choose(place(event)));
  canvas.addEventListener('keydown', (event) => {
    const step = arrow(event);
    if (!step && event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    if (step) moveTo([state.cursor[0] + step[0], state.cursor[1] + step[1]]);
    else choose(state.cursor);
  });
}

/** Where the pointer or the cursor is, and what stands there. */
function told({ map, labels, cursor, hover }) {
  const [row, column] = hover ?? cursor;
  const index = row * map.size[1] + column;
  if (index >= map.count) return say('map.nothing');
  const value = map.text(index);
  if (!map.isVector) return say(map.isExact ? 'map.at' : 'map.about', { row, column, value });
  return labels ? say('map.class', { index, label: labels[index], value }) : say('map.feature', { index, value });
}

function paint(canvas, { painted, cell, map, cursor, hover, chosen }) {
  const context = canvas.getContext('2d');
  context.drawImage(painted, 0, 0);
  if (cell >= LINED * FINE) lines(context, map.size, cell);
  if (cell >= NUMBERED * FINE) numbers(context, map, cell);
  frame(context, hover ?? cursor, cell, '#ffffff', FINE);
  if (chosen) frame(context, chosen, cell, '#56b4e9', 2 * FINE);
}

function lines(context, [rows, columns], cell) {
  context.fillStyle = 'rgb(128 128 128 / 35%)';
  for (let row = 1; row < rows; row += 1) context.fillRect(0, row * cell, columns * cell, FINE);
  for (let column = 1; column < columns; column += 1) context.fillRect(column * cell, 0, FINE, rows * cell);
}

/** The number of each cell, light on dark and dark on light. */
function numbers(context, { count, size: [, columns], share, text }, cell) {
  Object.assign(context, { font: `${12 * FINE}px system-ui, sans-serif`, textAlign: 'center', textBaseline: 'middle' });
  for (let i = 0; i < count; i += 1) {
    context.fillStyle = share(i) > 0.55 ? '#000000' : '#ffffff';
    context.fillText(text(i), ((i % columns) + 0.5) * cell, (Math.floor(i / columns) + 0.5) * cell, cell - 4 * FINE);
  }
}

/** A frame inside a cell, with a black line beside itself that keeps it apart from any colour. */
function frame(context, [row, column], cell, colour, width) {
  const line = (lineWidth, strokeStyle) => {
    Object.assign(context, { lineWidth, strokeStyle });
    context.strokeRect(column * cell + width / 2, row * cell + width / 2, cell - width, cell - width);
  };
  line(width + 2 * FINE, '#000000');
  line(width, colour);
}
