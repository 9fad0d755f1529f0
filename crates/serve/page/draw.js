// A pad to draw on, for networks that read grey pictures: white strokes on black, as MNIST has its digits. Strokes are
// kept as points, so that they can be drawn again at any size with a pen of the same width.

import { h } from './dom.js';
import { say } from './i18n.js';

/** Pixels of the pad for each pixel of the network's picture, at least so many in all. */
const PAD = 280;
/** Width of the pen, as a share of the picture's shorter side: 2.4 pixels of MNIST's 28. */
const PEN = 0.085;
/** MNIST's digits fill 20 of 28 pixels. */
const FILLED = 20 / 28;
/** Each pixel is the mean of so many by so many. */
const FINE = 8;

/** `onPicture(blob)` gets a PNG of exactly the network's size after each stroke, and null when the pad is wiped. */
export function drawingPad([height, width], onPicture) {
  const scale = Math.ceil(PAD / Math.min(height, width));
  const canvas = h('canvas', {
    class: 'pad', width: width * scale, height: height * scale, role: 'img', 'aria-label': say('draw.label'),
  });
  const centre = h('input', { type: 'checkbox', id: 'draw-centre', checked: true, change: () => finish() });
  const strokes = [];
  const repaint = () => paint(canvas, strokes, (point) => point, PEN * Math.min(canvas.width, canvas.height));
  // Making a picture takes a moment, in which the pad may be wiped or drawn on again.
  let turn = 0;
  const finish = async () => {
    if (strokes.length === 0) return;
    turn += 1;
    const own = turn;
    const drawn = await toPicture(strokes, canvas, [height, width], centre.checked);
    if (own === turn) onPicture(drawn);
  };
  listen(canvas, strokes, repaint, finish);
  const clear = () => {
    turn += 1;
    strokes.length = 0;
    repaint();
    onPicture(null);
  };
  repaint();
  const controls = [
    h('button', { type: 'button', click: clear }, say('draw.clear')),
    h('span', { class: 'check' }, centre, h('label', { for: 'draw-centre' }, say('draw.centre'))),
  ];
  return h('div', { class: 'draw' }, canvas, h('div', { class: 'row' }, controls));
}

/** Adds strokes as the pointer draws them. */
function listen(canvas, strokes, repaint, finish) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  let isDown = false;
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    isDown = true;
    canvas.setPointerCapture(event.pointerId);
    strokes.push([place(event)]);
    repaint();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!isDown) return;
    // A fast hand is followed more closely than once a frame.
    strokes.at(-1).push(...(event.getCoalescedEvents?.() ?? [event]).map(place), place(event));
    repaint();
  });
  const lift = () => {
    if (isDown) finish();
    isDown = false;
  };
  canvas.addEventListener('pointerup', lift);
  canvas.addEventListener('pointercancel', lift);
}

/** White strokes on black, their points moved by `transform`. */
function paint(canvas, strokes, transform, pen) {
  const context = canvas.getContext('2d');
  context.fillStyle = '#000';
  context.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(context, { strokeStyle: '#fff', lineWidth: pen, lineCap: 'round', lineJoin: 'round' });
  for (const stroke of strokes) {
    context.beginPath();
    stroke.map(transform).forEach(([x, y], i) => (i === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
    // A point alone is a dot.
    if (stroke.length === 1) context.lineTo(...transform(stroke[0]));
    context.stroke();
  }
}

/** The strokes as a PNG of the network's size. */
function toPicture(strokes, { width: padWidth, height: padHeight }, [height, width], isCentred) {
  const fine = h('canvas', { width: width * FINE, height: height * FINE });
  const pen = PEN * Math.min(fine.width, fine.height);
  const fit = (point) => [(point[0] / padWidth) * fine.width, (point[1] / padHeight) * fine.height];
  const move = isCentred ? centring(strokes.flat().map(fit), [fine.width, fine.height], pen) : (point) => point;
  paint(fine, strokes, (point) => move(fit(point)), pen);
  const small = shrunk(fine, [height, width]);
  return new Promise((resolve) => small.toBlob(resolve, 'image/png'));
}

/** Moves and scales points so that their box, with the pen around it, fills the middle as MNIST's digits do. */
function centring(points, [width, height], pen) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = FILLED * Math.min(width, height) - pen;
  const scale = room / Math.max(right - left, bottom - top, room / 4);
  return ([x, y]) => [width / 2 + (x - (left + right) / 2) * scale, height / 2 + (y - (top + bottom) / 2) * scale];
}

/** Each pixel as the mean of those that it stands for. The browser's own way to shrink leaves some of them out. */
function shrunk(canvas, [height, width]) {
  const fine = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const small = h('canvas', { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    const [top, left] = [Math.floor(i / width) * FINE, (i % width) * FINE];
    let sum = 0;
    for (let y = top; y < top + FINE; y += 1) {
      for (let x = left; x < left + FINE; x += 1) sum += fine[4 * (y * canvas.width + x)];
    }
    const grey = Math.round(sum / (FINE * FINE));
    image.data.set([grey, grey, grey, 255], 4 * i);
  }
  small.getContext('2d').putImageData(image, 0, 0);
  return small;
}
