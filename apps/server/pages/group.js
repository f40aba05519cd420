// A group's side: its rules, its members in pages with what may be done to each, whom it keeps out, and leaving it.

import { Picker } from "./chats.js";
import { $, arrowKeys, avatar, button, copy, counted, element, toast } from "./dom.js";
import { lineActions } from "./line.js";
import { lasting, redraw } from "./redraw.js";
import { Rules } from "./rules.js";

const PAGE = 50;
/** The most members of one answer. */
const LIMIT_MAX = 200;
const RANKS = { member: 0, admin: 1, owner: 2 };
const MUTES = [["mute", "Mute 1 hour", 3_600_000], ["mute-day", "Mute 1 day", 86_400_000]];
/** Answers after which nothing of the group is shown; after others it stays as it was. */
const GONE = new Set(["not_found", "permission_denied", "unauthenticated"]);

export class Group {
  #page;
  #root;
  #info = null;
  #members = [];
  #more = false;
  #wanted = PAGE; // members
  #openMember = null;
  #invited = { rows: [], more: false };
  #banned = { rows: [], more: false };
  // What a user works in is made once, and stays while the group is drawn anew around it.
  #rules = null;
  #inviting = null;
  #isLoading = false;
  #isStale = false;
  #isClosed = false;

  constructor(page, root) {
    this.#page = page;
    this.#root = root;
    this.topic = page.thread.topic;
  }

  get role() {
    return this.#info?.you?.role ?? null;
  }

  get #isAdmin() {
    return RANKS[this.role] >= RANKS.admin;
  }

  /** Asks the server for all of it anew, and once more if something changes meanwhile. Members that were shown stay. */
  async load() {
    this.#isStale = true;
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      while (this.#isStale && this.#isOpen) {
        this.#isStale = false;
        await this.#askAll().catch((error) => this.#failed(error));
        if (this.#isOpen && this.#info) this.#draw();
      }
    } finally {
      this.#isLoading = false;
    }
  }

  /** Another conversation has its place: what is still under way is not shown. */
  close() {
    this.#isClosed = true;
  }

  async #askAll() {
    const info = await this.#ask("chat.info");
    const role = info.you?.role;
    if (role) await this.#askMembers();
    const isAdmin = RANKS[role] >= RANKS.admin;
    const lists = isAdmin ? [this.#ask("chat.invitations", { limit: PAGE }), this.#ask("chat.bans", { limit: PAGE })] : [];
    const [invited, banned] = await Promise.all(lists);
    this.#info = info;
    this.#invited = { rows: invited?.invitations ?? [], more: invited?.more };
    this.#banned = { rows: banned?.bans ?? [], more: banned?.more };
  }

  #failed(error) {
    if (error.code === "unavailable") return; // the next connection asks again
    if (this.#info && !GONE.has(error.code)) return toast(error.message);
    this.#info = this.#rules = this.#inviting = null;
    if (this.#isOpen) redraw(this.#root, element("p", "hint", error.message), lineActions(this.#page));
  }

  get #isOpen() {
    return !this.#isClosed && this.#page.thread?.topic === this.topic;
  }

  async #askMembers() {
    const found = [];
    let hasMore = true;
    while (hasMore && found.length < this.#wanted) {
      const limit = Math.min(LIMIT_MAX, this.#wanted - found.length);
      const { members, more } = await this.#ask("chat.members", { limit, ...(found.length && { after: found.at(-1).user }) });
      found.push(...members);
      hasMore = more && members.length > 0;
    }
    this.#members = found;
    this.#more = hasMore;
    this.#page.presence.want(found.map(({ user }) => user));
  }

  #draw() {
    const info = this.#info;
    redraw(
      this.#root,
      element("div", "face", avatar(info.name, { isGroup: true }), element("h3", "", info.name), element("small", "", groupWords(info))),
      this.role ? lineActions(this.#page) : button("primary wide", "Join this group", () => this.#join(), { "data-act": "join" }),
      this.#rulesPart(),
      this.#invitingPart(),
      this.role && this.#memberList(),
      this.#isAdmin && this.#invitedPart(),
      this.#isAdmin && this.#bannedPart(),
      this.role && button("quiet danger wide", "Leave group", () => this.#leave(), { "data-act": "leave" }),
    );
  }

  #rulesPart() {
    if (!this.#isAdmin) return (this.#rules = null);
    this.#rules ??= new Rules((wanted) => this.#save(wanted));
    this.#rules.show(this.#info);
    return this.#rules.root;
  }

  async #save({ name, ...rules }) {
    const { name: before, open, slow_ms: slowMs } = this.#info;
    const isNamed = name === before || (await this.#do("chat.rename", { name }));
    const isSame = rules.open === open && rules.slow_ms === slowMs;
    const isSaved = (isSame || (await this.#do("chat.settings", rules))) && isNamed;
    this.load();
    return Boolean(isSaved);
  }

  #invitingPart() {
    const { open } = this.#info;
    if (!this.role || !(this.#isAdmin || open)) return (this.#inviting = null);
    this.#inviting ??= this.#newInviting();
    this.#inviting.querySelector("[data-act=link]").hidden = !open;
    return this.#inviting;
  }

  #newInviting() {
    const part = lasting(element("section", "inviting", element("h2", "", "Invite")));
    const root = element("div", "picker");
    const picker = new Picker(this.#page.session, root);
    const invite = async () => {
      if (!picker.users.length) return;
      const answer = await this.#do("chat.invite", { users: picker.users });
      if (answer?.invited?.length) toast(`Asked: ${answer.invited.join(", ")}`);
      if (!answer) return;
      picker.clear();
      this.load();
    };
    const address = `${location.origin}${location.pathname}?topic=${encodeURIComponent(this.topic)}`;
    const link = () => copy(address, "The link is copied.");
    part.append(root, button("quiet is-main", "Invite", invite, { "data-act": "invite" }), button("quiet", "Copy link", link, { "data-act": "link" }));
    return part;
  }

  #memberList() {
    const list = element("ul", "members", ...this.#members.map((member) => this.#member(member)));
    list.id = "members";
    arrowKeys(list, ".member-link");
    const more = button("quiet wide", "Show more", () => {
      this.#wanted = this.#members.length + PAGE;
      this.load();
    }, { "data-act": "more" });
    more.hidden = !this.#more;
    const part = element("section", "", element("h2", "", "Members ", element("span", "count", this.#info.members.toLocaleString())), list, more);
    part.dataset.key = "members";
    return part;
  }

  #member(member) {
    const { session, presence } = this.#page;
    const { user, role, muted_until_ms: mutedUntil } = member;
    const face = avatar(user, { user });
    presence.paint(face);
    const isMuted = mutedUntil > Date.now();
    const isOpen = this.#openMember === user;
    const link = button("member-link", "", () => {
      this.#openMember = isOpen ? null : user;
      this.#draw();
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
    const act = (name, text, op, fields = () => ({}), danger = "") =>
      acts.push(button(`quiet ${danger}`, text, () => this.#do(op, { user, ...fields() }).then(() => this.load()), { "data-act": name }));
    if (this.role === "owner") {
      if (role === "member") act("admin", "Make admin", "chat.role", () => ({ role: "admin" }));
      else act("member", "Make member", "chat.role", () => ({ role: "member" }));
      act("owner", "Make owner", "chat.role", () => ({ role: "owner" }));
    }
    if (this.#isAdmin && RANKS[this.role] > RANKS[role]) {
      if (isMuted) act("unmute", "Let write again", "chat.mute");
      else for (const [name, text, ms] of MUTES) act(name, text, "chat.mute", () => ({ until_ms: Date.now() + ms }));
      act("remove", "Remove", "chat.remove", undefined, "danger");
      act("ban", "Ban", "chat.ban", undefined, "danger");
    }
    return acts;
  }

  #invitedPart() {
    const rows = this.#invited.rows.map(({ user, by }) => this.#kept(user, `asked by ${by}`, "Take back", "withdraw", "chat.remove"));
    return keptPart("Invited", "invited", rows, this.#invited.more);
  }

  #bannedPart() {
    const held = this.#banned.rows.filter(({ until_ms: until }) => !until || until > Date.now());
    const rows = held.map(({ user, by }) => this.#kept(user, `by ${by}`, "Lift ban", "unban", "chat.unban"));
    return keptPart("Banned", "bans", rows, this.#banned.more);
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

/** People who are kept in a list of the group, or nothing. */
function keptPart(title, name, rows, hasMore) {
  if (!rows.length) return null;
  const part = element("section", "", element("h2", "", title), element("ul", name, ...rows), hasMore ? "and more" : "");
  part.dataset.key = name;
  return part;
}
