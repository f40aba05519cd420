// The message list of a room: what the topic holds in its order, below it what this device has not delivered yet.
//
// Text of users only ever becomes a text node or the address of a checked http(s) link.

/** Nodes kept in the page; older ones leave from the top while the reader is at the bottom. */
const MESSAGES_MAX = 2_000;
/** Messages of one sender closer than this share one name and one avatar. */
const GROUP_MS = 5 * 60_000;
/** So close to the end counts as reading the newest. */
const BOTTOM_PX = 60;
const HUES = 12;
const LINK = /https?:\/\/[^\s<>"']+/gi;
const TICKS = { pending: "Waiting to be sent", sent: "Delivered", failed: "Not delivered" };

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

export class Timeline {
  #me;
  #parts;
  #rows = new Map(); // offset -> row of this epoch, own ones only: those that a pub_ok may name
  #waiting = new Map(); // outbox entry -> its row
  #lastDay = "";
  #isAtBottom = true;
  #scrollTop = 0;
  #unseen = 0;
  #frame = 0;

  /** `parts`: {scroller, messages, pending, template, jump, jumpText, onRead}. */
  constructor(parts, me) {
    this.#parts = parts;
    this.#me = me;
    const { scroller, jump } = parts;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toBottom(true));
    new ResizeObserver(() => this.#isAtBottom && this.toBottom()).observe(scroller);
  }

  set me(user) {
    this.#me = user;
  }

  get isAtBottom() {
    return this.#isAtBottom;
  }

  clear() {
    const { messages, pending } = this.#parts;
    messages.replaceChildren();
    pending.replaceChildren();
    this.#rows.clear();
    this.#waiting.clear();
    this.#lastDay = "";
    this.toBottom();
  }

  /** A message of the topic, in the topic's order. */
  add({ epoch, offset, from, at_ms: at, body }) {
    const { messages } = this.#parts;
    this.#separateDays(at);
    const isOwn = from === this.#me;
    const entry = isOwn && this.#match(epoch, offset, body.text);
    const row = entry ? this.#waiting.get(entry) : this.#row(from, body.text, isOwn);
    if (entry) this.#waiting.delete(entry);
    if (isOwn) this.#rows.set(offset, row);
    row.dataset.offset = offset;
    setTime(row, at);
    setTick(row, isOwn ? "sent" : "");
    this.#group(row, messages.lastElementChild);
    messages.append(row);
    this.#group(this.#parts.pending.firstElementChild, row);
    if (!isOwn && !this.#isAtBottom) this.#unseen += 1;
    this.#settle();
  }

  /** An entry of the outbox: shown at the end until the topic has it. */
  queue(entry) {
    const row = this.#row(this.#me, entry.body.text, true);
    setTime(row, entry.at);
    setTick(row, "pending");
    this.#waiting.set(entry, row);
    const { messages, pending } = this.#parts;
    this.#group(row, pending.lastElementChild ?? messages.lastElementChild);
    pending.append(row);
    this.toBottom();
  }

  /** The server has given `entry` its place. Its row goes there when the message itself comes, or is there already. */
  sent(entry, offset, level) {
    const waiting = this.#waiting.get(entry);
    const row = this.#rows.get(offset) ?? waiting;
    if (!row) return;
    entry.offset = offset;
    setTick(row, "sent", level);
    if (waiting && row !== waiting) {
      waiting.remove();
      this.#waiting.delete(entry);
    }
  }

  refused(entry) {
    const row = this.#waiting.get(entry);
    if (!row) return;
    setTick(row, "failed");
    this.#waiting.delete(entry);
    this.#parts.messages.append(row); // it has no place in the topic: it stays where it was tried
    this.#settle();
  }

  /** A line about the list itself. */
  notice(text, kind = "notice") {
    const line = document.createElement("li");
    line.className = kind;
    line.append(Object.assign(document.createElement("span"), { textContent: text }));
    this.#parts.messages.append(line);
    this.#settle();
    return line;
  }

  /** The topic begins a new history: its offsets no longer mean the rows that are shown. */
  restart() {
    this.#rows.clear();
    if (this.#parts.messages.childElementCount) this.notice("The server started a new history. What is above is only on this screen.");
  }

  toBottom(isSmooth = false) {
    this.#isAtBottom = true;
    this.#unseen = 0;
    const { scroller } = this.#parts;
    const behavior = isSmooth && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "instant";
    scroller.scrollTo({ top: scroller.scrollHeight, behavior });
    this.#showJump();
  }

  /** Whose pending row is this own message? The one that got the offset, else the oldest with that text that can be it. */
  #match(epoch, offset, text) {
    const entries = [...this.#waiting.keys()];
    const isPossible = (entry) => entry.body.text === text && (entry.epoch !== epoch || entry.after < offset);
    return entries.find((entry) => entry.offset === offset) ?? entries.find((entry) => !entry.offset && isPossible(entry));
  }

  #row(from, text, isOwn) {
    const row = this.#parts.template.content.firstElementChild.cloneNode(true);
    row.classList.add(hueOf(from));
    row.classList.toggle("own", isOwn);
    row.dataset.from = from;
    row.querySelector(".avatar").textContent = initials(from);
    row.querySelector(".from").textContent = from;
    row.querySelector(".text").append(...linked(String(text)));
    return row;
  }

  #group(row, before) {
    if (!row) return;
    const isSame = before?.classList.contains("message") && before.dataset.from === row.dataset.from;
    row.classList.toggle("follows", Boolean(isSame) && Math.abs(row.dataset.at - before.dataset.at) < GROUP_MS);
  }

  #separateDays(at) {
    const day = new Date(at).toDateString();
    if (day === this.#lastDay) return;
    this.#lastDay = day;
    this.notice(dayName(at), "day");
  }

  #settle() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#isAtBottom) {
        this.#trim();
        this.toBottom();
      } else this.#showJump();
    });
  }

  #trim() {
    const { messages } = this.#parts;
    while (messages.childElementCount > MESSAGES_MAX) {
      this.#rows.delete(Number(messages.firstElementChild.dataset.offset));
      messages.firstElementChild.remove();
    }
  }

  #scrolled() {
    const { scroller, onRead } = this.#parts;
    const wasAtBottom = this.#isAtBottom;
    const isUp = scroller.scrollTop < this.#scrollTop; // growing at the end also leaves the bottom, but nobody meant it
    this.#scrollTop = scroller.scrollTop;
    const isNear = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < BOTTOM_PX;
    this.#isAtBottom = isNear || (wasAtBottom && !isUp);
    if (this.#isAtBottom) this.#unseen = 0;
    if (wasAtBottom !== this.#isAtBottom) this.#showJump();
    if (this.#isAtBottom) onRead();
  }

  #showJump() {
    const { jump, jumpText } = this.#parts;
    const count = this.#unseen;
    jump.hidden = this.#isAtBottom;
    jumpText.textContent = count ? `${count} new ${count === 1 ? "message" : "messages"}` : "Newest";
    jump.classList.toggle("news", count > 0);
  }
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

function setTime(row, at) {
  const time = row.querySelector("time");
  const date = new Date(at);
  row.dataset.at = at;
  time.dateTime = date.toISOString();
  time.textContent = clock.format(date);
  time.title = date.toLocaleString();
}

function setTick(row, state, level) {
  const tick = row.querySelector(".tick");
  row.dataset.state = state;
  tick.toggleAttribute("hidden", !state);
  if (!state) return;
  const label = level === "durable" ? "Delivered and stored" : TICKS[state];
  tick.setAttribute("aria-label", label);
  tick.setAttribute("title", label);
}

function dayName(at) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : fullDay.format(at);
}

function linked(text) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = found.replace(/[.,;:!?)\]}]+$/, "");
    if (!URL.canParse(address)) continue;
    const link = document.createElement("a");
    Object.assign(link, { href: address, textContent: address, target: "_blank", rel: "noopener noreferrer nofollow" });
    nodes.push(text.slice(end, index), link);
    end = index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
