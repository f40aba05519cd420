// Pieces that the chat page is made of: elements, avatars, icons, times, and notes that go away by themselves.

const HUES = 12;
const TOAST_MS = 6_000;
const TOASTS_MAX = 3;
const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  more: "M5 12h.01M12 12h.01M19 12h.01",
  file: "M13 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V9zM13 3v6h6",
  image: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM4 16l5-5 4 4 3-3 4 4M15.5 8.5h.01",
  audio: "M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0a2.5 2.5 0 0 1 5 0M19 16a2.5 2.5 0 1 1-5 0a2.5 2.5 0 0 1 5 0",
  video: "M4 6h11a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zM16 11l5-3v8l-5-3",
  pin: "M12 17v5M8 3h8l-1 6 3 4H6l3-4z",
  mute: "M13.7 21a2 2 0 0 1-3.4 0M18 13V9a6 6 0 0 0-9.5-4.9M6.3 6.3A6 6 0 0 0 6 9c0 6-3 7-3 7h13M3 3l18 18",
  group: "M9 11a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7M3 20a6 6 0 0 1 12 0M16 4.3a3.5 3.5 0 0 1 0 6.4M17.5 14.3A6 6 0 0 1 21 20",
};

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const fullDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

export const $ = (id) => document.getElementById(id);

/** An element with text and children; text never becomes markup. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A button that calls `run`; `attributes` as `aria-label`. */
export function button(className, text, run, attributes = {}) {
  const made = element("button", className, text);
  made.type = "button";
  made.onclick = run; // not a listener: a button that is drawn anew in place gets the new one (redraw.js)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A circle with the letters of a name, in the name's colour. `user`: who has a presence dot on it, if anybody. */
export function avatar(name, { user = null, isRoom = false, isGroup = false } = {}) {
  const made = element("span", `avatar ${hueOf(name)}`);
  made.setAttribute("aria-hidden", "true");
  if (isGroup) made.append(icon("group"));
  else made.append(isRoom ? "#" : initials(name));
  if (isGroup || isRoom) made.classList.add("square");
  if (user !== null) made.dataset.user = user;
  return made;
}

/** One of the sender colours: the same for a name in every browser. */
export function hueOf(name) {
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return `hue-${((hash ^ (hash >>> 13)) >>> 0) % HUES}`;
}

/** One or two letters for an avatar. */
export function initials(name) {
  const words = name.split(/[\s._~-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0] ?? "?"];
  return letters.map((word) => [...word][0].toUpperCase()).join("");
}

export function clockTime(at) {
  return clock.format(at);
}

/** As short as it is clear: 14:05, Tue, 3 Mar. */
export function listTime(at) {
  const days = daysAgo(at);
  if (days <= 0) return clock.format(at);
  return days < 7 ? weekday.format(at) : shortDay.format(at);
}

export function dayName(at) {
  const days = daysAgo(at);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : fullDay.format(at);
}

function daysAgo(at) {
  return Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
}

/** "1 member", "5 members" */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

/** Copies a text, or shows it where the browser does not let the page copy. */
export async function copy(text, said) {
  const isCopied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  toast(isCopied ? said : text);
}

export function toast(text) {
  const toasts = $("toasts");
  const note = element("p", "toast", text);
  toasts.append(note);
  if (toasts.childElementCount > TOASTS_MAX) toasts.firstElementChild.remove();
  setTimeout(() => note.remove(), TOAST_MS);
}

/** Moves the focus through the children of `list` that match `selector`, by the arrow keys, Home and End. */
export function arrowKeys(list, selector) {
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (!step || event.target.matches("input, textarea, select")) return;
    const all = [...list.querySelectorAll(selector)].filter((one) => one.offsetParent !== null);
    const at = all.indexOf(event.target.closest(selector));
    const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}
