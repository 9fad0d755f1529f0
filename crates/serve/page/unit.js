// One output of a layer: what it sees of the picture, and how it comes about, number by number.

import { Job, alertBox } from './job.js';
import { arithmetic } from './arithmetic.js';
import { enlarged, prepared } from './picture.js';
import { factorFor } from './colours.js';
import { fill, h, set } from './dom.js';
import { model, picture } from './state.js';
import { say } from './i18n.js';
import { short } from './numbers.js';
import { unit } from './api.js';

/** Side in which the picture is drawn, about. */
const SIDE = 448;

/** `seen` is the picture with the unit's receptive field, `node` the arithmetic. */
export function unitView() {
  const alert = alertBox();
  const body = h('div', { class: 'unit' });
  const seen = h('div', { class: 'seen' });
  const clear = () => [body, seen].forEach((part) => fill(part));
  const job = new Job(body, alert, clear);

  /** Before a unit is chosen: the picture without a field. */
  const reset = (signal) => {
    job.cancel();
    fill(body, h('p', { class: 'empty' }, say('unit.empty')));
    return showField(null, signal);
  };
  const showField = async (found, signal) => {
    const { canvas } = await prepared(signal);
    fill(seen, fieldFigure(canvas, found));
  };
  /** `place` is channel, row and column, or a feature alone; `newer(version)` is told which version of the model has answered. */
  const show = (layer, [channel, row, column], newer) => job.run(async (signal) => {
    const found = await unit(model.value.name, picture.value.blob, { layer, channel, row, column }, signal);
    if (newer(found.version)) return;
    await showField(found, signal);
    const place = found.unit.join(', ');
    fill(body,
      h('h3', { class: 'unit-title' }, say('unit.title', { place, layer, op: found.op })),
      arithmetic(found));
  });
  return { node: h('div', {}, alert.node, body), seen, show, reset, clear };
}

/** The picture, and on it the box of what the unit can depend on. */
function fieldFigure(canvas, found) {
  const factor = factorFor([canvas.height, canvas.width], SIDE);
  const large = enlarged(canvas, factor);
  const field = found?.field;
  set(large, 'role', 'img');
  set(large, 'aria-labelledby', 'field-title');
  if (!field) {
    const words = found ? say('unit.noField') : say('unit.picture');
    return h('figure', {}, large, h('figcaption', { id: 'field-title' }, words));
  }
  const [top, bottom] = field.rows;
  const [left, right] = field.columns;
  box(large, [left, top, right - left, bottom - top].map((side) => side * factor));
  const words = say('unit.field', { height: bottom - top, width: right - left, top, left, value: short(found.value, 4) });
  return h('figure', {}, large, h('figcaption', { id: 'field-title' }, words));
}

function box(canvas, [x, y, width, height]) {
  const context = canvas.getContext('2d');
  const outside = new Path2D();
  outside.rect(0, 0, canvas.width, canvas.height);
  outside.rect(x, y, width, height);
  context.fillStyle = 'rgb(96 96 96 / 60%)';
  context.fill(outside, 'evenodd');
  const line = (strokeStyle, lineWidth) => {
    Object.assign(context, { strokeStyle, lineWidth });
    const inside = lineWidth / 2;
    context.strokeRect(x + inside, y + inside, width - lineWidth, height - lineWidth);
  };
  line('#ffffff', 5);
  line('#d55e00', 3);
}
