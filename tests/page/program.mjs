// The program under test: trainings and servers as processes, each ended with the test.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawn } from 'node:child_process';

const running = new Set();

/** Starts the program; `output()` is what it has written so far, on either stream. */
function start(program, words) {
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  running.add(child);
  child.once('exit', () => running.delete(child));
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (more) => { text += more; });
  return { child, output: () => text };
}

/** Runs it to its end and gives what it has written. */
export async function run(program, words) {
  const { child, output } = start(program, words);
  const [code] = await once(child, 'exit');
  assert.equal(code, 0, `convnet ${words.join(' ')}\n${output()}`);
  return output();
}

/** A training that goes on beside the test; `ended` is kept when it has ended well. */
export function train(program, words) {
  const { child, output } = start(program, ['train', ...words]);
  return { ended: once(child, 'exit').then(([code]) => assert.equal(code, 0, output())) };
}

/** A server on a free port, or on that one, by `convnet serve` or `convnet studio`. */
export async function serve(program, words, port = '0') {
  const { child, output } = start(program, [...words, '--port', port, '--drain-grace', '0']);
  const address = await until('the server says its address', () => {
    assert.equal(child.exitCode, null, `convnet ${words.join(' ')} has ended\n${output()}`);
    return /http:\/\/127\.0\.0\.1:\d+/.exec(output())?.[0];
  });
  const end = (signal) => async () => {
    child.kill(signal);
    await once(child, 'exit');
  };
  return { address, stop: end('SIGINT'), kill: end('SIGKILL') };
}

/** Waits until something is true, half a minute at most. */
export async function until(what, get, seconds = 30) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const found = await get();
    if (found) return found;
    assert.ok(Date.now() < end, `waited ${seconds} s until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Ends what still runs. */
export function endAll() {
  for (const child of running) child.kill('SIGKILL');
}
