// The picture that all tabs look at, and what the network sees of it.

import { bytes, preprocess } from './api.js';
import { canvasOf } from './colours.js';
import { model, picture } from './state.js';

/** For each picture, by model, its pixels as the network sees them, and what was done to it. */
const PREPARED = new WeakMap();

/** Takes a picture in place of the one before. */
export function take(blob, name) {
  const before = picture.value;
  picture.value = { blob, name, address: URL.createObjectURL(blob) };
  if (before) URL.revokeObjectURL(before.address);
}

/**
 * The present picture as the network sees it, before its normalisation: `{ canvas, source, resize, interpolation }`. The canvas
 * has a pixel for each of its pixels; `resize` is what its shorter side was resized to, null where it was taken as it is.
 */
export async function prepared(signal) {
  const [seen, name] = [picture.value, model.value.name];
  const known = PREPARED.get(seen) ?? new Map();
  PREPARED.set(seen, known);
  if (!known.has(name)) {
    const { size, rgb, ...facts } = await preprocess(name, seen.blob, {}, signal);
    const pixels = bytes(rgb);
    known.set(name, { canvas: canvasOf(size, (i) => pixels.subarray(3 * i, 3 * i + 3)), ...facts });
  }
  return known.get(name);
}

/** A canvas drawn larger, in whole pixels where it is small, so that its pixels can be counted. */
export function enlarged(canvas, factor) {
  const large = document.createElement('canvas');
  large.width = canvas.width * factor;
  large.height = canvas.height * factor;
  const context = large.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  return large;
}
