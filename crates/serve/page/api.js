// The server's interface. Addresses are relative to the page, so that it also works behind a prefix of a proxy.

import { say } from './i18n.js';

const KEY = 'convnet.token';
/** How often a server that is busy is asked again, and for how long at most it is left alone before. */
const TRIES = 5;
const LONGEST_PAUSE = 5;

/** What the server refuses, or that there is none (then it has no status); `said` is for people. */
export class ServerError extends Error {
  constructor(said, status) {
    super(String(said));
    this.said = said;
    this.status = status;
  }
}

let askForToken = async () => null;
let asking = null;

/** `ask(wasRefused)` gives a token, or null when nobody wants to give one. */
export function whenTokenIsWanted(ask) {
  askForToken = ask;
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;

/** The status of a model whose files have changed since it was loaded. */
const CHANGED = 409;
export const isChanged = (error) => error instanceof ServerError && error.status === CHANGED;

async function send(path, { method = 'GET', body, signal } = {}) {
  for (let tries = 1; ; tries += 1) {
    const token = sessionStorage.getItem(KEY);
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    if (body && !body.type.startsWith('image/')) headers['Content-Type'] = 'application/octet-stream';
    const response = await fetch(path, { method, body, headers, signal, cache: 'no-store' }).catch((error) => {
      throw error.name === 'AbortError' ? error : new ServerError(say('error.unreachable'));
    });
    if (response.ok) return response;
    const after = Number(response.headers.get('Retry-After'));
    if (response.status === 401) await renewToken(token);
    else if (response.status === 503 && after > 0 && tries < TRIES) await pause(Math.min(after, LONGEST_PAUSE), signal);
    else throw new ServerError(await reason(response), response.status);
  }
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener('abort', () => reject(signal.reason));
  });
}

/** What an answer says of its failure: `{"error": …}`, or else its status. */
async function reason(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text || say('error.status', { status: response.status });
  }
}

/** Several requests may be refused at once; they wait for one answer. */
async function renewToken(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return;
  asking ??= askForToken(refused !== null).finally(() => {
    asking = null;
  });
  const token = await asking;
  if (token === null) throw new ServerError(say('error.token'), 401);
  sessionStorage.setItem(KEY, token);
}

const json = async (path, options) => (await send(path, options)).json();
const text = async (path, options) => (await send(path, options)).text();

function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
}

const modelPath = (name, rest = '') => `v1/models/${encodeURIComponent(name)}${rest}`;
const runPath = (name, rest = '') => `v1/runs/${encodeURIComponent(name)}${rest}`;

/** Sends a picture to a model's endpoint. */
const ask = (endpoint) => (name, blob, parameters, signal) =>
  json(modelPath(name, `/${endpoint}${query(parameters)}`), { method: 'POST', body: blob, signal });

export const listModels = async () => (await json('v1/models')).models;
export const getModel = (name, signal) => json(modelPath(name), { signal });
export const getGraph = (name, signal) => text(modelPath(name, '/graph.svg'), { signal });
export const predict = ask('predict');
export const explain = ask('explain');
export const preprocess = ask('preprocess');
export const features = ask('features');
export const unit = ask('unit');
export const reload = (name) => json(`v2/repository/models/${encodeURIComponent(name)}/load`, { method: 'POST' });
export const listRuns = async (signal) => (await json('v1/runs', { signal })).runs;
export const getRun = (name, signal) => json(runPath(name), { signal });
export const getReport = async (name, signal) => (await send(runPath(name, '/report'), { signal })).blob();
export const reportAddress = (name) => runPath(name, '/report');
export const getLecture = async (lang, signal) => (await json(`v1/lecture${query({ lang })}`, { signal })).rows;

/** Epochs of a run, those there are and then live, until the training ends; null before all of them come again. */
export async function* epochs(name, signal) {
  for await (const { event, data } of events(runPath(name, '/events'), signal)) {
    if (event === 'end') return;
    if (event === 'again') yield null;
    if (event === 'epoch') yield JSON.parse(data);
  }
  throw new ServerError(say('error.unreachable'));
}

/** A `text/event-stream`. The browser's own `EventSource` cannot send a token. */
async function* events(path, signal) {
  const response = await send(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (waiting + value).replaceAll('\r\n', '\n').split('\n\n');
      waiting = blocks.pop();
      yield* blocks.map(parseEvent);
    }
  } catch (error) {
    throw error.name === 'TypeError' ? new ServerError(say('error.unreachable')) : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The lines of an event, `field: value` each. */
function parseEvent(block) {
  const lines = block.split('\n').map((line) => /^(\w+): ?(.*)$/.exec(line)).filter(Boolean);
  const of = (field) => lines.filter(([, name]) => name === field).map(([, , content]) => content).join('\n');
  return { event: of('event') || 'message', data: of('data') };
}

/** Bytes that an answer holds as base64. */
export function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
