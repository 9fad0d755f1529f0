// Numbers as people read them.

const MINUS = '\u2212';
const NOTHING = '\u2013';
const GROUPED = new Intl.NumberFormat('en');

/** So many digits after the point. What rounds to zero has no sign; what is not a number is a dash. */
export function fixed(value, digits) {
  if (typeof value !== 'number' || Number.isNaN(value)) return NOTHING;
  if (!Number.isFinite(value)) return value > 0 ? '∞' : `${MINUS}∞`;
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace('-', '') : text.replace('-', MINUS);
}

/** Digits after the point that give the largest of some numbers so many figures. */
export function digitsFor(values, figures = 3) {
  const largest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
  if (largest === 0) return 1;
  return Math.min(Math.max(figures - 1 - Math.floor(Math.log10(largest)), 0), 8);
}

/** A number by itself, with so many figures. */
export function short(value, figures = 3) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  const isExtreme = Number.isFinite(size) && size !== 0 && (size >= 1e6 || size < 1e-4);
  return isExtreme ? value.toExponential(figures - 1).replace(/\.?0*e\+?/, 'e').replaceAll('-', MINUS) : fixed(value, digitsFor([value], figures));
}

export const thousands = (value) => GROUPED.format(value);

export const percent = (share, digits = 1) => (typeof share === 'number' ? `${fixed(100 * share, digits)}\u00a0%` : NOTHING);

/** Seconds, in the unit in which they have few digits. */
export function duration(seconds) {
  if (typeof seconds !== 'number') return NOTHING;
  if (seconds < 1) return `${fixed(1e3 * seconds, seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)}\u00a0ms`;
  if (seconds < 60) return `${fixed(seconds, seconds < 10 ? 2 : 1)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  return `${thousands(minutes)}\u00a0min ${Math.floor(seconds - 60 * minutes)}\u00a0s`;
}

/** Sizes as `32×28×28`. */
export const product = (sizes) => sizes.join('×');

/** The least and the largest of some numbers. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
