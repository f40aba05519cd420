// Contacts: whom the user knows, who asks, whom the user has asked, and who is not heard.

import { $, arrowKeys, avatar, button, element, toast } from "./dom.js";
import { redraw } from "./redraw.js";
import { directTopic } from "./topic.js";

const PAGE = 200;
/** Lists of the server: what they are called there and here, and what each person in them can be told. */
const LISTS = [
  { op: "contact.requests", state: "incoming", title: "Requests" },
  { op: "contact.list", state: "contact", title: "Contacts" },
  { op: "contact.sent", state: "outgoing", title: "Asked" },
  { op: "contact.blocked", state: "blocked", title: "Blocked" },
];

export class Contacts {
  #page;
  #people = new Map(); // user -> {state, text}
  #after = new Map(); // op -> the last name of its page, if there are more
  #wanted = new Map(); // op -> how many of its list the user has asked for, if for more than a page
  #invitations = new Map(); // topic of a group -> {by, name}
  #told = null; // what came since a load began
  #onChange;

  /** `page` has {session, presence, open(topic)}; `onChange()` when somebody is something else. */
  constructor(page, onChange) {
    this.#page = page;
    this.#onChange = onChange;
    arrowKeys($("contacts"), ".person-link");
  }

  /** "contact", "incoming", "outgoing", "blocked" or "stranger". */
  stateOf(user) {
    return this.#people.get(user)?.state ?? "stranger";
  }

  textOf(user) {
    return this.#people.get(user)?.text ?? "";
  }

  /** Requests and invitations that wait for an answer. */
  get waiting() {
    return [...this.#people.values()].filter(({ state }) => state === "incoming").length + this.#invitations.size;
  }

  /**
   * Asks for all of it, the lists as far as they are shown. What was known counts until the answers are there, and what is
   * told meanwhile is newer than they are.
   */
  async load() {
    const fresh = { people: new Map(), after: new Map(), invitations: new Map() };
    const told = [];
    this.#told = told;
    try {
      for (const list of LISTS) await this.#more(list, fresh);
      await this.#invited(fresh.invitations);
      for (let list; (list = LISTS.find((one) => this.#lacks(one, fresh))); ) await this.#more(list, fresh);
      if (this.#told !== told) return; // another load has begun
      [this.#people, this.#after, this.#invitations] = [fresh.people, fresh.after, fresh.invitations];
      for (const take of told) take();
      this.show();
    } finally {
      if (this.#told === told) this.#told = null;
    }
  }

  /** All of them: the server keeps 1,000. */
  async #invited(into) {
    let after = null;
    do {
      const page = await this.#page.session.request("inbox.invitations", { limit: PAGE, ...(after && { after }) });
      for (const { topic, ...invitation } of page.invitations) into.set(topic, invitation);
      after = page.more ? page.invitations.at(-1).topic : null;
    } while (after);
  }

  /** Somebody asks this user into a group, or does not any more. */
  invited({ topic, by, name }) {
    this.#take(() => {
      if (by === undefined) this.#invitations.delete(topic);
      else this.#invitations.set(topic, { by, name });
    });
  }

  /** The server told this user's devices what somebody is now. */
  told({ user, state, text = "" }) {
    this.#take(() => {
      if (state === "stranger") this.#people.delete(user);
      else this.#people.set(user, { state, text });
    });
    if (state === "contact") this.#page.presence.want([user]);
  }

  #take(news) {
    news();
    this.#told?.push(news);
    this.show();
  }

  /** Asks for a change; what it became is told on the personal topic. */
  async act(op, user, fields = {}) {
    try {
      await this.#page.session.request(`contact.${op}`, { user, ...fields });
    } catch (error) {
      toast(error.message);
    }
  }

  /** The buttons for what can be done about somebody. */
  actions(user) {
    const act = (text, op, className = "quiet") => button(className, text, () => this.act(op, user), { "data-act": op });
    return {
      stranger: () => [act("Add to contacts", "request"), act("Block", "block", "quiet danger")],
      incoming: () => [act("Accept", "accept", "quiet is-main"), act("Decline", "decline"), act("Block", "block", "quiet danger")],
      outgoing: () => [act("Take request back", "remove")],
      contact: () => [act("Remove from contacts", "remove"), act("Block", "block", "quiet danger")],
      blocked: () => [act("Unblock", "unblock")],
    }[this.stateOf(user)]();
  }

  show() {
    this.#onChange();
    const parts = [this.#invitedPart(), ...LISTS.map((list) => this.#part(list))].filter(Boolean);
    if (!parts.length) parts.push(element("p", "hint", "Nobody yet. Search for people by name, and add them from their conversation."));
    redraw($("contacts"), ...parts);
  }

  #invitedPart() {
    if (!this.#invitations.size) return null;
    const part = element("section", "", element("h2", "", "Invitations ", element("span", "count", String(this.#invitations.size))));
    part.dataset.key = part.dataset.state = "invited";
    const rows = [...this.#invitations].map(([topic, { by, name }]) => {
      const said = element("span", "said", element("span", "name", name), element("small", "", `from ${by}`));
      const words = element("span", "person-link", avatar(name, { isGroup: true }), said);
      const join = button("quiet is-main", "Accept", () => this.#answer("chat.join", topic), { "data-act": "join" });
      const row = element("li", "person", words, element("span", "person-acts", join, button("quiet", "Decline", () => this.#answer("chat.decline", topic), { "data-act": "decline" })));
      row.dataset.topic = topic;
      return row;
    });
    part.append(element("ul", "persons", ...rows));
    return part;
  }

  async #answer(op, topic) {
    try {
      await this.#page.session.request(op, { topic });
      this.invited({ topic });
      if (op === "chat.join") this.#page.open(topic);
    } catch (error) {
      toast(error.message);
    }
  }

  #part(list) {
    const { state, title, op } = list;
    const users = namesOf(this.#people, state);
    if (!users.length) return null;
    users.sort((a, b) => a.localeCompare(b));
    const part = element("section", "", element("h2", "", title, " ", element("span", "count", String(users.length))));
    part.dataset.key = part.dataset.state = state;
    part.append(element("ul", "persons", ...users.map((user) => this.#person(user))));
    const more = async () => {
      this.#wanted.set(op, users.length + PAGE); // a load that is under way, or has to wait for a connection, goes as far
      await this.#more(list).catch((error) => toast(error.message));
      this.show();
    };
    if (this.#after.has(op)) part.append(button("quiet wide", "Show more", more, { "data-act": "more" }));
    return part;
  }

  #person(user) {
    const { session, presence, open } = this.#page;
    const face = avatar(user, { user });
    presence.paint(face);
    const { state, text } = this.#people.get(user);
    const link = button("person-link", "", () => open(directTopic(session.user, user)), { "aria-label": `Write to ${user}` });
    link.append(face, element("span", "said", element("span", "name", user), element("small", "", text)));
    const row = element("li", "person", link);
    row.dataset.user = user;
    if (state !== "contact") row.append(element("span", "person-acts", ...this.actions(user)));
    return row;
  }

  /** Whether a list is shorter than it is shown or wanted, and the server has more of it. */
  #lacks({ op, state }, { people, after }) {
    const wanted = Math.max(this.#wanted.get(op) ?? 0, namesOf(this.#people, state).length);
    return after.has(op) && namesOf(people, state).length < wanted;
  }

  async #more({ op, state }, { people, after: pages } = { people: this.#people, after: this.#after }) {
    const after = pages.get(op);
    const { users, more } = await this.#page.session.request(op, { limit: PAGE, ...(after && { after }) });
    for (const { user, text = "" } of users) people.set(user, { state, text });
    if (more) pages.set(op, users.at(-1).user);
    else pages.delete(op);
    if (state === "contact") this.#page.presence.want(users.map(({ user }) => user));
  }
}

function namesOf(people, state) {
  return [...people].filter(([, person]) => person.state === state).map(([user]) => user);
}
