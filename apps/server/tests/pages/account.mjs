// Somebody with an account at the messenger's page: what a person does there, and what is on the screen.

import { BASE, newPage, PATIENCE_MS, RUN, until } from "./harness.mjs";

const PASSWORD = "correct horse battery";
/** A picture of another site, as its server gives it: one pixel. */
const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkaPhfDwAEhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
export const PICTURES = "https://pictures.example";

export class Account {
  /** Signs in on a new device; `how` is "register", "login" or "guest". `options` are those of the browser's context, `meddle` runs in the page first. */
  static async enter(how, name, options = {}, query = "", meddle = null) {
    const page = await newPage(name, options, meddle);
    const account = new Account(page, name);
    await page.context().route(`${PICTURES}/**`, (route) => {
      account.fetched += 1;
      return route.fulfill({ contentType: "image/png", body: PIXEL });
    });
    page.on("dialog", (dialog) => dialog.accept());
    await page.goto(`${BASE}/chat${query}`);
    await account.signIn(how);
    return account;
  }

  /** Pictures of other sites that the page asked for. */
  fetched = 0;

  constructor(page, name) {
    this.page = page;
    this.name = name;
  }

  async signIn(how) {
    await this.page.click(`.ways label:has(input[value=${how}])`);
    await this.page.fill("#name", this.name);
    if (how !== "guest") await this.page.fill("#password", PASSWORD);
    await this.page.click("#enter");
    await this.isOnline();
  }

  isOnline() {
    return this.page.waitForSelector('#badge[data-state="online"]');
  }

  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
  }

  /** The messages on the screen: {text, from, isOwn, state, offset, isEdited, isRecalled}. */
  messages() {
    return this.page.$$eval("#messages .message, #pending .message", (rows) =>
      rows.map((row) => ({
        text: row.querySelector(".text").textContent, from: row.dataset.from, isOwn: row.classList.contains("own"), state: row.dataset.state,
        offset: Number(row.dataset.offset ?? 0), isEdited: !row.querySelector(".edited").hidden, isRecalled: row.classList.contains("is-recalled"),
      })),
    );
  }

  async last() {
    return (await this.messages()).at(-1) ?? {};
  }

  sees(text) {
    return until(async () => (await this.messages()).some((message) => message.text.includes(text)));
  }

  notices() {
    return this.page.$$eval("#messages .notice", (lines) => lines.map((line) => line.textContent));
  }

  hasNotice(text) {
    return until(async () => (await this.notices()).some((line) => line.includes(text)));
  }

  /** The line of a conversation in the list: {title, last, unread, isMuted}, or null. */
  line(title) {
    return this.page.$$eval("#chats a", (links, wanted) => {
      const link = links.find((one) => one.querySelector(".line-name").textContent === wanted);
      if (!link) return null;
      return {
        title: wanted, last: link.querySelector(".line-last").textContent, unread: Number(link.querySelector(".unread")?.textContent ?? 0),
        presence: link.querySelector(".avatar").dataset.presence ?? "", isCurrent: link.hasAttribute("aria-current"),
      };
    }, title);
  }

  lines() {
    return this.page.$$eval("#chats .line-name", (names) => names.map((name) => name.textContent));
  }

  async open(title) {
    const link = this.page.locator("#chats a", { has: this.page.locator(".line-name", { hasText: new RegExp(`^${title}$`) }) });
    await link.click();
    await this.isOpen(title);
  }

  isOpen(title) {
    return this.page.waitForFunction((wanted) => document.getElementById("room-name").textContent === wanted, title, { timeout: PATIENCE_MS });
  }

  /** Finds a person by the beginning of the name, and opens the conversation with it. */
  async find(name, prefix) {
    await this.page.fill("#search", prefix);
    await this.page.click(`#found a:has-text("${name}")`);
    await this.isOpen(name);
  }

  /** Chooses something from the menu of the message that says `text`. */
  async choose(text, act) {
    const row = this.page.locator("#messages .message", { hasText: text }).last();
    await row.hover();
    await row.locator(".act").click();
    await this.page.click(`#menu [data-act=${act}]`);
  }

  async tab(name) {
    await this.page.click(`#tab-${name}`);
  }

  /** Opens what is known of the conversation. */
  async about() {
    if (!(await this.page.isVisible("#details"))) await this.page.click("#open-details");
  }

  /** Presses a button of the open conversation's side, or of one member there. */
  async act(act, member = null) {
    await this.about();
    if (!member) return this.page.click(`#about [data-act=${act}]`);
    const row = `#members [data-user="${member}"]`;
    if ((await this.page.getAttribute(`${row} .member-link`, "aria-expanded")) !== "true") await this.page.click(`${row} .member-link`);
    return this.page.click(`${row} [data-act=${act}]`);
  }

  /** Saves the settings of the group that is open, which closes them. */
  async save() {
    await this.act("save");
    await this.page.waitForSelector("#about .settings:not([open])");
  }

  /** Presses the mouse on something, lets others do `meanwhile`, and lets go of it there. */
  async press(selector, meanwhile) {
    const { x, y, width, height } = await this.page.locator(selector).boundingBox();
    await this.page.mouse.move(x + width / 2, y + height / 2);
    await this.page.mouse.down();
    await meanwhile();
    await this.page.mouse.up();
  }

  /** Another page of the same browser. */
  async another(query = "") {
    const page = await this.page.context().newPage();
    await page.goto(`${BASE}/chat${query}`);
    const account = new Account(page, this.name);
    await account.isOnline();
    return account;
  }

  member(name) {
    return this.page.$eval(`#members [data-user="${name}"]`, ({ dataset }) => ({ role: dataset.role, isMuted: "muted" in dataset })).catch(() => null);
  }

  async pick(root, name) {
    await this.page.fill(`${root} .picker-field`, name.slice(0, -1));
    await this.page.click(`${root} .pick:has-text("${name}")`);
  }

  /** Makes a group, and opens it. */
  async create(title, people) {
    await this.page.click("#new-chat");
    await this.page.fill("#new-name", title);
    for (const name of people) await this.pick("#new-people", name);
    await this.page.click("#new-create");
    await this.isOpen(title);
  }

  async sendLink(url, caption = "") {
    await this.page.click("#attach");
    await this.page.fill("#link-url", url);
    await this.page.fill("#link-caption", caption);
    await this.page.click("#link-send");
  }

  async drop(ms) {
    await this.page.evaluate((away) => window.ringshard.drop(away), ms);
  }

  /** Has no connection while others do `meanwhile`, and then one on which all that the page asks is answered: whether it is. */
  async away(meanwhile = () => {}) {
    await this.drop(60_000);
    await meanwhile();
    await this.page.evaluate(countAsked);
    await this.drop(0);
    await this.isOnline();
    return until(() => this.page.evaluate(isAnswered));
  }

  topic() {
    return this.page.evaluate(() => new URLSearchParams(location.search).get("topic"));
  }
}

/** In a page: counts what is asked of the server and not answered yet. The dots of people may come later: the server is slow to tell them. */
function countAsked() {
  if (window.asked !== undefined) return;
  const { session } = window.ringshard;
  const request = session.request.bind(session);
  window.asked = 0;
  session.request = async (op, body) => {
    if (op.startsWith("presence.")) return request(op, body);
    window.asked += 1;
    try {
      return await request(op, body);
    } finally {
      window.asked -= 1;
    }
  };
}

/** In a page: whether it listens again to what makes it ask, and has its answers. */
function isAnswered() {
  const { session } = window.ringshard;
  const open = new URLSearchParams(location.search).get("topic");
  return session.isJoined(`chat/u/${session.user}`) && (!open || session.isJoined(open)) && window.asked === 0;
}

export function named(name) {
  return `${name}-${RUN}`;
}
