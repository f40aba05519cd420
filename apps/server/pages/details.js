// The right side: who is in the open conversation, and what can be done about it.

import { $, avatar, element } from "./dom.js";
import { Group } from "./group.js";
import { titleOf } from "./inbox.js";
import { lineActions } from "./line.js";
import { redraw } from "./redraw.js";

const PEOPLE_SHOWN = 200;

export class Details {
  #page;
  #group = null;
  #topic = null;
  #session = null;

  /** `page` has {session, inbox, contacts, presence, thread, open(topic), leaveTo()}. */
  constructor(page) {
    this.#page = page;
    $("open-details").addEventListener("click", () => this.toggle(document.body.classList.contains("details-open") === false));
    $("close-details").addEventListener("click", () => this.toggle(false));
  }

  toggle(isOpen) {
    document.body.classList.toggle("details-open", isOpen);
    $("open-details").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.open();
    else if (document.activeElement?.closest("#details")) $("open-details").focus();
  }

  /** Another conversation is open, or the same one again: what is picked and typed in it stays. */
  open() {
    const { thread, session } = this.#page;
    const kind = thread.place?.kind;
    const isSame = this.#topic === thread.topic && this.#session === session;
    if (!isSame) {
      this.#group?.close();
      this.#group = kind === "group" ? new Group(this.#page, $("about")) : null;
      $("about").replaceChildren(); // nobody should act on the one before
    }
    [this.#topic, this.#session] = [thread.topic, session];
    $("people-part").hidden = kind !== "room";
    $("about").hidden = kind === "room";
    if (kind === "group") this.#group.load();
    else if (kind === "direct") this.direct();
  }

  /** A group has another member, role or rule. */
  changed() {
    this.#group?.load();
  }

  /** Draws the other one of two anew, if it is something else to the user now. */
  refresh() {
    const { thread, contacts, session } = this.#page;
    if ($("about").dataset.state !== contacts.stateOf(titleOf(thread, session.user))) this.direct();
  }

  /** The other one of two, and what that is to the user. */
  direct() {
    const { session, thread, contacts, presence } = this.#page;
    if (thread?.place?.kind !== "direct") return;
    const other = titleOf(thread, session.user);
    const face = avatar(other, { user: other });
    presence.paint(face);
    const words = { contact: "In your contacts", incoming: "Asks to be your contact", outgoing: "You have asked", blocked: "You have blocked this user", stranger: "Not in your contacts" };
    const state = contacts.stateOf(other);
    const said = contacts.textOf(other);
    redraw(
      $("about"),
      element("div", "face", face, element("h3", "", other), element("small", "presence-words", presence.words(other))),
      element("p", "hint", said ? `${words[state]}: “${said}”` : words[state]),
      element("div", "acts", ...contacts.actions(other)),
      lineActions(this.#page),
    );
    $("about").dataset.state = state;
  }

  /** The people of an open room: those who are there now. */
  showPeople(people, total) {
    const { session } = this.#page;
    const names = [...people].filter((name) => name !== session.user).sort((a, b) => a.localeCompare(b));
    const shown = [session.user, ...names].slice(0, PEOPLE_SHOWN);
    const count = Math.max(total, people.size);
    $("people").replaceChildren(...shown.map((name) => this.#person(name)));
    if (count > shown.length) $("people").append(element("li", "more", `and ${(count - shown.length).toLocaleString()} more`));
    $("people-count").textContent = count.toLocaleString();
  }

  #person(name) {
    const { session } = this.#page;
    const row = element("li", "", avatar(name), element("span", "name", name));
    if (name === session.user) row.append(element("small", "", "you"));
    return row;
  }
}
