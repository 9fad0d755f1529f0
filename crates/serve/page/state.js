// What the tabs share: the model and the picture. A tab watches what it shows; none of them calls another.

/** A value that others are told of when it changes. */
export class Shared {
  #value;
  #watchers = [];

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    this.#value = value;
    for (const watcher of this.#watchers) watcher(value);
  }

  watch(watcher) {
    this.#watchers.push(watcher);
  }
}

/** What the server says of the chosen model, or null before it has said it. */
export const model = new Shared(null);

/** The picture that is looked at: `{ blob, name, address }`, or null. */
export const picture = new Shared(null);

/** The version of the model that has explained last. */
export const version = new Shared(0);
