// Colours for numbers, the same as in the program's own drawings, and canvases made of them.

import { h } from './dom.js';

/** Dark to light at equal steps: nine colours of matplotlib's `inferno` (S. van der Walt and N. Smith, CC0). */
const WARM = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50],
  [252, 255, 164],
];
/** Vermillion and blue of Okabe and Ito's colours, which everyone can tell apart. */
const POSITIVE = [0xd5, 0x5e, 0x00];
const NEGATIVE = [0x00, 0x72, 0xb2];
const WHITE = [255, 255, 255];

/** Of the first colour as much as `share`. */
function mixed(first, second, share) {
  return first.map((part, i) => Math.round(part * share + second[i] * (1 - share)));
}

/** A share from 0 to 1 as a colour from dark to light. */
export function warm(share) {
  const place = Math.min(Math.max(share, 0), 1) * (WARM.length - 1);
  const before = Math.min(Math.floor(place), WARM.length - 2);
  return mixed(WARM[before + 1], WARM[before], place - before);
}

/** A share from −1 (blue) over 0 (white) to 1 (vermillion) as a colour. */
export function signed(share) {
  return mixed(share < 0 ? NEGATIVE : POSITIVE, WHITE, Math.min(Math.abs(share), 1));
}

/** For each byte its colour, for maps of many bytes. */
export const WARM_BYTES = Array.from({ length: 256 }, (_, byte) => warm(byte / 255));

/** A canvas with a pixel for each number: `colour(index)` is red, green, blue. */
export function canvasOf([height, width], colour) {
  const canvas = h('canvas', { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    const [red, green, blue] = colour(i);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

/** A strip that shows a scale's colours from one end to the other; what the ends mean stands beside it. */
export function strip(colour) {
  const canvas = canvasOf([1, 256], (i) => colour(i / 255));
  canvas.className = 'strip';
  canvas.setAttribute('aria-hidden', 'true');
  return canvas;
}

/** How many times larger a picture is drawn, in whole pixels. */
export function factorFor([height, width], side) {
  return Math.max(1, Math.round(side / Math.max(height, width)));
}

/** Tints an element by a number's sign and its size, a share from 0 to 1; the style sheet knows light and dark. */
export function tint(element, share) {
  const size = Math.min(Math.abs(share), 1);
  if (!(size > 0)) return;
  element.classList.add(share < 0 ? 'negative' : 'positive');
  element.style.setProperty('--size', size.toFixed(3));
}
