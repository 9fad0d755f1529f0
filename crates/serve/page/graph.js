// The server's drawing of the network, of which each card is a control that chooses a layer.

import { fill, h, set } from './dom.js';
import { reveal, roving } from './keys.js';
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
    centre();
  };

  const mark = (name) => {
    const marked = cardOf(name, cards, layers);
    cards.forEach((card) => set(card, 'aria-pressed', String(card === marked)));
    if (marked) {
      keys.enter(marked);
      reveal(node, marked);
    }
  };
  /** A wide drawing is shown from its middle, where it begins. */
  const centre = () => {
    node.scrollLeft = (node.scrollWidth - node.clientWidth) / 2;
  };
  return { node, show, mark, centre, clear: () => fill(node) };
}

/** The drawing as a node of this document. It is the server's own; still nothing in it may run. */
function parse(text) {
  const parsed = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
  if (parsed.localName !== 'svg' || parsed.querySelector('parsererror')) throw new Error('the drawing of the network is no SVG');
  parsed.querySelectorAll('script, foreignObject').forEach((element) => element.remove());
  withoutTitle(parsed);
  return document.importNode(parsed, true);
}

/** The page says elsewhere what is drawn, and a title as wide as the drawing would be cut where it is scrolled. */
function withoutTitle(svg) {
  const title = svg.querySelector(':scope > text');
  if (!title) return;
  const [x, y, width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  const room = Number(title.getAttribute('y'));
  title.remove();
  set(svg, 'viewBox', `${x} ${y + room} ${width} ${height - room}`);
  set(svg, 'height', height - room);
}

function control(card, choose) {
  set(card, 'role', 'button');
  // It is called what stands on it, which a title would hide.
  card.querySelector('title')?.remove();
  set(card, 'aria-pressed', 'false');
  card.addEventListener('click', choose);
  card.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    choose();
  });
}

/** The card of a layer: its own, that of its block, or the last one before it, which holds what follows it. */
function cardOf(name, cards, layers) {
  const own = cards.find(({ dataset: { layer } }) => name === layer || (name.startsWith(`${layer}.`) && !layers.includes(layer)));
  const isBefore = (card) => layers.indexOf(layerOf(card, layers)) <= layers.indexOf(name);
  return own ?? cards.findLast(isBefore);
}

/** The layer that a card stands for; of a block of layers, `layer1.0`, the last. */
function layerOf({ dataset: { layer } }, layers) {
  return layers.includes(layer) ? layer : layers.findLast((name) => name.startsWith(`${layer}.`)) ?? layer;
}
