// Drawing anew in place: an element that is still meant stays, and with it the focus, the caret, what was typed, and a click
// that was pressed before and is let go after.

/** Elements that are themselves, whatever is drawn around them. */
const lasts = new WeakSet();

/** Makes an element one that is never turned into another one, nor another one into it: what is typed there is kept by it. */
export function lasting(node) {
  lasts.add(node);
  return node;
}

/**
 * Makes `fresh` the children of `root`; what is no node or text in it is left out. An element becomes the one of the same
 * tag and key (`data-key`, `-user`, `-topic` or `-act`) with its attributes, its `onclick` and its children; other listeners
 * stay those of the old one. A node that is there already is not touched.
 */
export function redraw(root, ...fresh) {
  const focused = root.contains(document.activeElement) ? document.activeElement : null;
  const around = focused ? ancestors(focused, root) : [];
  place(root, fresh.filter(Boolean));
  if (!focused || focused === document.activeElement) return;
  // What had the focus was moved, or is gone: then the nearest thing that is still there has it.
  const near = root.contains(focused) ? focused : around.find((one) => root.contains(one))?.querySelector("button, a, input, summary");
  near?.focus({ preventScroll: true });
}

function ancestors(node, root) {
  const found = [];
  for (let one = node.parentElement; one && one !== root; one = one.parentElement) found.push(one);
  return found;
}

function place(root, parts) {
  const fresh = parts.map((part) => (typeof part === "string" ? document.createTextNode(part) : part));
  const given = new Set(fresh);
  const old = [...root.childNodes].filter((node) => !given.has(node));
  const kept = fresh.map((node) => (node.parentNode === root ? node : take(old, node)));
  for (const gone of old) gone.remove();
  let at = root.firstChild;
  fresh.forEach((node, index) => {
    const one = kept[index] ?? node;
    if (one === at) at = at.nextSibling;
    else root.insertBefore(one, at);
    if (one !== node) become(one, node);
  });
}

/** Takes the one of the old nodes that a fresh one can be, if there is one. */
function take(old, fresh) {
  if (lasts.has(fresh)) return null;
  const index = old.findIndex((node) => !lasts.has(node) && node.nodeName === fresh.nodeName && keyOf(node) === keyOf(fresh));
  return index < 0 ? null : old.splice(index, 1)[0];
}

function keyOf({ dataset }) {
  return dataset?.key ?? dataset?.user ?? dataset?.topic ?? dataset?.act;
}

function become(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  old.onclick = fresh.onclick;
  place(old, [...fresh.childNodes]);
}
