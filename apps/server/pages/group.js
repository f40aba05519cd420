// A group's side: its rules, its members in pages with what may be done to each, whom it keeps out, and leaving it.

import { Picker } from "./chats.js";
import { $, arrowKeys, avatar, button, copy, counted, element, toast } from "./dom.js";
import { lineActions } from "./line.js";

const PAGE = 50;
const RANKS = { member: 0, admin: 1, owner: 2 };
const MUTES = [["Mute 1 hour", 3_600_000], ["Mute 1 day", 86_400_000]];
/** Times between two messages of one member that can be chosen, in seconds. */
const SLOW_SECS = [0, 5, 30, 60, 300];

export class Group {
  #page;
  #root;
  #info = null;
  #members = [];
  #more = false;
  #openMember = null;

  constructor(page, root) {
    this.#page = page;
    this.#root = root;
    this.topic = page.thread.topic;
  }

  get role() {
    return this.#info?.you?.role ?? null;
  }

  /** Asks the server for all of it anew; a page of members that was open stays as long. */
  async load() {
    try {
      this.#info = await this.#ask("chat.info");
      if (this.role) await this.#pageOfMembers(Math.max(PAGE, this.#members.length));
      if (this.#isOpen) await this.#show();
    } catch (error) {
      if (error.code === "unavailable") return; // the next connection asks again
      this.#info = null;
      if (this.#isOpen) this.#root.replaceChildren(element("p", "hint", error.message), lineActions(this.#page));
    }
  }

  get #isOpen() {
    return this.#page.thread.topic === this.topic;
  }

  async #pageOfMembers(limit, after) {
    const { members, more } = await this.#ask("chat.members", { limit: Math.min(200, limit), ...(after && { after }) });
    this.#members = after ? [...this.#members, ...members] : members;
    this.#more = more;
    this.#page.presence.want(members.map(({ user }) => user));
  }

  async #show() {
    const info = this.#info;
    const isAdmin = RANKS[this.role] >= RANKS.admin;
    const [invitations, bans] = isAdmin ? await Promise.all([this.#invitations(), this.#bans()]) : [[], []];
    const parts = [
      element("div", "face", avatar(info.name, { isGroup: true }), element("h3", "", info.name), element("small", "", groupWords(info))),
      this.role ? lineActions(this.#page) : button("primary wide", "Join this group", () => this.#join(), { "data-act": "join" }),
      isAdmin && this.#rules(),
      this.role && (isAdmin || info.open) && this.#inviting(),
      this.role && this.#memberList(),
      ...invitations,
      ...bans,
      this.role && button("quiet danger wide", "Leave group", () => this.#leave(), { "data-act": "leave" }),
    ];
    this.#root.replaceChildren(...parts.filter(Boolean));
  }

  #rules() {
    const form = element("form", "rules");
    const part = element("details", "settings", element("summary", "", "Settings"), form);
    const name = element("input");
    Object.assign(name, { value: this.#info.name, maxLength: 64, required: true, id: "group-name" });
    const open = element("input");
    Object.assign(open, { type: "checkbox", checked: this.#info.open, id: "group-open" });
    const slow = element("select");
    slow.id = "group-slow";
    const secs = [...new Set([...SLOW_SECS, this.#info.slow_ms / 1_000])].sort((a, b) => a - b);
    slow.append(...secs.map((one) => Object.assign(element("option", "", one ? `One message in ${one} s` : "As fast as they like"), { value: one * 1_000 })));
    slow.value = this.#info.slow_ms;
    const save = button("quiet is-main", "Save", () => {}, { "data-act": "save" });
    save.type = "submit";
    form.append(field("Name", name), field("Members write", slow), element("label", "check", open, "Everybody may join"), save);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (name.value.trim() !== this.#info.name) await this.#do("chat.rename", { name: name.value.trim() });
      const rules = { open: open.checked, slow_ms: Number(slow.value) };
      if (rules.open !== this.#info.open || rules.slow_ms !== this.#info.slow_ms) await this.#do("chat.settings", rules);
      this.load();
    });
    return part;
  }

  #inviting() {
    const part = element("section", "inviting", element("h2", "", "Invite"));
    const root = element("div", "picker");
    const picker = new Picker(this.#page.session, root);
    const invite = async () => {
      if (!picker.users.length) return;
      const answer = await this.#do("chat.invite", { users: picker.users });
      if (answer?.invited?.length) toast(`Asked: ${answer.invited.join(", ")}`);
      if (answer) this.load();
    };
    part.append(root, button("quiet is-main", "Invite", invite, { "data-act": "invite" }));
    const address = `${location.origin}${location.pathname}?topic=${encodeURIComponent(this.topic)}`;
    const link = () => copy(address, "The link is copied.");
    if (this.#info.open) part.append(button("quiet", "Copy link", link, { "data-act": "link" }));
    return part;
  }

  #memberList() {
    const list = element("ul", "members");
    list.id = "members";
    arrowKeys(list, ".member-link");
    const draw = () => list.replaceChildren(...this.#members.map((member) => this.#member(member, draw)));
    draw();
    const part = element("section", "", element("h2", "", "Members ", element("span", "count", this.#info.members.toLocaleString())), list);
    const more = button("quiet wide", "Show more", async () => {
      await this.#pageOfMembers(PAGE, this.#members.at(-1).user).catch((error) => toast(error.message));
      draw();
      more.hidden = !this.#more;
    }, { "data-act": "more" });
    more.hidden = !this.#more;
    part.append(more);
    return part;
  }

  #member(member, draw) {
    const { session, presence } = this.#page;
    const { user, role, muted_until_ms: mutedUntil } = member;
    const face = avatar(user, { user });
    presence.paint(face);
    const isMuted = mutedUntil > Date.now();
    const isOpen = this.#openMember === user;
    const link = button("member-link", "", () => {
      this.#openMember = isOpen ? null : user;
      draw();
      $("members").querySelector(`[data-user="${CSS.escape(user)}"] .member-link`)?.focus();
    }, { "aria-expanded": String(isOpen) });
    const notes = [user === session.user && "you", isMuted && "muted"].filter(Boolean).join(" · ");
    link.append(face, element("span", "name", user), element("small", "", notes));
    if (role !== "member") link.append(element("span", `role is-${role}`, role));
    const row = element("li", "member", link);
    Object.assign(row.dataset, { user, role, ...(isMuted && { muted: "" }) });
    if (isOpen) row.append(element("div", "acts", ...this.#memberActions(member, isMuted)));
    return row;
  }

  #memberActions({ user, role }, isMuted) {
    const { session, write } = this.#page;
    if (user === session.user) return [element("span", "hint", "This is you.")];
    const acts = [button("quiet", "Write", () => write(user), { "data-act": "write" })];
    const act = (name, text, op, fields = {}, danger = "") =>
      acts.push(button(`quiet ${danger}`, text, () => this.#do(op, { user, ...fields }).then(() => this.load()), { "data-act": name }));
    if (this.role === "owner") {
      if (role === "member") act("admin", "Make admin", "chat.role", { role: "admin" });
      else act("member", "Make member", "chat.role", { role: "member" });
      act("owner", "Make owner", "chat.role", { role: "owner" });
    }
    if (RANKS[this.role] >= RANKS.admin && RANKS[this.role] > RANKS[role]) {
      if (isMuted) act("unmute", "Let write again", "chat.mute");
      else for (const [text, ms] of MUTES) act(ms === MUTES[0][1] ? "mute" : "mute-day", text, "chat.mute", { until_ms: Date.now() + ms });
      act("remove", "Remove", "chat.remove", {}, "danger");
      act("ban", "Ban", "chat.ban", {}, "danger");
    }
    return acts;
  }

  async #invitations() {
    const { invitations, more } = await this.#ask("chat.invitations", { limit: PAGE });
    if (!invitations.length) return [];
    const rows = invitations.map(({ user, by }) => this.#kept(user, `asked by ${by}`, "Take back", "withdraw", "chat.remove"));
    return [element("section", "", element("h2", "", "Invited"), element("ul", "invited", ...rows), more ? "and more" : "")];
  }

  async #bans() {
    const { bans, more } = await this.#ask("chat.bans", { limit: PAGE });
    const held = bans.filter(({ until_ms: until }) => !until || until > Date.now());
    if (!held.length) return [];
    const rows = held.map(({ user, by }) => this.#kept(user, `by ${by}`, "Lift ban", "unban", "chat.unban"));
    return [element("section", "", element("h2", "", "Banned"), element("ul", "bans", ...rows), more ? "and more" : "")];
  }

  #kept(user, words, text, act, op) {
    const undo = button("quiet", text, () => this.#do(op, { user }).then(() => this.load()), { "data-act": act });
    const row = element("li", "person", element("span", "person-link", avatar(user), element("span", "name", user), element("small", "", words)), undo);
    row.dataset.user = user;
    return row;
  }

  async #join() {
    if (await this.#do("chat.join")) this.#page.open(this.topic, { isAgain: true });
  }

  async #leave() {
    if (!confirm(`Leave “${this.#info.name}”?`)) return;
    if (await this.#do("chat.leave")) this.#page.leaveTo();
  }

  #ask(op, fields = {}) {
    return this.#page.session.request(op, { topic: this.topic, ...fields });
  }

  /** Asks, and tells what is wrong; the answer, or null. */
  async #do(op, fields = {}) {
    try {
      return await this.#ask(op, fields);
    } catch (error) {
      toast(error.message);
      return null;
    }
  }
}

/** What a group has, in words. */
export function groupWords({ members, open, slow_ms: slowMs }) {
  return `${counted(members, "member")} · ${open ? "open to everybody" : "by invitation"}${slowMs ? ` · slow, ${slowMs / 1_000} s` : ""}`;
}

function field(text, input) {
  return element("label", "field", element("span", "", text), input);
}
