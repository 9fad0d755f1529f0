// Work that takes time: shows that it runs, and says where it failed.

import { fill, h } from './dom.js';
import { ServerError } from './api.js';
import { say } from './i18n.js';

/** A place in which errors are said, also aloud. */
export function alertBox() {
  const node = h('div', { class: 'alert', role: 'alert' });
  const clear = () => fill(node);
  const show = (error) => {
    // What the server says is meant for people. All else is a mistake of this page, which its developers need to see.
    if (!(error instanceof ServerError)) console.error(error);
    fill(node, h('p', {}, error instanceof ServerError ? error.said : say('error.page', { reason: String(error) })));
  };
  return { node, clear, show };
}

/** Work of which only the newest counts: a new run ends the one before. */
export class Job {
  #region;
  #alert;
  #controller = null;

  /** `region` is what is busy meanwhile. */
  constructor(region, alert) {
    this.#region = region;
    this.#alert = alert;
  }

  cancel() {
    this.#controller?.abort();
    this.#controller = null;
    this.#region.removeAttribute('aria-busy');
    this.#alert.clear();
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
      if (!controller.signal.aborted) this.#alert.show(error);
      return false;
    } finally {
      if (this.#controller === controller) this.#region.removeAttribute('aria-busy');
    }
  }
}
