// Many controls as one stop of the Tab key, among which the arrow keys move (the ARIA practices' "roving tabindex"): a
// network has hundreds of layers and a layer has thousands of maps.

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** How far a key moves in rows and columns, or undefined. */
export const arrow = (event) => (event.ctrlKey || event.metaKey || event.altKey ? undefined : STEPS[event.key]);

/** `items()` are the controls in a container, in order; `columns()` how many stand in a row. */
export function roving(container, items, columns = () => 1) {
  const enter = (item) => items().forEach((other) => other.setAttribute('tabindex', other === item ? '0' : '-1'));
  container.addEventListener('focusin', ({ target }) => {
    const item = items().find((candidate) => candidate.contains(target));
    if (item) enter(item);
  });
  container.addEventListener('keydown', (event) => {
    const all = items();
    const place = all.indexOf(document.activeElement);
    const step = arrow(event);
    const ends = { Home: 0, End: all.length - 1 };
    if (place < 0 || (!step && !(event.key in ends))) return;
    const wanted = step ? place + step[0] * columns() + step[1] : ends[event.key];
    event.preventDefault();
    all[wanted]?.focus();
  });
  return { enter };
}

/** How many of some elements stand in the first row. */
export function inARow(elements) {
  const below = elements.findIndex((element) => element.offsetTop > elements[0].offsetTop);
  return below < 0 ? Math.max(elements.length, 1) : below;
}

/** Scrolls a frame, never the page, until something in it can be seen; `head` pixels at its top are covered. */
export function reveal(frame, item, head = 0) {
  const [outer, inner] = [frame.getBoundingClientRect(), item.getBoundingClientRect()];
  const missing = (first, last, from, to) => (from < first ? from - first : Math.max(Math.min(to - last, from - first), 0));
  frame.scrollTop += missing(outer.top + head, outer.bottom, inner.top, inner.bottom);
  frame.scrollLeft += missing(outer.left, outer.right, inner.left, inner.right);
}
