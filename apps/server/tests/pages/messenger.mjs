// The messenger as people use it: three accounts, one of them on two devices, from finding each other to leaving.
//
//   BASE=http://127.0.0.1:8080 CHROMIUM=/usr/bin/chromium [SHOTS=dir] node messenger.mjs
//
// The server has to take more messages of one user and more registrations from here than by itself (RINGSHARD_CHAT_RATE_MIN
// and RINGSHARD_AUTH_LOGINS_PER_MIN_ADDRESS). Prints one line per check; exits 0 if all hold, else 1. `harness.mjs` says
// what it needs.

import { Account, named, PICTURES } from "./account.mjs";
import { amidst, demoted, pressed } from "./amidst.mjs";
import { BASE, check, pause, RUN, shot, tell, until } from "./harness.mjs";
import { unfolded } from "./kept.mjs";
import { everywhere, namesakes } from "./oneself.mjs";
import { acquaintances, pages } from "./paged.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: "dark" };
/** Long enough for what must not come. */
const SETTLE_MS = 600;
/** More than two pages of history. */
const MANY = 150;

await tell(story);

async function story() {
  const ada = await Account.enter("register", named("ada"));
  const bob = await Account.enter("register", named("bob"), { colorScheme: "dark" }, "?transport=websocket");
  const eve = await Account.enter("register", named("eve"));
  await finding(ada, bob);
  const phone = await Account.enter("login", ada.name, PHONE);
  await devices(ada, bob, phone);
  await ticks(ada, bob);
  await typing(ada, bob);
  await changes(ada, bob, phone);
  await answers(ada, bob);
  await files(ada, bob);
  await unfolded(ada, bob);
  await contacts(ada, bob);
  await group(ada, bob, eve);
  await rules(ada, bob, eve);
  await amidst(ada, bob, eve);
  await demoted(ada, bob);
  await pressed(ada, bob, eve);
  await keptOut(ada, bob, eve);
  await openGroup(ada, eve);
  await unread(ada, bob, phone);
  await order(ada, bob);
  await outbox(ada, bob);
  await history(ada, bob);
  await keyboard(ada);
  await small(phone, bob);
  await pages(ada, bob, phone);
  await acquaintances();
  await blocking(ada, bob);
  await namesakes();
  await everywhere(bob);
  await goodbye(ada);
}

async function finding(ada, bob) {
  check(await ada.page.isVisible("#no-chats"), "an account without conversations is told what to do");
  await ada.find(bob.name, bob.name.slice(0, 5));
  check((await ada.topic()).startsWith("chat/d/"), "a person is found by the beginning of the name, and written to");
  await ada.say("hello bob");
  check(await until(async () => (await bob.line(ada.name))?.unread === 1), "bob's list shows ada with one unread message");
  check((await bob.line(ada.name)).last === "hello bob", "and what she said");
  check(await until(async () => (await bob.page.title()).startsWith("(1)")), "and so does the title");
}

async function devices(ada, bob, phone) {
  check(await until(async () => (await phone.line(bob.name))?.last === "You: hello bob"), "a second device has the conversation");
  await phone.open(bob.name);
  check(await phone.sees("hello bob"), "and what was said in it");
  check((await phone.last()).isOwn, "as the user's own");
  await phone.say("from my phone");
  check(await ada.sees("from my phone"), "what one device says is on the other one");
  check((await ada.last()).isOwn, "as an own message");
}

async function ticks(ada, bob) {
  const state = () => ada.messages().then((all) => all.at(-1).state);
  check(await until(async () => (await state()) === "delivered"), "two ticks: delivered to bob, who has not looked");
  await pause(SETTLE_MS);
  check((await state()) === "delivered", "and not read before he does");
  await bob.open(ada.name);
  check(await until(async () => (await state()) === "read"), "read when bob opens the conversation");
  check(await until(async () => (await bob.line(ada.name)).unread === 0), "and nothing is unread for him");
  check((await bob.page.$$("#messages .day")).length === 1, "the day stands above the messages");
}

async function typing(ada, bob) {
  await ada.page.fill("#text", "well");
  check(await until(async () => (await bob.page.textContent("#typing")).includes(ada.name)), "bob sees that ada is typing");
  await ada.page.fill("#text", "");
  check(await until(async () => (await bob.page.textContent("#typing")) === ""), "and that she has stopped");
}

async function changes(ada, bob, phone) {
  await ada.say("a mistke");
  await bob.sees("a mistke");
  await ada.page.press("#text", "ArrowUp");
  check((await ada.page.inputValue("#text")) === "a mistke", "arrow up takes the last own message");
  await ada.page.press("#text", "Escape");
  check((await ada.page.inputValue("#text")) === "", "and Escape lets go of it");
  await ada.page.press("#text", "ArrowUp");
  await ada.say("a mistake");
  for (const reader of [ada, bob, phone]) {
    check(await until(async () => (await reader.last()).text === "a mistake" && (await reader.last()).isEdited), "an edit is on every page, and said to be one");
  }
  await ada.say("better not");
  await bob.sees("better not");
  await ada.choose("better not", "recall");
  for (const reader of [ada, bob, phone]) check(await until(async () => (await reader.last()).isRecalled), "so is a recall");
  check(!(await bob.messages()).some(({ text }) => text.includes("better not")), "and the text is gone");
  await bob.page.reload();
  await bob.isOnline();
  check(await until(async () => (await bob.messages()).some(({ isEdited }) => isEdited) && (await bob.last()).isRecalled), "both also after a reload");
}

async function answers(ada, bob) {
  await bob.choose("hello bob", "reply");
  await bob.say("hello ada");
  const quote = () => ada.page.$eval("#messages .message:last-child .quote", (one) => (one.hidden ? "" : one.textContent));
  check(await until(async () => (await quote()).includes("hello bob")), "an answer shows what it answers");
  await bob.say(`@${ada.name} look`);
  check(await until(() => ada.page.$(".mentions-me .mention").then(Boolean)), "who is mentioned is shown it");
  await bob.say("one\ntwo\n<img src=x onerror=alert(1)>");
  check(await until(async () => (await ada.last()).text === "one\ntwo\n<img src=x onerror=alert(1)>"), "lines stay lines, and markup stays text");
}

async function files(ada, bob) {
  await ada.sendLink(`${PICTURES}/cat.png`, "my cat");
  check(await bob.sees("my cat"), "a picture by link arrives with its text");
  check(bob.fetched === 0 && (await bob.page.$$(".message img")).length === 0, "and is not fetched before bob asks for it");
  await bob.page.click(".show-picture");
  const isShown = () => bob.page.$$eval(".message img", (all) => all.length === 1 && all[0].complete && all[0].naturalWidth === 1);
  check(await until(isShown), "then it is shown");
  await ada.sendLink("https://files.example/reports/Q3%20plan.pdf");
  check(await bob.sees("Q3 plan.pdf"), "a file by link is a card with its name");
  const link = () => bob.page.$eval("#messages .message:last-child .file-link", ({ href, rel }) => ({ href, rel }));
  check((await link()).href === "https://files.example/reports/Q3%20plan.pdf" && (await link()).rel.includes("noopener"), "that leads to its address");
  for (const address of ["javascript:alert(1)", "http://files.example/a.pdf", "https://bank.example@evil.example/a.pdf"]) {
    await ada.sendLink(address);
    check((await ada.page.textContent("#link-problem")) !== "", `${address} is refused`);
    await ada.page.click("#link-cancel");
  }
  await ada.say(`${PICTURES}/dog.png`);
  check(await until(async () => (await bob.last()).text.includes("dog.png") && (await bob.page.$$(".show-picture")).length > 0), "an address of a picture becomes one");
}

async function contacts(ada, bob) {
  await bob.act("request");
  check(await until(async () => (await ada.page.textContent("#waiting")) === "1"), "a request shows at ada's tab");
  await ada.tab("contacts");
  await ada.page.click(`#contacts [data-state=incoming] [data-user="${bob.name}"] [data-act=accept]`);
  for (const [one, other] of [[ada, bob], [bob, ada]]) {
    await one.tab("contacts");
    check(await until(() => one.page.$(`#contacts [data-state=contact] [data-user="${other.name}"]`).then(Boolean)), "an accepted request makes contacts of both");
  }
  const dot = (one, other) => one.page.$eval(`#contacts [data-user="${other.name}"] .avatar`, ({ dataset }) => dataset.presence);
  check(await until(async () => (await dot(ada, bob)) === "online"), "a contact that is there has a dot");
  check(await until(async () => (await ada.page.textContent("#room-people")) === "online"), "and the conversation says so");
  await shot(ada.page, "contacts");
  for (const one of [ada, bob]) await one.tab("chats");
}

async function group(ada, bob, eve) {
  await ada.create("The crew", [bob.name, eve.name]);
  check(await ada.hasNotice("You created the group"), "a group says who made it");
  check(await until(async () => (await bob.line("The crew")) !== null), "a contact is in it at once");
  check(await until(async () => (await eve.page.textContent("#waiting")) === "1"), "somebody else is asked");
  await eve.tab("contacts");
  await shot(eve.page, "invitation");
  await eve.page.click("#contacts [data-state=invited] [data-act=join]");
  await eve.isOpen("The crew");
  await eve.tab("chats");
  check(await ada.hasNotice(`${eve.name} joined`), "and joins by saying yes");
  await bob.open("The crew");
  await ada.say("welcome all");
  for (const reader of [bob, eve]) check(await reader.sees("welcome all"), "all members hear what is said");
  check(await until(async () => (await ada.last()).state === "read"), "and the ticks say when all have read it");
  const tick = await ada.page.textContent("#messages .message:last-child .tick title");
  check(tick.includes("read by 2 of 2"), `with how many (${tick})`);
}

async function rules(ada, bob, eve) {
  await ada.act("admin", bob.name);
  check(await until(async () => (await ada.member(bob.name))?.role === "admin"), "the owner makes an admin");
  check(await bob.hasNotice(`made you an admin`), "who is told");
  await bob.act("mute", eve.name);
  check(await until(() => eve.page.isDisabled("#text")), "an admin mutes a member, who cannot write");
  check((await eve.page.getAttribute("#text", "placeholder")).includes("muted until"), "and is told until when");
  await shot(bob.page, "group-dark");
  await bob.act("unmute", eve.name);
  check(await until(async () => !(await eve.page.isDisabled("#text"))), "and lets the member write again");
  await bob.about();
  await bob.page.click("#about summary");
  await bob.page.fill("#group-name", "The whole crew");
  await bob.page.selectOption("#group-slow", "5000");
  await bob.save();
  for (const member of [ada, eve]) {
    await member.isOpen("The whole crew");
    check(await member.hasNotice("one message in 5 s"), "another name and a slow pace are on every page");
  }
  check(await until(async () => (await bob.line("The whole crew")) !== null), "and the name in the list");
}

async function keptOut(ada, bob, eve) {
  await bob.act("remove", eve.name);
  check(await until(() => eve.page.isDisabled("#text")), "a removed member cannot write");
  check(await ada.hasNotice(`${bob.name} removed ${eve.name}`), "and all are told who did it");
  await ada.say("without eve");
  await bob.sees("without eve");
  check(!(await eve.messages()).some(({ text }) => text === "without eve"), "who is out hears nothing more");
  await ada.pick(".inviting", eve.name);
  await ada.act("invite");
  check(await until(() => ada.page.$(`.invited [data-user="${eve.name}"]`).then(Boolean)), "an invitation waits for its answer");
  await ada.act("withdraw");
  check(await until(async () => (await ada.page.$(".invited")) === null), "and is taken back");
  await ada.pick(".inviting", eve.name);
  await ada.act("invite");
  await eve.tab("contacts");
  await eve.page.click("#contacts [data-state=invited] [data-act=decline]");
  check(await until(async () => (await eve.page.$("#contacts [data-state=invited]")) === null), "or declined");
  await eve.tab("chats");
}

async function openGroup(ada, eve) {
  await ada.about();
  await ada.page.click("#about summary");
  await ada.page.check("#group-open");
  await ada.save();
  await ada.hasNotice("everybody may join");
  await eve.page.goto(`${BASE}/chat?topic=${encodeURIComponent(await ada.topic())}`);
  await eve.isOnline();
  await eve.act("join");
  check(await ada.hasNotice(`${eve.name} joined`), "a group that is open is joined by its link");
  await until(async () => (await ada.member(eve.name)) !== null);
  await ada.act("ban", eve.name);
  check(await until(() => ada.page.$(`.bans [data-user="${eve.name}"]`).then(Boolean)), "a ban is listed");
  check(await until(() => eve.page.isDisabled("#text")), "and the banned one is out");
  await ada.act("unban");
  check(await until(async () => (await ada.page.$(".bans")) === null), "until it is lifted");
  await eve.page.goto(`${BASE}/chat?topic=${encodeURIComponent(await ada.topic())}`);
  await eve.isOnline();
  await eve.act("join");
  await eve.page.waitForSelector("#about [data-act=leave]");
  await eve.act("leave");
  check(await ada.hasNotice(`${eve.name} left`), "a member leaves");
}

async function unread(ada, bob, phone) {
  await phone.page.click("#open-side"); // it shows the list, and reads nothing
  await bob.open(ada.name);
  await ada.page.click("#rooms a");
  for (let round = 0; round < 3; round += 1) await bob.say(`news ${round}`);
  check(await until(async () => (await ada.line(bob.name))?.unread === 3), "three messages are unread");
  await shot(ada.page, "unread");
  await ada.page.reload();
  await ada.isOnline();
  check(await until(async () => (await ada.line(bob.name))?.unread === 3), "also after a reload");
  await ada.open(bob.name);
  check(await until(() => ada.page.$("#messages .news").then(Boolean)), "a line says where the new ones begin");
  check(await until(async () => (await ada.line(bob.name)).unread === 0), "and then none is unread");
}

async function order(ada, bob) {
  await bob.say("the newest");
  check(await until(async () => (await ada.lines())[0] === bob.name), "who wrote last is on top");
  await ada.open("The whole crew");
  await ada.act("pin");
  check(await until(async () => (await ada.lines())[0] === "The whole crew"), "but below what is pinned");
  await ada.act("mute");
  check(await until(() => ada.page.$('#chats [aria-current] .line-marks .icon').then(Boolean)), "a conversation can be muted");
  await ada.act("pin");
  await ada.open(bob.name);
  await ada.act("forget");
  check(await until(async () => (await ada.line(bob.name)) === null), "and be taken out of the list");
  await bob.say("are you there?");
  check(await until(async () => (await ada.line(bob.name)) !== null), "until somebody writes again");
  await ada.open(bob.name);
}

async function outbox(ada, bob) {
  await ada.drop(60_000);
  check(await until(() => ada.page.isVisible("#offline")), "without a connection the page says so");
  await ada.say("kept 1");
  await ada.say("kept 2");
  check((await ada.last()).state === "pending", "what is written then waits with a clock");
  await ada.page.reload();
  await ada.isOnline();
  check(await bob.sees("kept 2"), "and is sent after a reload");
  const kept = (await bob.messages()).filter(({ text }) => text.startsWith("kept"));
  check(kept.map(({ text }) => text).join() === "kept 1,kept 2", "in order, each once");
  check(await until(async () => (await ada.last()).text === "kept 2" && (await ada.last()).state === "read"), "and read");
}

async function history(ada, bob) {
  await bob.page.evaluate(async ([topic, many]) => {
    const { session } = window.ringshard;
    for (let round = 0; round < many; round += 1) session.publish(topic, { type: "text", text: `past ${round}` });
    while (session.device.entries.length) await new Promise((resolve) => setTimeout(resolve, 50));
  }, [await bob.topic(), MANY]);
  check(await ada.sees(`past ${MANY - 1}`), `bob writes ${MANY} messages`);
  await ada.page.reload();
  await ada.isOnline();
  await ada.sees(`past ${MANY - 1}`);
  check(!(await ada.messages()).some(({ text }) => text === "past 0"), "a reload shows the newest page");
  const seen = (scrollTop) => ada.page.evaluate((to) => {
    const scroller = document.getElementById("scroller");
    if (to !== undefined) scroller.scrollTop = to;
    const { top } = scroller.getBoundingClientRect();
    const row = [...document.querySelectorAll(".message")].find((one) => one.getBoundingClientRect().top >= top);
    return { text: row.querySelector(".text").textContent, at: row.getBoundingClientRect().top - top, count: document.querySelectorAll(".message").length };
  }, scrollTop);
  const before = await seen(120);
  await until(async () => (await seen()).count > before.count);
  const after = await seen();
  check(after.count > before.count && after.text === before.text && Math.abs(after.at - before.at) < 2, `older messages come above, and what was read stays in place (${before.text} ${before.at}, ${after.text} ${after.at})`);
  check(await until(async () => {
    await ada.page.evaluate(() => (document.getElementById("scroller").scrollTop = 0));
    return (await ada.messages())[0].text === "hello bob";
  }), "up to the first message of all");
  const offsets = (await ada.messages()).map(({ offset }) => offset);
  check(offsets.every((offset, index) => index === 0 || offset > offsets[index - 1]), "in order, none twice");
  await bob.say("while you read");
  check(await until(async () => (await ada.page.textContent("#jump-text")) === "1 new message"), "what comes meanwhile does not pull the reader down");
  await shot(ada.page, "history");
  await ada.page.click("#jump");
  check(await until(() => ada.page.$eval("#scroller", ({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 60)), "and one click goes there");
  await ada.page.locator("#messages .message").last().hover();
  await ada.page.locator("#messages .message .act").last().click();
  await bob.say("while you choose");
  await ada.sees("while you choose");
  await pause(SETTLE_MS);
  check(await ada.page.isVisible("#menu"), "a menu stays open when the list moves by itself");
  await ada.page.mouse.wheel(0, -50);
  check(await until(async () => !(await ada.page.isVisible("#menu"))), "and closes when somebody scrolls");
  await farBack(ada, bob, offsets[0]);
}

/** The message that is answered is on a page that is not loaded. */
async function farBack(ada, bob, offset) {
  const topic = await bob.topic();
  await bob.page.evaluate(([wanted, reply_to]) => window.ringshard.session.publish(wanted, { type: "text", text: "as you said", reply_to }), [topic, offset]);
  await ada.page.reload();
  await ada.isOnline();
  await ada.sees("as you said");
  const quote = ada.page.locator("#messages .message", { hasText: "as you said" }).locator(".quote");
  const found = () => ada.page.$$eval("#messages .found .text", (all) => all.map(({ textContent }) => textContent).join());
  await ada.drop(60_000);
  await quote.click();
  check(await until(async () => (await ada.page.textContent("#toasts")).includes("cannot be loaded now")), "without a connection it is not found, and the page goes on");
  await ada.drop(0);
  await ada.isOnline();
  check(!(await quote.textContent()).includes("hello bob"), "what was said there is not known");
  await quote.click();
  check(await until(async () => (await found()) === "hello bob"), `and with one it is (${await found()})`);
  check((await quote.textContent()).includes("hello bob"), "and what was said is shown where it is answered");
  const said = (body) => bob.page.evaluate(([topic, wanted]) => window.ringshard.session.publish(topic, wanted), [topic, body]);
  const { offset: to } = (await ada.messages()).find(({ text }) => text === "as you said");
  await said({ type: "text", text: "so it is", reply_to: to });
  await ada.sees("so it is");
  const answered = ada.page.locator("#messages .message", { hasText: "so it is" }).locator(".quote");
  await said({ type: "edit", offset: to, text: "as you say" });
  check(await until(async () => (await answered.textContent()).includes("as you say")), "an edit is also seen where it is answered");
  await said({ type: "recall", offset: to });
  check(await until(async () => !(await answered.textContent()).includes("as you sa")), "and so is a recall");
}

async function keyboard(ada) {
  const focused = () => ada.page.evaluate(() => document.activeElement.closest("[data-topic]")?.querySelector(".line-name").textContent ?? document.activeElement.id);
  await ada.page.focus("#search");
  await ada.page.keyboard.press("ArrowDown");
  const first = await focused();
  await ada.page.keyboard.press("ArrowDown");
  const second = await focused();
  check(first !== second && (await ada.lines()).includes(first), `arrow keys go through the list (${first}, ${second})`);
  await ada.page.keyboard.press("ArrowUp");
  await ada.page.keyboard.press("Enter");
  await ada.isOpen(first);
  await ada.page.waitForSelector("#messages .message");
  await ada.page.focus("#scroller");
  await ada.page.keyboard.press("ArrowUp");
  await ada.page.keyboard.press("Enter");
  check(await ada.page.isVisible("#menu"), "and through the messages, whose menu opens by Enter");
  await ada.page.keyboard.press("Escape");
  check(!(await ada.page.isVisible("#menu")), "and closes by Escape");
  await ada.page.focus("#text");
  await ada.page.keyboard.type("line one");
  await ada.page.keyboard.press("Shift+Enter");
  await ada.page.keyboard.type("line two");
  await ada.page.keyboard.press("Enter");
  check(await until(async () => (await ada.last()).text === "line one\nline two"), "Shift and Enter begin a new line, Enter sends");
}

async function small(phone, bob) {
  const isNarrow = () => phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  await phone.open(bob.name);
  await pause(SETTLE_MS);
  check(await phone.sees("while you read"), "the phone has kept up");
  check(await isNarrow(), "a conversation fits a phone");
  await shot(phone.page, "phone-talk");
  await phone.page.click("#open-side");
  await pause(SETTLE_MS);
  check((await phone.page.isVisible("#chats")) && (await isNarrow()), "so does the list");
  await shot(phone.page, "phone-list");
  await phone.open("The whole crew");
  await phone.about();
  await pause(SETTLE_MS);
  check((await phone.page.isVisible("#members")) && (await isNarrow()), "and the members of a group");
  await shot(phone.page, "phone-about");
  await phone.page.click("#close-details");
}

async function blocking(ada, bob) {
  await bob.say("back on top");
  check(await until(async () => (await ada.lines())[0] === bob.name), "a conversation far down comes up when somebody writes");
  await ada.open(bob.name);
  await ada.act("block");
  await ada.page.waitForSelector("#about [data-act=unblock]");
  await pause(SETTLE_MS);
  await bob.say("do you hear me?");
  check(await until(async () => (await bob.last()).state === "failed"), "who is blocked is not heard, and told so");
  await bob.choose("do you hear me?", "drop");
  check(!(await bob.messages()).some(({ state }) => state === "failed"), "and takes the message away");
  await ada.act("unblock");
  await ada.page.waitForSelector("#about [data-act=request]");
  await pause(SETTLE_MS);
  await bob.say("and now?");
  check(await ada.sees("and now?"), "until the block is lifted");
}

async function goodbye(ada) {
  await ada.page.click("#leave");
  check(await ada.page.isVisible("#door"), "signing out leads to the door");
  check((await ada.page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]))).includes('"token"') === false, "and leaves no token behind");
  await ada.signIn("login");
  check(await until(async () => (await ada.lines()).length > 0), "logging in again brings everything back");
}
