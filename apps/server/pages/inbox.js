// The user's conversations: what the server lists, what has come since, and how far the user has come in each.

import { summary } from "./body.js";
import { parseTopic } from "./topic.js";

/** Conversations of one page of the list. */
const PAGE = 50;
/** Conversations that are listened to; the server takes 256 topics, and the page needs a few others. */
const TOPICS_MAX = 200;
/** Several pieces of news are one look at the list. */
const LOOK_MS = 150;
/** With more conversations than are listened to, their news are looked for. */
const POLL_MS = 30_000;

export class Inbox {
  #session;
  #lines = new Map(); // topic -> line
  #next = null;
  #onChange;
  #look = null;
  #poll = null;

  /** Calls `onChange()` when the list is another one. */
  constructor(session, onChange) {
    this.#session = session;
    this.#onChange = onChange;
  }

  /** Whether there are further pages. */
  get hasMore() {
    return this.#next !== null;
  }

  /** Pinned ones first, then the newest. */
  get sorted() {
    return [...this.#lines.values()].sort((a, b) => b.pinned - a.pinned || b.at - a.at || (a.topic < b.topic ? -1 : 1));
  }

  /** Messages that were not seen, in conversations that may say so. */
  get unread() {
    return [...this.#lines.values()].reduce((sum, line) => sum + (line.muted ? 0 : unreadOf(line)), 0);
  }

  get(topic) {
    return this.#lines.get(topic) ?? null;
  }

  /**
   * Asks for all that can be listened to, and for as much as the list has already: what other devices have read while this
   * one was away may be far down. Listens to what is in it.
   */
  async load() {
    let [count, after] = [0, null];
    do {
      const page = await this.#ask(after);
      count += page.conversations.length;
      after = page.next ?? null;
      if (after === null || count >= this.#lines.size) this.#next = after;
    } while (after !== null && count < Math.max(TOPICS_MAX, this.#lines.size));
    this.#pollLater();
  }

  async more() {
    if (this.#next === null) return;
    const page = await this.#ask(this.#next);
    this.#next = page.next ?? null;
  }

  /** Looks soon at the newest page: something is new that only the server can say whole. */
  look() {
    this.#look ??= setTimeout(() => {
      this.#look = null;
      const looked = this.#lines.size ? this.#ask(null).then(() => this.#pollLater()) : this.load();
      looked.catch(() => {}); // the next connection loads again
    }, LOOK_MS);
  }

  /** A message came in a conversation. */
  hear({ topic, offset, from, at_ms: at, body }) {
    const line = this.#lines.get(topic);
    if (!line) return;
    if (from === this.#session.user && line.read === line.head) line.read = offset; // written on another device, where the rest was seen
    line.head = Math.max(line.head, offset);
    line.at = Math.max(line.at, at);
    const text = body.type === "system" ? body.event : body.file && !body.text ? body.file.name : summary({ ...body, type: "text" });
    line.last = { offset, from, type: body.type, text };
    if (body.type === "system" && body.event === "renamed") line.name = body.name;
    this.#onChange();
  }

  /** The server told this user's devices what an entry has become: `{topic, entry?}`. */
  told({ topic, entry }) {
    const line = this.#lines.get(topic);
    if (!entry) {
      this.#drop(topic);
      return this.#onChange();
    }
    if (!line || (line.left && !entry.left_ms)) return this.look();
    Object.assign(line, { muted: entry.muted ?? false, pinned: entry.pinned ?? false, left: Boolean(entry.left_ms) });
    line.read = Math.max(line.read, entry.read);
    if (line.left) this.#session.unsubscribe(topic);
    this.#onChange();
  }

  /** This user has seen a conversation up to here, on whatever device. */
  seen(topic, read) {
    const line = this.#lines.get(topic);
    if (!line || line.read >= read) return;
    line.read = read;
    this.#onChange();
  }

  /** The server says that there is nothing to hear any more. */
  lost(topic) {
    const line = this.#lines.get(topic);
    if (line) line.left = true;
    this.#onChange();
  }

  /** Takes the page that is behind `after`, or the newest one. */
  async #ask(after) {
    const page = await this.#session.request("inbox.list", { limit: PAGE, ...(after !== null && { after }) });
    this.#take(page.conversations);
    return page;
  }

  #pollLater() {
    clearTimeout(this.#poll);
    if (this.hasMore || this.#lines.size > TOPICS_MAX) this.#poll = setTimeout(() => this.look(), POLL_MS);
  }

  #take(conversations) {
    for (const { topic, name, head, unread, last_at_ms: at, last, muted, pinned, left } of conversations) {
      const old = this.#lines.get(topic);
      const read = Math.max(old?.read ?? 0, head - unread);
      const isOlder = old && old.head > head;
      const line = { topic, place: parseTopic(topic), muted, pinned, left, read };
      const told = { head, at, last: last ?? null, name: name ?? old?.name ?? null };
      Object.assign(line, isOlder ? { head: old.head, at: old.at, last: old.last, name: old.name } : told);
      this.#lines.set(topic, line);
      if (left || this.#session.has(topic) || this.#session.topicCount >= TOPICS_MAX) continue;
      this.#session.subscribe(topic, head);
    }
    this.#onChange();
  }

  #drop(topic) {
    this.#lines.delete(topic);
    this.#session.unsubscribe(topic);
  }
}

/** Messages of a line that the user has not seen. */
export function unreadOf({ left, head, read }) {
  return left ? 0 : Math.max(0, head - read);
}

/** What a line is called: the other one of two, or the group. */
export function titleOf({ place, name, topic }, me) {
  if (place?.kind === "direct") return place.users.find((user) => user !== me) ?? place.users[0];
  if (place?.kind === "room") return place.room;
  return name ?? (place?.kind === "group" ? "Group" : topic);
}
