// The left side: conversations with what was said last, rooms, and what a search finds.

import { preview } from "./body.js";
import { $, arrowKeys, avatar, button, counted, element, icon, listTime, toast } from "./dom.js";
import { titleOf, unreadOf } from "./inbox.js";
import { read, write } from "./outbox.js";
import { redraw } from "./redraw.js";
import { directTopic, roomName } from "./topic.js";

const ROOMS = "ringshard.rooms";
const ROOMS_MAX = 8;
/** A search waits until the typing pauses. */
const PAUSE_MS = 180;
const FOUND_MAX = 20;
/** Conversations that are shown, and how many more at a time. */
const SHOWN = 50;

export class Chats {
  #page;
  #frame = 0;
  #timer = null;
  #asked = 0;
  #found = []; // people by the prefix that is typed
  #shown = SHOWN;

  /** `page` has {session, inbox, presence, topic, open(topic), drafts}. */
  constructor(page) {
    this.#page = page;
    arrowKeys($("chat-list"), "a");
    $("search").addEventListener("input", () => this.#search());
    $("search").addEventListener("keydown", (event) => this.#keyed(event));
    $("chat-list").addEventListener("click", (event) => this.#clicked(event));
    $("more-chats").addEventListener("click", () => this.#more());
    $("join").addEventListener("submit", (event) => this.#join(event));
  }

  /** Draws the list, soon and once for all news of a moment. */
  show() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  /** The room is one of those that are listed from now on. */
  remember(room) {
    const known = this.#rooms();
    if (!known.includes(room)) write(localStorage, ROOMS, [room, ...known].slice(0, ROOMS_MAX));
    this.show();
  }

  async #more() {
    const { inbox } = this.#page;
    this.#shown += SHOWN;
    this.show();
    if (inbox.sorted.length < this.#shown && inbox.hasMore) await inbox.more().catch((error) => toast(error.message));
  }

  /** There is a connection again: what could not be searched for is. */
  searchAgain() {
    if ($("search").value.trim()) this.#search();
  }

  clearSearch() {
    $("search").value = "";
    this.#search();
  }

  #rooms() {
    const known = (read(localStorage, ROOMS) ?? []).filter((one) => typeof one === "string" && roomName(one) === one);
    return known.includes("lobby") ? known : [...known, "lobby"];
  }

  #draw() {
    const { session, inbox } = this.#page;
    const typed = $("search").value.trim().toLowerCase();
    const all = session.identity.guest ? [] : inbox.sorted.filter((line) => titleOf(line, session.user).toLowerCase().includes(typed));
    const lines = all.slice(0, this.#shown);
    const rooms = this.#rooms().filter((room) => room.includes(typed.replace(/^#/, "")));
    redraw($("chats"), ...lines.map((line) => this.#line(line)));
    redraw($("rooms"), ...rooms.map((room) => this.#room(room)));
    redraw($("found"), ...this.#found.map((user) => this.#person(user)));
    $("found-part").hidden = !typed || session.identity.guest;
    $("nobody").hidden = this.#found.length > 0;
    $("no-chats").hidden = lines.length > 0 || Boolean(typed) || session.identity.guest;
    $("rooms-part").hidden = rooms.length === 0;
    $("more-chats").hidden = lines.length === all.length && (!inbox.hasMore || Boolean(typed) || session.identity.guest);
  }

  #line(line) {
    const { session, presence } = this.#page;
    const { topic, place, at, last, left, muted, pinned } = line;
    const title = titleOf(line, session.user);
    const unread = unreadOf(line);
    const isGroup = place?.kind === "group";
    const face = avatar(title, { isGroup, user: isGroup ? null : title });
    if (!isGroup) presence.paint(face);
    const name = element("span", "line-name", title);
    const marks = element("span", "line-marks");
    if (muted) marks.append(icon("mute"));
    if (pinned) marks.append(icon("pin"));
    const said = element("span", "line-last", left ? "You are not in this conversation any more" : this.#said(line, last, isGroup));
    const link = this.#link(topic, "line", face, name, element("time", "", at ? listTime(at) : ""), said, marks);
    if (unread) marks.append(element("span", `unread${muted ? " is-muted" : ""}`, unread > 999 ? "999+" : String(unread)));
    const heard = unread ? `, ${counted(unread, "unread message")}` : "";
    link.setAttribute("aria-label", `${title}${heard}`);
    link.classList.toggle("is-left", left);
    link.classList.toggle("has-unread", unread > 0);
    return keyed(link);
  }

  #said({ topic }, last, isGroup) {
    const { session, drafts } = this.#page;
    if (drafts.get(topic)) return `Draft: ${drafts.get(topic)}`;
    if (!last) return "No messages yet";
    const said = preview(last, session.user);
    return isGroup && last.from && last.from !== session.user ? `${last.from}: ${said}` : said;
  }

  #room(room) {
    return keyed(this.#link(`chat/${room}`, "line room-line", avatar(room, { isRoom: true }), element("span", "line-name", room)));
  }

  #person(user) {
    const { session, presence } = this.#page;
    const face = avatar(user, { user });
    presence.paint(face);
    return keyed(this.#link(directTopic(session.user, user), "line room-line", face, element("span", "line-name", user)));
  }

  #link(topic, className, ...parts) {
    const link = element("a", className, ...parts);
    link.href = `?topic=${encodeURIComponent(topic)}`;
    link.dataset.topic = topic;
    if (topic === this.#page.topic) link.setAttribute("aria-current", "page");
    return link;
  }

  #clicked(event) {
    const link = event.target.closest("a[data-topic]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.#page.open(link.dataset.topic);
    if (link.closest("#found")) this.clearSearch();
  }

  #keyed(event) {
    if (event.key === "Escape") this.clearSearch();
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    event.preventDefault();
    const first = [...$("chat-list").querySelectorAll("a")].find((one) => one.offsetParent !== null);
    if (event.key === "Enter") first?.click();
    else first?.focus();
  }

  #search() {
    clearTimeout(this.#timer);
    const prefix = $("search").value.trim();
    if (!prefix) this.#found = [];
    this.show();
    if (prefix && !this.#page.session.identity.guest) this.#timer = setTimeout(() => this.#ask(prefix), PAUSE_MS);
  }

  async #ask(prefix) {
    this.#asked += 1;
    const asked = this.#asked;
    try {
      const users = await findPeople(this.#page.session, prefix);
      if (asked === this.#asked && $("search").value.trim()) this.#found = users;
      this.#page.presence.want(users);
      this.show();
    } catch (error) {
      toast(error.message);
    }
  }

  #join(event) {
    event.preventDefault();
    const room = roomName($("join-room").value);
    if (!room) return toast("Rooms are named with a-z, 0-9, dot, dash and underscore.");
    $("join-room").value = "";
    this.#page.open(`chat/${room}`);
  }
}

function keyed(link) {
  const row = element("li", "", link);
  row.dataset.key = link.dataset.topic;
  return row;
}

/** Other accounts whose names begin like this. */
export async function findPeople(session, prefix) {
  const { users } = await session.request("chat.search", { prefix, limit: FOUND_MAX });
  return users.filter((user) => user !== session.user);
}

/** A field that finds people by prefix, and a list of those that were picked. */
export class Picker {
  #session;
  #picked = new Set();
  #field;
  #list;
  #chosen;

  constructor(session, root) {
    this.#session = session;
    this.#field = element("input", "picker-field");
    Object.assign(this.#field, { type: "search", placeholder: "Find people by name", autocomplete: "off", spellcheck: false });
    this.#field.setAttribute("aria-label", "Find people by name");
    this.#list = element("ul", "picker-found");
    this.#chosen = element("div", "picked");
    root.replaceChildren(this.#chosen, this.#field, this.#list);
    let timer = null;
    this.#field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#find(), PAUSE_MS);
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#list.querySelector("button")?.click();
    });
  }

  get users() {
    return [...this.#picked];
  }

  /** Lets go of those that were picked. */
  clear() {
    this.#picked.clear();
    this.#chosen.replaceChildren();
  }

  async #find() {
    const prefix = this.#field.value.trim();
    const users = prefix ? await findPeople(this.#session, prefix).catch(() => []) : [];
    if (prefix !== this.#field.value.trim()) return; // typed on, or picked
    const free = users.filter((user) => !this.#picked.has(user));
    redraw(this.#list, ...free.map((user) => this.#row(user)));
  }

  #row(user) {
    const row = element("li", "", button("pick", user, () => this.#pick(user)));
    row.dataset.key = user;
    return row;
  }

  #pick(user) {
    this.#picked.add(user);
    const chip = button("chip", `${user} ×`, () => {
      this.#picked.delete(user);
      chip.remove();
    }, { "aria-label": `Do not take ${user}` });
    this.#chosen.append(chip);
    this.#field.value = "";
    this.#list.replaceChildren();
    this.#field.focus();
  }
}
