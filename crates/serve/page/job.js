// Work that takes time: shows that it runs, and says where it failed.

import { fill, h } from './dom.js';
import { ServerError, isChanged, reload } from './api.js';
import { model } from './state.js';
import { say } from './i18n.js';

/** A place in which errors are said, also aloud. */
export function alertBox() {
  const node = h('div', { class: 'alert', role: 'alert' });
  const clear = () => fill(node);
  const show = (error) => {
    // What the server says is meant for people. All else is a mistake of this page, which its developers need to see.
    if (!(error instanceof ServerError)) console.error(error);
    fill(node, h('p', {}, error instanceof ServerError ? wordsOf(error) : say('error.page', { reason: String(error) })));
  };
  return { node, clear, show };
}

/** What is wrong, by its kind in the page's language; the server says the rest in English. */
const KINDS = { 503: 'error.busy', 408: 'error.busy', 413: 'error.large' };
function wordsOf({ said, status }) {
  return typeof said === 'string' ? say(KINDS[status] ?? 'error.said', { text: said }) : said;
}

/** The button that loads a model's changed files; `done` is told when they answer. */
export function reloadButton(name, alert, done) {
  const load = async () => {
    try {
      await reload(name);
      done();
    } catch (error) {
      alert.show(error);
    }
  };
  alert.show(new ServerError(say('error.changed')));
  alert.node.append(h('button', { type: 'button', click: load }, say('error.reload')));
}

/** Work of which only the newest counts: a new run ends the one before. */
export class Job {
  #region;
  #alert;
  #failed;
  #controller = null;

  /** `region` is what is busy meanwhile; `failed` is told when it shows nothing that is true any more. */
  constructor(region, alert, failed = () => {}) {
    this.#region = region;
    this.#alert = alert;
    this.#failed = failed;
  }

  get isRunning() {
    return this.#region.hasAttribute('aria-busy');
  }

  cancel() {
    this.#controller?.abort();
    this.#controller = null;
    this.#region.removeAttribute('aria-busy');
    this.#alert.clear();
  }

  /** Where the model's files have changed, the task is done once they have been loaded again. */
  #tell(error, task) {
    if (isChanged(error) && model.value) reloadButton(model.value.name, this.#alert, () => this.run(task));
    else this.#alert.show(error);
  }

  /** Whether the task has ended well. */
  async run(task) {
    this.cancel();
    const controller = new AbortController();
    this.#controller = controller;
    this.#region.setAttribute('aria-busy', 'true');
    try {
      await task(controller.signal);
      return !controller.signal.aborted;
    } catch (error) {
      if (!controller.signal.aborted) {
        this.#failed();
        this.#tell(error, task);
      }
      return false;
    } finally {
      if (this.#controller === controller) this.#region.removeAttribute('aria-busy');
    }
  }
}
