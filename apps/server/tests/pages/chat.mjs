// Two people in one chat room: same order, ticks, presence, typing, and nothing lost or doubled by a cut connection or a reload.
//
//   BASE=http://127.0.0.1:8080 CHROMIUM=/usr/bin/chromium [SHOTS=dir] node chat.mjs
//
// Needs playwright-core (NODE_PATH or the working directory). Prints one line per check; exits 0 if all hold, else 1.

import { createRequire } from "node:module";
import { join } from "node:path";

const BASE = process.env.BASE ?? "http://127.0.0.1:8080";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
/** Whatever should happen happens within this time, or the check has failed. */
const PATIENCE_MS = 10_000;
/** Long enough for a repeat to arrive if there is one. */
const SETTLE_MS = 600;
const RUN = Date.now().toString(36).slice(-5);
const ROOM = "lobby";

const { chromium } = load("playwright-core");

/** One browser profile with a chat page, which fails the run on any error of its console. */
class Person {
  static async arrive(browser, name, errors) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => errors.push(`${name}: ${error.message}`));
    page.on("console", (line) => line.type() === "error" && errors.push(`${name}: ${line.text()}`));
    await page.goto(`${BASE}/chat?room=${ROOM}`);
    await page.fill("#name", name);
    await page.click("#enter");
    const person = new Person(page, name);
    await person.isOnline();
    return person;
  }

  constructor(page, name) {
    this.page = page;
    this.name = name;
  }

  isOnline() {
    return this.page.waitForSelector('#badge[data-state="online"]');
  }

  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
  }

  /** This run's messages in the order of the page: {text, isOwn, state}. */
  messages() {
    return this.page.$$eval(
      ".message",
      (rows, run) =>
        rows
          .map((row) => ({
            text: row.querySelector(".text").textContent, isOwn: row.classList.contains("own"), state: row.dataset.state,
            offset: row.dataset.offset ? Number(row.dataset.offset) : null,
          }))
          .filter(({ text }) => text.startsWith(run)),
      RUN,
    );
  }

  async texts() {
    return (await this.messages()).map(({ text }) => text);
  }

  /** Cuts the connection the way a lost network does, and stays away for `ms`. */
  async drop(ms) {
    await this.page.evaluate((away) => window.ringshard.drop(away), ms);
  }

  people() {
    return this.page.$$eval("#people .name", (names) => names.map((name) => name.textContent));
  }

  typing() {
    return this.page.textContent("#typing");
  }
}

const errors = [];
let failed = 0;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
try {
  await story();
} catch (error) {
  check(false, `the story goes on to its end: ${error.message.split("\n")[0]}`);
}
check(errors.length === 0, `no error in a console${errors.map((error) => `\n     ${error}`).join("")}`);
await browser.close();
console.log(failed ? `FAILED: ${failed}` : "all good");
process.exit(failed ? 1 : 0);

async function story() {
  const ada = await Person.arrive(browser, `ada-${RUN}`, errors);
  const bob = await Person.arrive(browser, `bob-${RUN}`, errors);
  const said = [];
  const say = async (person, text) => {
    said.push(`${RUN} ${text}`);
    await person.say(`${RUN} ${text}`);
  };

  await presence(ada, bob);
  await bothWays(ada, bob, said, say);
  await typing(ada, bob);
  await cut(ada, bob, said, say);
  await reload(ada, bob, said, say);
  await lostAnswer(ada, bob, said, say);
  await hostileText(ada, bob);
  // For whoever runs this beside a client of another kind: all that bob has on his page, in order.
  const all = await bob.page.$$eval(".message .text", (texts) => texts.map((text) => text.textContent));
  console.log(`timeline ${JSON.stringify(all)}`);
  await leaving(ada, bob);
}

async function presence(ada, bob) {
  const sees = (person, other) => until(async () => (await person.people()).includes(other.name));
  check(await sees(ada, bob), "ada sees bob among the people");
  check(await sees(bob, ada), "bob sees ada among the people");
  const count = Number(await ada.page.textContent("#people-count"));
  check(count >= 2, `the count of people is at least two (${count})`);
}

async function bothWays(ada, bob, said, say) {
  for (let round = 0; round < 5; round += 1) {
    await say(ada, `ada says ${round}`);
    await say(bob, `bob says ${round}`);
  }
  await checkSame(ada, bob, said, "messages both ways");
  check(await until(async () => (await ada.messages()).every(({ isOwn, state }) => !isOwn || state === "sent")), "own messages carry their tick");
  const own = (await ada.messages()).filter(({ isOwn }) => isOwn).length;
  check(own === 5, `own messages are at the right (${own} of 5)`);
  await shot(ada, "both-ways");
}

async function typing(ada, bob) {
  await ada.page.fill("#text", "a thought");
  check(await until(async () => (await bob.typing()).includes(ada.name)), "bob sees that ada is typing");
  await ada.page.fill("#text", "");
  check(await until(async () => !(await bob.typing()).includes(ada.name)), "and that she has stopped");
}

async function cut(ada, bob, said, say) {
  await ada.drop(1_500);
  check((await ada.page.getAttribute("#badge", "data-state")) === "offline", "a cut connection shows as offline");
  for (let round = 0; round < 5; round += 1) await say(bob, `missed ${round}`);
  await until(async () => (await bob.messages()).every(({ state, isOwn }) => !isOwn || state === "sent"));
  await say(ada, "written offline");
  const waiting = (await ada.messages()).at(-1);
  check(waiting.state === "pending", "a message written offline waits with a clock");
  await ada.isOnline();
  await checkSame(ada, bob, said, "after the resume: no gap, no repeat");
  for (let round = 0; round < 3; round += 1) await ada.drop(0).then(() => say(ada, `quick ${round}`));
  await ada.isOnline();
  await checkSame(ada, bob, said, "after three quick cuts");
}

async function reload(ada, bob, said, say) {
  await ada.drop(60_000);
  await say(ada, "kept 1");
  await say(ada, "kept 2");
  await ada.page.reload();
  await ada.isOnline();
  await checkSame(ada, bob, said, "the outbox survives a reload, the history comes back");
  check(await until(async () => (await ada.messages()).every(({ isOwn, state }) => !isOwn || state === "sent")), "and all of it is ticked");
}

/** The server has the message, but the answer is lost: sent again under the same number, it must not come twice. */
async function lostAnswer(ada, bob, said, say) {
  await ada.page.evaluate(() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
      send.call(this, data);
      if (!data.includes('"kind":"pub"')) return;
      WebSocket.prototype.send = send;
      this.onmessage = null; // deaf from here on: the answer arrives, and nobody hears it
      setTimeout(() => window.ringshard.drop(200), 400);
    };
  });
  await say(ada, "sent twice");
  await until(async () => (await ada.messages()).at(-1)?.state === "sent");
  await checkSame(ada, bob, said, "a message whose answer was lost comes once");
}

async function hostileText(ada, bob) {
  const text = `${RUN} <img src=x onerror="document.title='hacked'"> https://example.org/a?b=<c>`;
  await ada.say(text);
  check(await until(async () => (await bob.texts()).includes(text)), "markup is shown as text");
  check((await bob.page.$$(".message img")).length === 0, "and never becomes an element");
  const link = await bob.page.getAttribute(".message:last-child .text a", "href");
  check(link === "https://example.org/a?b=", `an address becomes a link (${link})`);
}

async function leaving(ada, bob) {
  await shot(bob, "before-leaving");
  await ada.page.context().close();
  check(await until(async () => !(await bob.people()).includes(ada.name)), "bob sees that ada has left");
}

async function checkSame(ada, bob, said, what) {
  const isWhole = async (person) => (await person.messages()).filter(({ offset }) => offset !== null).length >= said.length;
  await until(async () => (await isWhole(ada)) && (await isWhole(bob)));
  await pause(SETTLE_MS);
  const [one, other] = [await ada.texts(), await bob.texts()];
  check(one.join("\n") === other.join("\n"), `${what}: the same order in both pages${differ(one, other)}`);
  const [expected, found] = [[...said].sort(), [...one].sort()];
  check(expected.join("\n") === found.join("\n"), `${what}: ${said.length} messages, each once${differ(found, expected)}`);
  const offsets = (await ada.messages()).map(({ offset }) => offset);
  check(offsets.every((offset, index) => index === 0 || offset > offsets[index - 1]), `${what}: offsets only rise`);
}

function differ(found, wanted) {
  const at = Array.from({ length: Math.max(found.length, wanted.length) }, (_, index) => index).find((index) => found[index] !== wanted[index]);
  return at === undefined ? "" : ` [at ${at}: ${found[at]} | ${wanted[at]}; ${found.length} | ${wanted.length}]`;
}

function check(holds, what) {
  if (!holds) failed += 1;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}`);
}

async function until(holds) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    if (await holds()) return true;
    await pause(50);
  }
  return false;
}

async function shot(person, name) {
  if (process.env.SHOTS) await person.page.screenshot({ path: join(process.env.SHOTS, `${name}.png`) });
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** ES modules look neither at NODE_PATH nor at the working directory; `require` can. */
function load(name) {
  try {
    return createRequire(join(process.cwd(), "here.js"))(name);
  } catch {
    return createRequire(import.meta.url)(name);
  }
}
