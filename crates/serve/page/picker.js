// Ways to bring a picture from outside: choosing a file, dropping it anywhere on the page, pasting it.

import { h } from './dom.js';
import { say } from './i18n.js';
import { take } from './picture.js';

let count = 0;

/** A field for a file, which also says what else can be done. */
export function picker() {
  count += 1;
  const id = `file-${count}`;
  const input = h('input', {
    id, type: 'file', accept: 'image/*', class: 'hidden-control',
    change: () => {
      takeFirst(input.files);
      // Else the same file could not be chosen again.
      input.value = '';
    },
  });
  const words = [h('strong', {}, say('picture.choose')), h('span', { class: 'note' }, say('picture.orDrop'))];
  return h('label', { class: 'drop', for: id }, input, words);
}

/** Lets pictures be dropped and pasted wherever the page is. */
export function listenEverywhere() {
  const mark = (isOver) => document.documentElement.toggleAttribute('data-over', isOver);
  document.addEventListener('dragover', (event) => {
    if (!event.dataTransfer.types.includes('Files')) return;
    // Without this the browser would leave the page and show the picture instead.
    event.preventDefault();
    mark(true);
  });
  document.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener('drop', (event) => {
    if (!event.dataTransfer.types.includes('Files')) return;
    event.preventDefault();
    mark(false);
    takeFirst(event.dataTransfer.files);
  });
  document.addEventListener('paste', (event) => takeFirst(event.clipboardData.files));
}

function takeFirst(files) {
  const [file] = files;
  if (file) take(file, file.name);
}
