// Who is there: the user's circle as the server tells it, others when they are looked at, and saying that one is away.

import { listTime } from "./dom.js";

/** Users of one question. */
const USERS_MAX = 100;
/** A page that was hidden this long is away. */
const AWAY_MS = 60_000;
const WORDS = { online: "online", away: "away", offline: "offline" };

export class Presence {
  #session;
  #users = new Map(); // user -> {state, last_seen_ms?}
  #wanted = new Set();
  #timer = null;
  #away = null;
  #told = "online";
  #onChange;

  constructor(session, onChange) {
    this.#session = session;
    this.#onChange = onChange;
    document.addEventListener("visibilitychange", () => this.#looked());
  }

  /** A connection stands: asks how the circle is; from here on changes are told. */
  async start() {
    const { users } = await this.#session.request("presence.watch");
    for (const { user, ...presence } of users) this.#users.set(user, presence);
    if (this.#told === "away") this.#session.request("presence.set", { state: "away" }).catch(() => {});
    this.#changed();
  }

  /** What the personal topic tells of somebody. */
  told(user, presence) {
    this.#users.set(user, presence);
    this.#changed();
  }

  /** Asks for people who are looked at and may not be in the circle. */
  want(users) {
    for (const user of users) if (!this.#users.has(user)) this.#wanted.add(user);
    if (this.#wanted.size) this.#timer ??= setTimeout(() => this.#ask(), 100);
  }

  isOnline(user) {
    return this.#users.get(user)?.state === "online";
  }

  /** "online", "away", "last seen 14:05" or nothing. */
  words(user) {
    const { state, last_seen_ms: at } = this.#users.get(user) ?? {};
    if (state === "offline" && at) return `last seen ${listTime(at)}`;
    return WORDS[state] ?? "";
  }

  /** Shows the state of an avatar's user on it. */
  paint(avatar) {
    avatar.dataset.presence = this.#users.get(avatar.dataset.user)?.state ?? "";
  }

  stop() {
    clearTimeout(this.#away);
    clearTimeout(this.#timer);
  }

  async #ask() {
    this.#timer = null;
    const users = [...this.#wanted].slice(0, USERS_MAX);
    for (const user of users) this.#wanted.delete(user);
    try {
      const answer = await this.#session.request("presence.get", { users });
      for (const { user, ...presence } of answer.users) this.#users.set(user, presence);
      this.#changed();
    } catch {
      return; // nobody's dot is worth a note
    }
    this.want([...this.#wanted]);
  }

  #changed() {
    for (const avatar of document.querySelectorAll(".avatar[data-user]")) this.paint(avatar);
    this.#onChange();
  }

  #looked() {
    clearTimeout(this.#away);
    if (document.hidden) this.#away = setTimeout(() => this.#say("away"), AWAY_MS);
    else this.#say("online");
  }

  #say(state) {
    if (this.#told === state || this.#session.identity.guest) return;
    this.#told = state;
    this.#session.request("presence.set", { state }).catch(() => {});
  }
}
