// Reads the arithmetic that the page shows, and does the sums again.

import assert from 'node:assert/strict';

const sum = (numbers) => numbers.reduce((whole, number) => whole + number, 0);

/** Equal up to 1e-4 of the size of what was added up. */
export function near(found, expected, size, what) {
  const room = 1e-4 * Math.max(Math.abs(expected), size);
  assert.ok(Math.abs(found - expected) <= room, `${what}: ${found} is not ${expected} within ${room}`);
}

/** Every number of the arithmetic, as the page holds it and as it is read. */
export const shown = (page) => page.locator('.unit').evaluate((unit) => {
  // A number on padding is none.
  const numbers = (root, selector) => [...root.querySelectorAll(selector)].map(({ dataset: { value } }) => (value === undefined ? null : Number(value)));
  return {
    cells: [...unit.querySelectorAll('[data-value]')].map((element) => ({ text: element.textContent, value: Number(element.dataset.value) })),
    groups: [...unit.querySelectorAll('.group')].map((group) => ({
      tables: [...group.querySelectorAll('.matrix')].map((table) => numbers(table, 'td')),
      result: numbers(group, '.sum')[0],
    })),
    terms: [...unit.querySelectorAll('.terms tbody tr')].map((row) => numbers(row, 'td')),
    rest: numbers(unit, '.rest-sum')[0] ?? 0,
    total: numbers(unit, '.total .sum-of-all dd')[0],
    constants: Object.fromEntries([...unit.querySelectorAll('.total .constant')].map((line) =>
      [line.querySelector('dt').textContent, Number(line.querySelector('dd').dataset.value)])),
    result: numbers(unit, '.total .result dd')[0],
    engine: numbers(unit, '.total .engine dd')[0],
  };
});

/** What is read is what is held, rounded to the digits that are shown. */
export function checkRounding({ cells }) {
  assert.ok(cells.length > 3);
  for (const { text, value } of cells) {
    const read = Number(text.replaceAll('\u2212', '-'));
    const [, digits = '', power = '0'] = /^-?\d+(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(text.replaceAll('\u2212', '-')) ?? [];
    const half = 0.500001 * 10 ** (Number(power) - digits.length);
    assert.ok(Math.abs(read - value) <= half, `${text} is not ${value} rounded`);
  }
}

/** A convolution by windows: values · kernel = products, products add up to the group's sum, sums and bias to the result. */
export function checkWindows(unit, { isWhole }) {
  const { groups, rest, total, constants, result, engine } = unit;
  let size = 0;
  for (const { tables: [values, weights, products], result: found } of groups) {
    assert.equal(values.length, weights.length);
    const expected = values.map((value, i) => (value ?? 0) * weights[i]);
    const reach = sum(expected.map(Math.abs));
    products.forEach((number, i) => near(number ?? 0, expected[i], reach, 'product'));
    near(found, sum(expected), reach, 'sum of a channel');
    size += reach;
  }
  if (isWhole) assert.equal(rest, 0);
  near(sum(groups.map((group) => group.result)) + rest, total, size, 'sum of the channels');
  near(total + (constants.bias ?? 0), result, size, 'sums and bias');
  near(engine, result, size, "the engine's value");
}

/** A list of terms: value · weight = product; products and bias add up to the result. */
export function checkTerms({ terms, rest, total, constants, result, engine }) {
  const size = sum(terms.map(([, , product]) => Math.abs(product)));
  for (const [value, weight, product] of terms) near(product, value * weight, size, 'product');
  near(sum(terms.map(([, , product]) => product)) + rest, total, size, 'sum of the terms');
  near(total + (constants.bias ?? 0), result, size, 'sum and bias');
  near(engine, result, size, "the engine's value");
}

/** A pooling: the largest number of the window. */
export function checkMaximum({ groups: [{ tables: [values], result: largest }], result, engine }) {
  assert.ok(largest !== 0, 'a window of zeros shows nothing');
  assert.equal(largest, Math.max(...values));
  near(largest, result, Math.abs(result), 'largest');
  near(engine, result, Math.abs(result), "the engine's value");
}
