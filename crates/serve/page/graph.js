// The server's drawing of the network, of which each card is a control that chooses a layer.

import { fill, h, set } from './dom.js';
import { roving } from './keys.js';
import { say } from './i18n.js';

/** The least size of a drawing, as a share of its own. */
const READABLE = 0.75;

/** `onLayer(name)` is told which layer is chosen. */
export function drawing(onLayer) {
  const node = h('div', { class: 'graph' });
  let cards = [];
  let layers = [];
  const keys = roving(node, () => cards);

  /** Shows a drawing (SVG as text) of these layers. */
  const show = (text, allLayers) => {
    layers = allLayers.map(({ name }) => name);
    const svg = parse(text);
    set(svg, 'role', 'group');
    set(svg, 'aria-label', say('network.drawing'));
    // A wide network is scrolled; smaller than this it could not be read.
    svg.style.minWidth = `${READABLE * svg.width.baseVal.value}px`;
    cards = [...svg.querySelectorAll('[data-layer]')];
    cards.forEach((card) => control(card, () => onLayer(layerOf(card, layers))));
    if (cards.length > 0) keys.enter(cards[0]);
    fill(node, svg);
  };

  /** Marks the card of a layer: its own, or the last one before it, which holds what follows it. */
  const mark = (name) => {
    const place = layers.indexOf(name);
    const places = cards.map((card) => layers.indexOf(layerOf(card, layers)));
    const best = places.reduce((most, at) => (at <= place ? Math.max(most, at) : most), -1);
    cards.forEach((card, i) => set(card, 'aria-pressed', String(best >= 0 && places[i] === best)));
    const marked = cards[places.indexOf(best)];
    if (marked) keys.enter(marked);
  };
  return { node, show, mark, clear: () => fill(node) };
}

/** The drawing as a node of this document. It is the server's own; still nothing in it may run. */
function parse(text) {
  const parsed = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
  if (parsed.localName !== 'svg' || parsed.querySelector('parsererror')) throw new Error('the drawing of the network is no SVG');
  parsed.querySelectorAll('script, foreignObject').forEach((element) => element.remove());
  return document.importNode(parsed, true);
}

function control(card, choose) {
  set(card, 'role', 'button');
  // What is read aloud is what can be read.
  set(card, 'aria-label', [...card.querySelectorAll('text')].map(({ textContent }) => textContent).join(', '));
  set(card, 'aria-pressed', 'false');
  card.addEventListener('click', choose);
  card.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    choose();
  });
}

/** The layer that a card stands for; of a block of layers, `layer1.0`, the last. */
function layerOf({ dataset: { layer } }, layers) {
  return layers.includes(layer) ? layer : layers.findLast((name) => name.startsWith(`${layer}.`)) ?? layer;
}
