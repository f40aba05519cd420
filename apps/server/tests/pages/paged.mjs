// Parts of the messenger's story: long lists come in pages, and those that were shown are there on the next connection, too.

import { Account, named } from "./account.mjs";
import { check, shot, until } from "./harness.mjs";

/** More than one page of conversations, and of members. */
const CONVERSATIONS = 55;
const MEMBERS = 52;
/** Contacts of one page, and some more. */
const PAGE = 200;
const CONTACTS = PAGE + 6;

/** Conversations, and members of a group. */
export async function pages(ada, bob, phone) {
  await ada.open("The whole crew");
  await bob.say("far down");
  await until(async () => (await ada.line(bob.name)).unread === 1);
  await ada.page.evaluate(async (many) => {
    const { session } = window.ringshard;
    const fail = ({ code, message }) => Promise.reject(new Error(`${code}: ${message}`));
    for (let round = 0; round < many; round += 1) await session.request("chat.create", { name: `Group ${round}` }).catch(fail);
  }, CONVERSATIONS);
  await ada.page.reload();
  await ada.isOnline();
  check(await until(() => ada.page.isVisible("#more-chats")), "a long list of conversations has a first page");
  const first = (await ada.lines()).length;
  check(first === 50, "of fifty");
  await ada.page.click("#more-chats");
  check(await until(async () => (await ada.lines()).length >= CONVERSATIONS + 2), `and further ones (${first}, ${(await ada.lines()).length})`);
  const before = (await ada.lines()).length;
  check((await ada.line(bob.name))?.unread === 1, "of which one has an unread message");
  const isBack = await ada.away(async () => {
    await phone.page.click("#open-side");
    await phone.find(bob.name, bob.name.slice(0, 5));
    await until(async () => (await bob.last()).state === "read");
  });
  check(isBack && (await ada.lines()).length === before, "the next connection leaves none of them out");
  check(await until(async () => (await ada.line(bob.name)).unread === 0), "and knows what another device has read meanwhile");
  await ada.open("The whole crew");
  await crowd(ada, many("crowd", MEMBERS), "chat.join", { topic: await ada.topic() });
  const count = () => ada.page.$$eval("#members .member", ({ length }) => length);
  await ada.page.reload();
  await ada.isOnline();
  await ada.about();
  check(await until(async () => (await count()) === 50), "a large group shows its first members");
  await ada.act("more");
  check(await until(async () => (await count()) === MEMBERS + 2), `and the others when asked (${await count()})`);
  check((await ada.away()) && (await count()) === MEMBERS + 2, "also on the next connection");
}

/** Contacts, of whom other devices remove and block some. */
export async function acquaintances() {
  const names = many("fan", CONTACTS);
  const zoe = await Account.enter("register", named("zoe"));
  await crowd(zoe, names, "contact.request", { user: zoe.name });
  await ask(zoe, names.map((user) => ["contact.accept", { user }]));
  const shown = (state) => zoe.page.$$eval(`#contacts [data-state=${state}] .person`, (rows) => rows.map(({ dataset }) => dataset.user).join());
  const firstPage = async () => {
    await zoe.page.reload();
    await zoe.isOnline();
    await zoe.tab("contacts");
    return until(async () => (await shown("contact")) === names.slice(0, PAGE).join());
  };
  const more = () => zoe.page.click("#contacts [data-state=contact] [data-act=more]");
  check(await firstPage(), "many contacts have a first page");
  await more();
  check(await until(async () => (await shown("contact")) === names.join()), "and a further one");
  const phone = await Account.enter("login", zoe.name);
  const [blocked] = names.splice(-2, 1);
  const [removed] = names.splice(3, 1);
  check(await zoe.away(() => ask(phone, [["contact.remove", { user: removed }], ["contact.block", { user: blocked }]])), "a contact is removed and one blocked elsewhere");
  check((await shown("contact")) === names.join(), `the next connection has the others, and all of them (${(await shown("contact")).split(",").length})`);
  check((await shown("blocked")) === blocked, "and who is blocked");
  await zoe.page.locator("#contacts .person").last().scrollIntoViewIfNeeded();
  await shot(zoe.page, "contacts-further");
  check(await firstPage(), "a reload begins with the first page again");
  check((await zoe.away(more)) && (await shown("contact")) === names.join(), "what is asked for without a connection comes with the next one");
  for (const one of [zoe, phone]) await one.page.context().close();
}

/** Names in their order. */
function many(name, count) {
  return Array.from({ length: count }, (_, index) => named(`${name}-${String(index).padStart(3, "0")}`));
}

/** One question after the other from somebody's page. */
function ask(account, questions) {
  return account.page.evaluate(async (all) => {
    for (const [op, body] of all) await window.ringshard.session.request(op, body);
  }, questions);
}

/** Makes accounts, each of which asks one thing and goes. */
function crowd(account, names, op, body) {
  return account.page.evaluate(come, [names, op, body]);
}

/** In a page. */
async function come([names, op, body]) {
  for (const name of names) {
    const headers = { "content-type": "application/json" };
    const answer = await fetch("/api/v1/register", { method: "POST", headers, body: JSON.stringify({ name, password: "long enough" }) });
    const { token } = await answer.json();
    const socket = new WebSocket("/ws", "ringshard.json");
    await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(JSON.stringify({ kind: "hello", id: 1, token, device: "crowd", subs: [] }));
      socket.onerror = reject;
      socket.onmessage = ({ data }) => {
        const { id, kind, message } = JSON.parse(data);
        if (id === 1) socket.send(JSON.stringify({ kind: "req", id: 2, op, body }));
        else if (id === 2) (kind === "res" ? resolve() : reject(new Error(message)));
      };
    });
    socket.close();
  }
}
