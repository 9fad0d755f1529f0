// Builds elements. What comes from outside becomes text nodes and values of attributes, never markup, so nothing has to
// be escaped. A text that depends on the language is a `Message`: its node remembers it, and `retell` says it again after
// the language has changed, so that no tab has to be built anew and lose its state.

import { Message } from './i18n.js';

const SVG = 'http://www.w3.org/2000/svg';
const TEXT = Symbol('message of a text node');
const ATTRIBUTES = Symbol('messages of attributes, by name');

/** An element of HTML. A function among the attributes listens to the event of that name. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

/** Sets an attribute, or removes it where the value is none. */
export function set(element, name, value) {
  element[ATTRIBUTES]?.delete(name);
  if (typeof value === 'function') {
    element.addEventListener(name, value);
  } else if (value === undefined || value === null || value === false) {
    element.removeAttribute(name);
  } else {
    if (value instanceof Message) (element[ATTRIBUTES] ??= new Map()).set(name, value);
    element.setAttribute(name, value === true ? '' : String(value));
  }
}

/** Replaces what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * Brings what an element holds to what is given, keeping the elements that are of the same kind, so that neither the focus nor what
 * is open is lost. Listeners are kept with them: where they would be others, `data-key` differs and the element is replaced.
 */
export function refill(element, ...children) {
  merge(element, nodes(children));
}

function merge(parent, wanted) {
  const had = [...parent.childNodes];
  wanted.forEach((node, i) => {
    if (had[i] === undefined) parent.append(node);
    else if (!became(had[i], node)) had[i].replaceWith(node);
  });
  had.slice(wanted.length).forEach((node) => node.remove());
}

/** Makes a node the same as another, where it is of the same kind; whether it is. */
function became(node, wanted) {
  if (node.nodeName !== wanted.nodeName || node.dataset?.key !== wanted.dataset?.key) return false;
  node[TEXT] = wanted[TEXT];
  node[ATTRIBUTES] = wanted[ATTRIBUTES];
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return true;
  }
  for (const { name } of [...node.attributes]) if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) === value) continue;
    // The page's policy forbids the attribute, not what it stands for.
    if (name === 'style') node.style.cssText = wanted.style.cssText;
    else node.setAttribute(name, value);
  }
  merge(node, [...wanted.childNodes]);
  return true;
}

function nodes(children) {
  const given = children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
  return given.map((child) => {
    if (child instanceof Node) return child;
    const node = document.createTextNode(String(child));
    if (child instanceof Message) node[TEXT] = child;
    return node;
  });
}

/** Says every message below a node in the present language. */
export function retell(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.currentNode; node; node = walker.nextNode()) {
    if (node[TEXT]) node.data = String(node[TEXT]);
    node[ATTRIBUTES]?.forEach((message, name) => node.setAttribute(name, String(message)));
  }
}

/** A label above its control. */
export function field(label, control, ...more) {
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, more);
}

/** A table that scrolls by itself where the page is too narrow, also by keyboard. */
export function wide(label, table) {
  return h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': label }, table);
}
