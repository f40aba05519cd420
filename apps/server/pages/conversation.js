// The open conversation: its history in pages, what comes live, who is typing, how far everybody has come, and what may be written.

import { isShown } from "./body.js";
import { $, counted, toast } from "./dom.js";
import { groupWords } from "./group.js";
import { titleOf } from "./inbox.js";
import { read, write } from "./outbox.js";
import { PAGE, Thread } from "./thread.js";

/** Typing is believed a little longer than it is told again. */
const TYPING_SHOWN_MS = 5_000;
/** Marks of rooms are for later visits; others wait for those of a conversation. */
const ROOM_ACK_MS = 3_000;
const ACK_MS = 250;
/** Groups up to this size tell how far each member has come. */
const TICKS_MAX = 100;
const MEMBERS_MAX = 200;
const SEEN = "ringshard.seen";

export class Conversation {
  thread = null;
  /** The user's role in an open group, or null. */
  role = null;
  #page;
  #timeline;
  #people = new Set(); // of a room, who is there
  #count = 1;
  #isStale = false;
  #typing = new Map(); // user -> timer
  #isLoading = false;
  #older = null;
  #acked = 0;
  #ackTimer = null;

  constructor(page, timeline) {
    this.#page = page;
    this.#timeline = timeline;
  }

  /** Opens the conversation of `topic`; the one before is listened to only if it is in the list. */
  open(topic) {
    const { session, inbox } = this.#page;
    const before = this.thread?.topic;
    if (before && before !== topic && !inbox.get(before)) session.unsubscribe(before);
    this.#typing.forEach(clearTimeout);
    this.#typing.clear();
    clearTimeout(this.#ackTimer);
    this.thread = new Thread(topic, session);
    Object.assign(this, { role: null });
    [this.#people, this.#count, this.#acked, this.#ackTimer, this.#isLoading] = [new Set([session.user]), 1, 0, null, false];
    this.#timeline.open(this.thread);
    $("messages").setAttribute("aria-live", "off"); // the history is not read out, only what comes after it
    $("empty").hidden = true;
    this.#page.composer.allow("");
    for (const entry of session.device.entries) if (entry.topic === topic) this.#timeline.queue(entry);
    if (!session.has(topic)) session.subscribe(topic);
    else if (session.isJoined(topic)) this.#load();
    this.showHead();
    this.showTyping();
  }

  // -- what comes ----------------------------------------------------------------------------------------------------

  joined({ epoch, isReset }) {
    if (isReset) {
      this.#timeline.restart();
      this.thread.restart();
    }
    if (!this.thread.isLoaded) this.#load(epoch);
    else this.#loadOthers(); // marks may have risen while nobody listened
    this.#page.details.changed();
  }

  message(message) {
    const { row, changed } = this.thread.take(message);
    if (!this.thread.isLoaded) return;
    if (row) this.#timeline.add(row);
    if (changed !== null) this.#timeline.amend(changed);
    $("empty").hidden = true;
    this.forgetTyping(message.from);
    if (message.body.type === "system") this.#changed();
    this.noteRead();
  }

  gap() {
    this.#timeline.notice("Messages between these are no longer kept.", "notice gap");
  }

  denied({ message }) {
    this.#page.composer.allow(message);
    this.#timeline.notice(message);
    if (this.thread.place.kind === "group") this.#page.details.toggle(true);
  }

  /** The user takes part no longer. */
  left() {
    this.#page.composer.allow("You are not in this conversation any more");
    this.role = null;
    this.#page.details.changed();
  }

  ephemeral({ from, key, body }) {
    if (key === "read" && this.thread.mark(from, body)) this.#timeline.tick();
    if (key !== "typing" || from === this.thread.me) return;
    this.forgetTyping(from);
    if (!body?.typing) return;
    this.#typing.set(from, setTimeout(() => this.forgetTyping(from), TYPING_SHOWN_MS));
    this.showTyping();
  }

  presence({ joined, left, count }) {
    if (this.thread.place.kind !== "room") return left.forEach((user) => this.forgetTyping(user));
    if (this.#isStale) this.#people.clear(); // after a break the server tells all who are there
    this.#isStale = false;
    for (const user of joined) this.#people.add(user);
    for (const user of left) this.#people.delete(user);
    this.#people.add(this.thread.me);
    this.#count = Math.max(count ?? 0, 1);
    left.forEach((user) => this.forgetTyping(user));
    this.showHead();
  }

  offline() {
    this.#isStale = true;
  }

  // -- the history ---------------------------------------------------------------------------------------------------

  async #load() {
    const { thread } = this;
    if (this.#isLoading === thread) return;
    this.#isLoading = thread;
    try {
      const page = await this.#page.session.request("chat.history", { topic: thread.topic, limit: PAGE });
      if (thread !== this.thread) return;
      thread.readBefore = this.#readBefore(page.epoch);
      thread.takePage(page);
      this.#timeline.show(thread.messages);
      this.#end();
      this.#loadOthers();
      this.#caughtUp();
    } catch (error) {
      if (thread === this.thread && error.code !== "unavailable") this.denied(error);
    } finally {
      if (this.#isLoading === thread) this.#isLoading = false;
    }
  }

  /** The page before; one that is under way already is not asked for again. */
  older() {
    return (this.#older ??= this.#loadOlder().finally(() => (this.#older = null)));
  }

  /** One that has only edits is no page for a reader. */
  async #loadOlder() {
    const { thread } = this;
    if (!thread?.isLoaded || !thread.hasMore || this.#isLoading) return;
    this.#isLoading = thread;
    $("loading").hidden = false;
    try {
      let rows = [];
      while (thread.hasMore && rows.length < PAGE / 2) {
        const page = await this.#page.session.request("chat.history", { topic: thread.topic, before: thread.first, limit: PAGE });
        rows = [...thread.takePage(page), ...rows];
      }
      if (thread === this.thread) this.#timeline.older(rows, this.#endWords());
    } catch (error) {
      if (error.code !== "unavailable") toast(error.message);
    } finally {
      $("loading").hidden = true;
      if (this.#isLoading === thread) this.#isLoading = false;
    }
  }

  /** Brings an older message into view, loading what is between. */
  async reveal(offset) {
    const { thread } = this;
    while (thread === this.thread && !this.#timeline.reveal(offset) && thread.hasMore && offset < thread.first) {
      const { first } = thread;
      await this.older();
      // Without a connection, say: whoever asks again at once asks for ever.
      if (thread.first === first) return toast("That message cannot be loaded now.");
    }
  }

  #end() {
    const words = this.#endWords();
    if (words) this.#timeline.older([], words);
    const { scrollHeight, clientHeight } = $("scroller");
    if (scrollHeight <= clientHeight) setTimeout(() => this.older(), 0);
  }

  #endWords() {
    return !this.thread.hasMore && this.thread.first > 1 && this.thread.messages.length ? "Earlier messages are no longer kept." : "";
  }

  #caughtUp() {
    $("empty").hidden = this.thread.messages.length > 0 || $("pending").childElementCount > 0;
    requestAnimationFrame(() => $("messages").setAttribute("aria-live", "polite"));
    this.noteRead();
  }

  // -- the others ----------------------------------------------------------------------------------------------------

  /** Names that can be mentioned. */
  people() {
    const { kind, users } = this.thread.place;
    return kind === "direct" ? users : kind === "room" ? [...this.#people] : (this.thread.members ?? []);
  }

  async #loadOthers() {
    const { thread } = this;
    const { kind } = thread.place;
    if (kind === "room") return;
    try {
      const isSmall = kind === "direct" || (await this.#loadGroup(thread));
      if (kind === "direct") this.#page.presence.want(thread.place.users);
      if (!isSmall) return;
      const { marks } = await this.#page.session.request("chat.marks", { topic: thread.topic, limit: MEMBERS_MAX });
      for (const { user, ...mark } of marks) thread.mark(user, mark);
      if (thread === this.thread) this.#timeline.tick();
    } catch (error) {
      if (error.code !== "unavailable" && thread === this.thread) toast(error.message);
    }
  }

  /** Whether the group is so small that it has ticks. */
  async #loadGroup(thread) {
    const { session, composer } = this.#page;
    const info = await session.request("chat.info", { topic: thread.topic });
    const isSmall = Boolean(info.you) && info.members <= TICKS_MAX;
    if (info.you) {
      const { members } = await session.request("chat.members", { topic: thread.topic, limit: MEMBERS_MAX });
      thread.members = members.map(({ user }) => user);
    }
    if (thread !== this.thread) return false;
    this.role = info.you?.role ?? null;
    this.info = info;
    const mutedUntil = info.you?.muted_until_ms ?? 0;
    const until = new Date(mutedUntil).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    composer.allow(mutedUntil > Date.now() ? `You are muted until ${until}` : "");
    this.showHead();
    return isSmall;
  }

  #changed() {
    if (this.thread.place.kind !== "group") return;
    clearTimeout(this.changing);
    this.changing = setTimeout(() => {
      this.#loadOthers();
      this.#page.details.changed();
    }, 100);
  }

  // -- reading -------------------------------------------------------------------------------------------------------

  /** What was on the screen of somebody who was there is read: told to the server, and kept for the "New" line. */
  noteRead() {
    const { thread } = this;
    if (!thread?.isLoaded || document.hidden || isCovered() || !this.#timeline.isAtBottom || this.#ackTimer || thread.last <= this.#acked) return;
    const isRoom = thread.place.kind === "room";
    this.#ackTimer = setTimeout(() => {
      this.#ackTimer = null;
      this.#acked = thread.last;
      this.#page.session.ack(thread.topic, thread.last);
      this.#page.inbox.seen(thread.topic, thread.last);
      if (isRoom) keepSeen(thread);
    }, isRoom ? ROOM_ACK_MS : ACK_MS);
  }

  #readBefore(epoch) {
    const { topic, me } = this.thread;
    const line = this.#page.inbox.get(topic);
    if (line) return line.read;
    const seen = read(localStorage, SEEN)?.[me]?.[topic];
    return seen?.epoch === epoch ? seen.last : null;
  }

  // -- what is shown -------------------------------------------------------------------------------------------------

  get title() {
    const { thread } = this;
    return titleOf(this.#page.inbox.get(thread.topic) ?? { ...thread, name: this.info?.topic === thread.topic ? this.info.name : null }, thread.me);
  }

  showHead() {
    const { kind } = this.thread.place;
    $("room-sign").textContent = kind === "room" ? "#" : "";
    $("room-name").textContent = this.title;
    $("room-people").textContent = this.#headWords(kind);
    $("text").setAttribute("aria-label", `Message to ${this.title}`);
    if (kind === "room") this.#page.details.showPeople(this.#people, this.#count);
    this.#page.showTitle();
  }

  #headWords(kind) {
    if (kind === "direct") return this.#page.presence.words(this.title);
    if (kind === "group") return this.info?.topic === this.thread.topic ? groupWords(this.info) : "";
    const count = Math.max(this.#count, this.#people.size);
    return count === 1 ? "Only you are here" : `${counted(count, "person", "people")} here`;
  }

  forgetTyping(user) {
    clearTimeout(this.#typing.get(user));
    if (this.#typing.delete(user)) this.showTyping();
  }

  showTyping() {
    const [first, second, ...more] = this.#typing.keys();
    let text = "";
    if (more.length) text = "Several people are typing…";
    else if (second) text = `${first} and ${second} are typing…`;
    else if (first) text = `${first} is typing…`;
    if ($("typing").textContent !== text) $("typing").textContent = text;
  }

  /** The newest message of this user, if it may still be edited. */
  lastOwn() {
    const last = this.thread.lastOwn();
    return last && !this.#page.session.identity.guest && isShown(last.body) ? last : null;
  }
}

/** Whether something lies on the messages: on a phone the list does. */
function isCovered() {
  return document.body.classList.contains("side-open") && matchMedia("(max-width: 760px)").matches;
}

/** One user's marks are enough for one browser. */
function keepSeen({ me, topic, epoch, last }) {
  const all = read(localStorage, SEEN) ?? {};
  write(localStorage, SEEN, { [me]: { ...all[me], [topic]: { epoch, last } } });
}
