// One map as a grid of cells, of which each is a unit of the network. Mouse, arrow keys and Enter choose one; two fields
// for row and column do the same for those who see no canvas.

import { arrow } from './keys.js';
import { enlarged } from './picture.js';
import { fill, h } from './dom.js';
import { pictureOf } from './maps.js';
import { say } from './i18n.js';
import { short } from './numbers.js';

/** Side of the whole grid, about, and the largest of a cell. */
const SIDE = 448;
const LARGEST = 56;
/** Smaller cells have no lines between them. */
const LINED = 7;

/** `onUnit([row, column])` is told which cell is chosen; `labels` names the cells of a vector, where they have names. */
export function mapGrid(onUnit) {
  const canvas = h('canvas', {
    class: 'cells', tabindex: 0, role: 'application', 'aria-label': say('map.label'), 'aria-describedby': 'map-readout',
  });
  const readout = h('p', { id: 'map-readout', class: 'readout', 'aria-live': 'polite' });
  const [row, column] = ['row', 'column'].map((name) => h('input', { id: `map-${name}`, type: 'number', min: 0, required: true }));
  const state = { map: null, labels: null, cell: 1, cursor: [0, 0], chosen: null, painted: null };

  const moveTo = (place) => {
    state.cursor = place.map((at, axis) => Math.min(Math.max(at, 0), state.map.size[axis] - 1));
    [row.value, column.value] = state.cursor;
    fill(readout, told(state));
    paint(canvas, state);
  };
  const choose = () => {
    if (state.cursor[0] * state.map.size[1] + state.cursor[1] >= state.map.count) return;
    state.chosen = state.cursor;
    paint(canvas, state);
    onUnit(state.cursor);
  };
  listen(canvas, state, moveTo, choose);
  const ask = (event) => {
    event.preventDefault();
    moveTo([row, column].map((input) => Number(input.value)));
    choose();
  };
  const form = h('form', { class: 'row', submit: ask },
    h('label', { for: 'map-row' }, say('map.row')), row, h('label', { for: 'map-column' }, say('map.column')), column,
    h('button', { type: 'submit' }, say('map.compute')));

  const show = (map, chosen, labels) => {
    const cell = Math.min(Math.max(Math.floor(SIDE / Math.max(...map.size)), 1), LARGEST);
    Object.assign(state, { map, labels, cell, chosen, painted: enlarged(pictureOf(map), cell) });
    [canvas.width, canvas.height] = [state.painted.width, state.painted.height];
    [row.max, column.max] = map.size.map((size) => size - 1);
    moveTo(chosen ?? state.cursor);
  };
  return { node: h('div', {}, canvas, readout, form), show };
}

function listen(canvas, state, moveTo, choose) {
  const place = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = state.map.size;
    return [Math.floor(((clientY - box.top) / box.height) * rows), Math.floor(((clientX - box.left) / box.width) * columns)];
  };
  canvas.addEventListener('pointermove', (event) => moveTo(place(event)));
  canvas.addEventListener('pointerleave', () => moveTo(state.chosen ?? state.cursor));
  canvas.addEventListener('click', (event) => {
    moveTo(place(event));
    choose();
  });
  canvas.addEventListener('keydown', (event) => {
    const step = arrow(event);
    if (!step && event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    if (step) moveTo([state.cursor[0] + step[0], state.cursor[1] + step[1]]);
    else choose();
  });
}

/** Where the cursor is, and what stands there. */
function told({ map, labels, cursor: [row, column] }) {
  const index = row * map.size[1] + column;
  if (index >= map.count) return say('map.nothing');
  const value = short(map.value(index));
  if (!map.isVector) return say('map.at', { row, column, value });
  return labels ? say('map.class', { index, label: labels[index], value }) : say('map.feature', { index, value });
}

function paint(canvas, { painted, cell, map, cursor, chosen }) {
  const context = canvas.getContext('2d');
  context.drawImage(painted, 0, 0);
  if (cell >= LINED) lines(context, map.size, cell);
  if (chosen) frame(context, chosen, cell, '#56b4e9', 3);
  frame(context, cursor, cell, '#ffffff', 1);
}

function lines(context, [rows, columns], cell) {
  context.fillStyle = 'rgb(128 128 128 / 35%)';
  for (let row = 1; row < rows; row += 1) context.fillRect(0, row * cell, columns * cell, 1);
  for (let column = 1; column < columns; column += 1) context.fillRect(column * cell, 0, 1, rows * cell);
}

/** A frame around a cell, with a black line around itself that keeps it apart from any colour. */
function frame(context, [row, column], cell, colour, width) {
  const around = (line, strokeStyle, grown) => {
    Object.assign(context, { lineWidth: line, strokeStyle });
    context.strokeRect(column * cell - grown, row * cell - grown, cell + 2 * grown, cell + 2 * grown);
  };
  around(width + 2, '#000000', width / 2);
  around(width, colour, width / 2);
}
