// The table of a network's layers; each row chooses a layer.

import { fill, h, set, wide } from './dom.js';
import { product, thousands } from './numbers.js';
import { reveal, roving } from './keys.js';
import { say } from './i18n.js';

/** `onLayer(name)` is told which layer is chosen. */
export function layerTable(onLayer) {
  const body = h('tbody', {});
  const total = h('tfoot', {});
  const buttons = () => [...body.querySelectorAll('button')];
  const keys = roving(body, buttons);
  const headings = ['layer', 'op', 'shape', 'parameters', 'multiplyAdds', 'field'];
  const heading = (name, i) => h('th', { scope: 'col', class: i < 2 ? 'name' : null }, say(`layers.${name}`));
  const node = wide(say('layers.title'), h('table', { class: 'layers' },
    h('thead', {}, h('tr', {}, headings.map(heading))), body, total));

  const show = ({ layers, parameters, multiply_adds: multiplyAdds }) => {
    fill(body, layers.map((layer) => row(layer, () => onLayer(layer.name))));
    fill(total, h('tr', {},
      h('th', { scope: 'row', class: 'name', colspan: 3 }, say('layers.total')),
      h('td', {}, thousands(parameters)), h('td', {}, thousands(multiplyAdds)), h('td', {})));
    keys.enter(buttons()[0]);
  };
  const mark = (name) => {
    for (const button of buttons()) {
      const isMarked = button.dataset.layer === name;
      set(button, 'aria-pressed', String(isMarked));
      button.closest('tr').classList.toggle('marked', isMarked);
      if (isMarked) {
        keys.enter(button);
        reveal(node, button, node.querySelector('thead').offsetHeight);
      }
    }
  };
  return { node, show, mark };
}

function row({ name, op, settings, shape, parameters, multiply_adds: multiplyAdds, receptive_field: field }, choose) {
  const count = (number) => (number > 0 ? thousands(number) : '–');
  const button = h('button', { type: 'button', class: 'link', 'data-layer': name, 'aria-pressed': 'false', click: choose }, name);
  return h('tr', { click: ({ target }) => target.closest('button') ?? choose() },
    h('th', { scope: 'row', class: 'name' }, button),
    h('td', { class: 'name' }, op, settings && h('span', { class: 'note' }, ` ${settings}`)),
    h('td', {}, product(shape)),
    h('td', {}, count(parameters)),
    h('td', {}, count(multiplyAdds)),
    h('td', {}, field ? product(field.size) : '–'));
}
