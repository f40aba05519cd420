// A conversation as this page has it: its messages in the topic's order, what changed them, and how far everybody has come.

import { isShown } from "./body.js";
import { parseTopic } from "./topic.js";

/** Messages of one page of the history. */
export const PAGE = 60;

export class Thread {
  /** Messages that were loaded, oldest first: {offset, from, at_ms, body}, with what the server says. */
  messages = [];
  epoch = null;
  /** The newest offset that is known. */
  last = 0;
  /** Whether the newest page is there, and whether there are older ones. */
  isLoaded = false;
  hasMore = false;
  /** All up to here was read when the conversation was opened; null: nobody knows. */
  readBefore = null;
  /** Members of a group as far as ticks need them, or null. */
  members = null;
  #first = Infinity;
  #byOffset = new Map();
  #edits = new Map(); // offset -> the text that a message has now
  #recalled = new Set();
  #marks = new Map(); // user -> {delivered, read}
  #isGuest;
  #device;

  /** `{user, identity, device}` is the session. */
  constructor(topic, { user, identity, device }) {
    this.topic = topic;
    this.me = user;
    this.place = parseTopic(topic);
    [this.#isGuest, this.#device] = [Boolean(identity.guest), device];
  }

  /** Takes the next message of the topic: the row that it is, and the offset of the message that it changes, if any. */
  take(message) {
    this.last = Math.max(this.last, message.offset);
    this.#first = Math.min(this.#first, message.offset);
    const changed = this.#amend(message);
    if (changed !== null || !isRow(message)) return { row: null, changed };
    this.messages.push(message);
    this.#byOffset.set(message.offset, message);
    return { row: message, changed: null };
  }

  /** Takes a page of the history; the rows in it that were not there, oldest first. */
  takePage({ epoch, head, more, messages }) {
    const older = messages.filter(({ offset }) => offset < this.#first);
    for (const message of older) this.#amend(message);
    const rows = older.filter(isRow);
    for (const row of rows) this.#byOffset.set(row.offset, row);
    this.messages.unshift(...rows);
    if (messages.length) this.#first = Math.min(this.#first, messages[0].offset);
    if (!this.isLoaded) Object.assign(this, { epoch, last: Math.max(this.last, head) });
    this.isLoaded = true;
    this.hasMore = more;
    return rows;
  }

  /** Where the next older page ends. */
  get first() {
    return this.#first;
  }

  /** Whether the oldest messages that were loaded are the first ones of all. */
  get isWhole() {
    return !this.hasMore && this.#first <= 1;
  }

  /** Lets go of what is older than `offset`; it can be loaded again. */
  forgetBefore(offset) {
    this.messages = this.messages.filter((message) => message.offset >= offset);
    for (const key of this.#byOffset.keys()) if (key < offset) this.#byOffset.delete(key);
    this.#first = offset;
    this.hasMore = true;
  }

  /** The topic begins a new history. */
  restart() {
    this.messages = [];
    this.#byOffset.clear();
    this.#edits.clear();
    this.#recalled.clear();
    this.#marks.clear();
    this.#first = Infinity;
    Object.assign(this, { isLoaded: false, hasMore: false, last: 0, readBefore: null });
  }

  find(offset) {
    return this.#byOffset.get(offset) ?? null;
  }

  /** What a message says now. */
  bodyOf({ offset, body }) {
    if (this.#recalled.has(offset)) return { type: "recalled" };
    return this.#edits.has(offset) ? { ...body, text: this.#edits.get(offset) } : body;
  }

  isEdited(offset) {
    return this.#edits.has(offset) && !this.#recalled.has(offset);
  }

  /** Whether a message is the user's. The name of an account says it; that of a guest others may have as well. */
  isOwn(message) {
    return message.from === this.me && (!this.#isGuest || this.isSure(message));
  }

  /** Whether nobody else can have written it: guests of the same name may be in open rooms, also in those of before an account. */
  isSure({ offset, from }) {
    const isNamed = !this.#isGuest && this.place?.kind !== "room";
    return from === this.me && (isNamed || this.#device.wrote(this.topic, this.epoch, offset));
  }

  /** The newest message of this user that can still be edited. */
  lastOwn() {
    return this.messages.findLast((message) => this.isOwn(message) && isShown(this.bodyOf(message))) ?? null;
  }

  /** Somebody has come so far; whether that was news. */
  mark(user, { delivered = 0, read = 0 }) {
    const old = this.#marks.get(user) ?? { delivered: 0, read: 0 };
    const now = { delivered: Math.max(old.delivered, delivered, read), read: Math.max(old.read, read) };
    this.#marks.set(user, now);
    return now.delivered > old.delivered || now.read > old.read;
  }

  /** How far an own message has come: "sent", "delivered" or "read" by all others, and by how many it was read. */
  stateOf(offset) {
    const others = this.#others();
    const count = (field) => others.filter((user) => (this.#marks.get(user)?.[field] ?? 0) >= offset).length;
    const [delivered, read] = [count("delivered"), count("read")];
    const isAll = (reached) => others.length > 0 && reached === others.length;
    return { state: isAll(read) ? "read" : isAll(delivered) ? "delivered" : "sent", read, others: others.length };
  }

  #others() {
    const { kind, users } = this.place ?? {};
    const all = kind === "direct" ? users : (this.members ?? []);
    return all.filter((user) => user !== this.me);
  }

  /** Keeps what an edit or a recall does; the offset that it is about, or null. */
  #amend({ body }) {
    if (body.type === "recall") this.#recalled.add(body.offset);
    else if (body.type === "edit") this.#edits.set(body.offset, body.text);
    else return null;
    return body.offset;
  }
}

/** The page separates days by its reader's clock, and needs no notice of a new one. */
function isRow({ body }) {
  return body.type !== "edit" && body.type !== "recall" && body.event !== "day";
}
