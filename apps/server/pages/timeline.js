// The message list: the rows of a conversation in its order, below them what this device has not delivered yet.

import { content, isShown, summary, systemWords } from "./body.js";
import { avatar, clockTime, counted, dayName, element, hueOf } from "./dom.js";
import { redraw } from "./redraw.js";

/** Rows kept in the page; older ones leave from the top while the reader is at the bottom. */
const ROWS_MAX = 2_000;
/** Messages of one sender closer than this share one name and one avatar. */
const GROUP_MS = 5 * 60_000;
/** So close to the end counts as reading the newest. */
const BOTTOM_PX = 60;
/** So close to the top, the page before is loaded. */
const TOP_PX = 400;
const TICKS = { pending: "Waiting to be sent", sent: "Stored", delivered: "Delivered", read: "Read", failed: "Not delivered" };

export class Timeline {
  #parts;
  #thread = null;
  #rows = new Map(); // offset -> row of this history
  #own = new Map(); // offset -> own row, for ticks
  #waiting = new Map(); // outbox entry -> its row
  #lastDay = "";
  #isAtBottom = true;
  #scrollTop = 0;
  #unseen = 0;
  #frame = 0;

  /** `parts`: {scroller, messages, pending, template, jump, jumpText, onRead, onTop, onMenu}. */
  constructor(parts) {
    this.#parts = parts;
    const { scroller, jump, messages, pending } = parts;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#keyed(event));
    jump.addEventListener("click", () => this.toBottom(true));
    for (const list of [messages, pending]) list.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#isAtBottom && this.toBottom()).observe(scroller);
  }

  get isAtBottom() {
    return this.#isAtBottom;
  }

  /** Shows another conversation, without messages as yet. */
  open(thread) {
    const { messages, pending, scroller } = this.#parts;
    this.#thread = thread;
    messages.replaceChildren();
    pending.replaceChildren();
    for (const map of [this.#rows, this.#own, this.#waiting]) map.clear();
    this.#lastDay = "";
    scroller.classList.toggle("is-direct", thread.place?.kind === "direct");
    this.toBottom();
  }

  /** The newest page of the conversation. */
  show(rows) {
    const { readBefore } = this.#thread;
    const isNews = (message) => readBefore !== null && message.offset > readBefore && !this.#thread.isOwn(message);
    const news = readBefore === 0 ? null : rows.find(isNews);
    for (const message of rows) {
      if (message === news) this.notice("New", "news");
      this.#append(message, false);
    }
    this.toBottom();
  }

  /** A page of older messages: the reader goes on seeing what was seen before. */
  older(rows, end) {
    const { messages, scroller } = this.#parts;
    const below = scroller.scrollHeight - scroller.scrollTop;
    const made = document.createDocumentFragment();
    if (end) made.append(line(end, "notice"));
    let day = "";
    for (const message of rows) {
      if (dayOf(message.at_ms) !== day) made.append(dayLine(message.at_ms));
      day = dayOf(message.at_ms);
      const row = this.#rowOf(message);
      this.#group(row, made.lastElementChild);
      made.append(row);
    }
    const first = messages.firstElementChild;
    if (rows.length && first?.dataset.day === day) first.remove();
    messages.prepend(made);
    const next = messages.querySelector(`[data-offset="${rows.at(-1)?.offset}"]`)?.nextElementSibling;
    if (next) this.#group(next, next.previousElementSibling);
    this.#requote(new Set(rows.map(({ offset }) => offset)));
    scroller.scrollTop = scroller.scrollHeight - below;
  }

  /** The next message of the topic. */
  add(message) {
    this.#append(message, true);
  }

  /** A message says something else now. */
  amend(offset) {
    const [row, message] = [this.#rows.get(offset), this.#thread.find(offset)];
    if (!row || !message) return;
    this.#fill(row, message);
    this.#requote(new Set([offset]));
  }

  /** Somebody has come further: the ticks of own messages tell it. */
  tick() {
    for (const [offset, row] of this.#own) if (row.dataset.state !== "read") this.#mark(row, offset);
  }

  /** An entry of the outbox: shown at the end until the topic has it. */
  queue(entry) {
    if (!isShown(entry.body)) return;
    const { me } = this.#thread;
    const row = this.#row(me, true);
    row.isSure = true;
    this.#say(row, entry.body);
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
    if (row.dataset.state === "pending") setTick(row, "sent", level === "memory" ? "Delivered to the server" : TICKS.sent);
    if (waiting && row !== waiting) {
      waiting.remove();
      this.#waiting.delete(entry);
    }
  }

  refused(entry, reason) {
    const row = this.#waiting.get(entry);
    if (!row) return;
    setTick(row, "failed", `${TICKS.failed}: ${reason}`);
    row.entry = entry;
    this.#waiting.delete(entry);
    this.#parts.messages.append(row); // it has no place in the topic: it stays where it was tried
    this.#settle();
  }

  /** A line about the list itself. */
  notice(text, kind = "notice") {
    this.#parts.messages.append(line(text, kind));
    this.#settle();
  }

  /** The topic begins a new history: its offsets no longer mean the rows that are shown. */
  restart() {
    this.#rows.clear();
    this.#own.clear();
    if (this.#parts.messages.childElementCount) this.notice("The server started a new history. What is above is only on this screen.");
  }

  toBottom(isSmooth = false) {
    this.#isAtBottom = true;
    this.#unseen = 0;
    const { scroller } = this.#parts;
    const behavior = isSmooth && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "instant";
    scroller.scrollTo({ top: scroller.scrollHeight, behavior });
    this.#scrollTop = scroller.scrollTop; // whoever scrolls up from here has done so, even before the event of this comes
    this.#showJump();
  }

  /** Brings a message into view and says which one it is. False if it is not loaded. */
  reveal(offset) {
    const row = this.#rows.get(offset);
    if (!row) return false;
    row.scrollIntoView({ block: "center" });
    row.classList.remove("found");
    requestAnimationFrame(() => row.classList.add("found"));
    row.focus({ preventScroll: true });
    return true;
  }

  #append(message, isLive) {
    const { messages, pending } = this.#parts;
    if (dayOf(message.at_ms) !== this.#lastDay) messages.append(dayLine(message.at_ms));
    this.#lastDay = dayOf(message.at_ms);
    const row = this.#rowOf(message);
    this.#group(row, messages.lastElementChild);
    messages.append(row);
    this.#group(pending.firstElementChild, row);
    if (isLive && !row.classList.contains("own") && !this.#isAtBottom) this.#unseen += 1;
    this.#settle();
  }

  /** The row of a message, which for an own one may be that of the outbox. */
  #rowOf(message) {
    const { offset, from, at_ms: at, body } = message;
    if (body.type === "system" || (from === "" && !isShown(body))) return line(systemWords(body, this.#thread.me), "notice", offset);
    const entry = from === this.#thread.me && [...this.#waiting.keys()].find((one) => one.body.client_id === body.client_id && body.client_id);
    const isOwn = Boolean(entry) || this.#thread.isOwn(message);
    const row = entry ? this.#waiting.get(entry) : this.#row(from, isOwn);
    row.isSure ||= this.#thread.isSure(message);
    if (entry) this.#waiting.delete(entry);
    row.dataset.offset = offset;
    this.#rows.set(offset, row);
    if (isOwn) this.#own.set(offset, row);
    this.#fill(row, message);
    setTime(row, at);
    if (isOwn) this.#mark(row, offset);
    else setTick(row, "");
    return row;
  }

  #row(from, isOwn) {
    const row = this.#parts.template.content.firstElementChild.cloneNode(true);
    row.classList.add(hueOf(from));
    row.classList.toggle("own", isOwn);
    row.dataset.from = from;
    row.querySelector(".avatar").replaceWith(avatar(from || "Server"));
    row.querySelector(".from").textContent = from || "Server";
    return row;
  }

  #fill(row, message) {
    const body = this.#thread.bodyOf(message);
    this.#say(row, body);
    row.classList.toggle("is-recalled", body.type === "recalled");
    row.classList.toggle("mentions-me", Array.isArray(body.mentions) && body.mentions.includes(this.#thread.me));
    row.querySelector(".edited").hidden = !this.#thread.isEdited(message.offset);
  }

  #say(row, body) {
    const text = row.querySelector(".text");
    const before = text.querySelector(".card-file");
    redraw(text, ...content(body, { isOwn: row.classList.contains("own"), isSure: row.isSure, before }));
    const quote = row.querySelector(".quote");
    quote.hidden = !body.reply_to;
    if (!body.reply_to) return;
    quote.dataset.to = body.reply_to;
    this.#quote(quote);
  }

  #quote(quote) {
    const answered = this.#thread.find(Number(quote.dataset.to));
    quote.querySelector("strong").textContent = answered?.from ?? "An earlier message";
    quote.querySelector("span").textContent = answered ? summary(this.#thread.bodyOf(answered)) : "";
  }

  /** Messages were loaded, or say something else now: what answers them shows it. */
  #requote(offsets) {
    for (const quote of this.#parts.messages.querySelectorAll(".quote[data-to]")) {
      if (offsets.has(Number(quote.dataset.to))) this.#quote(quote);
    }
  }

  #mark(row, offset) {
    const { state, read, others } = this.#thread.stateOf(offset);
    const isGroup = this.#thread.place?.kind === "group";
    setTick(row, state, isGroup && read ? `${TICKS[state]}: read by ${read} of ${others}` : TICKS[state]);
  }

  #group(row, before) {
    if (!row?.classList.contains("message")) return;
    const isSame = before?.classList.contains("message") && before.dataset.from === row.dataset.from;
    row.classList.toggle("follows", Boolean(isSame) && Math.abs(row.dataset.at - before.dataset.at) < GROUP_MS);
  }

  #clicked(event) {
    const row = event.target.closest(".message");
    const quote = event.target.closest(".quote");
    if (quote) this.#parts.onQuote(Number(quote.dataset.to));
    else if (row && event.target.closest(".act")) this.#parts.onMenu(row, event.target.closest(".act"));
  }

  #keyed(event) {
    const { scroller } = this.#parts;
    const row = event.target.closest(".message");
    if (row === event.target && (event.key === "Enter" || event.key === "ContextMenu")) {
      event.preventDefault();
      return this.#parts.onMenu(row, row.querySelector(".act"));
    }
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || (event.target !== scroller && event.target !== row)) return;
    const rows = [...scroller.querySelectorAll(".message")];
    const next = row ? rows[rows.indexOf(row) + step] : rows.at(-1);
    if (!next) return;
    event.preventDefault();
    next.focus();
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
    if (messages.childElementCount <= ROWS_MAX) return;
    while (messages.childElementCount > ROWS_MAX) {
      const offset = Number(messages.firstElementChild.dataset.offset);
      for (const map of [this.#rows, this.#own]) map.delete(offset);
      messages.firstElementChild.remove();
    }
    const first = messages.querySelector("[data-offset]");
    if (first) this.#thread.forgetBefore(Number(first.dataset.offset));
  }

  #scrolled() {
    const { scroller, onRead, onTop } = this.#parts;
    const wasAtBottom = this.#isAtBottom;
    const isUp = scroller.scrollTop < this.#scrollTop; // growing at the end also leaves the bottom, but nobody meant it
    this.#scrollTop = scroller.scrollTop;
    const isNear = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < BOTTOM_PX;
    this.#isAtBottom = isNear || (wasAtBottom && !isUp);
    if (this.#isAtBottom) this.#unseen = 0;
    if (wasAtBottom !== this.#isAtBottom) this.#showJump();
    if (this.#isAtBottom) onRead();
    if (scroller.scrollTop < TOP_PX && isUp) onTop();
  }

  #showJump() {
    const { jump, jumpText } = this.#parts;
    const count = this.#unseen;
    jump.hidden = this.#isAtBottom;
    jumpText.textContent = count ? counted(count, "new message") : "Newest";
    jump.classList.toggle("news", count > 0);
  }
}

function line(text, kind, offset) {
  const made = element("li", kind, element("span", "", text));
  if (offset) made.dataset.offset = offset;
  return made;
}

function dayLine(at) {
  const made = line(dayName(at), "day");
  made.dataset.day = dayOf(at);
  return made;
}

function dayOf(at) {
  return new Date(at).toDateString();
}

function setTime(row, at) {
  const time = row.querySelector("time");
  row.dataset.at = at;
  time.dateTime = new Date(at).toISOString();
  time.textContent = clockTime(at);
  time.title = new Date(at).toLocaleString();
}

function setTick(row, state, label = TICKS[state]) {
  const tick = row.querySelector(".tick");
  row.dataset.state = state;
  tick.toggleAttribute("hidden", !state);
  if (!state) return;
  tick.setAttribute("aria-label", label);
  tick.querySelector("title").textContent = label;
}
