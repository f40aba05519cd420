// Two people in one chat room, one over WebTransport, one over WebSocket: same order, ticks, presence, typing, and nothing
// lost or doubled by a cut connection, a reload or another transport.
//
//   BASE=http://127.0.0.1:8080 CHROMIUM=/usr/bin/chromium [SHOTS=dir] node chat.mjs
//
// Prints one line per check; exits 0 if all hold, else 1. `harness.mjs` says what it needs.

import { BASE, check, newPage, pause, RUN, shot, tell, until } from "./harness.mjs";

/** Long enough for a repeat to arrive if there is one. */
const SETTLE_MS = 600;
const ROOM = "lobby";
/** What the pages wait for WebTransport to open, and some time to notice. */
const OPEN_MS = 2_500;

/** One browser profile with a chat page. `meddle` runs in it first. */
class Person {
  static async arrive(name, { query = "", meddle = null } = {}) {
    const page = await newPage(name, {}, meddle);
    await page.goto(`${BASE}/chat?room=${ROOM}${query}`);
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

  /** What the badge says of the transport of a session that stands. */
  async transport() {
    await this.isOnline();
    return this.page.textContent("#transport");
  }

  people() {
    return this.page.$$eval("#people .name", (names) => names.map((name) => name.textContent));
  }

  typing() {
    return this.page.textContent("#typing");
  }
}

let browser;
await tell(story);

async function story(opened) {
  browser = opened;
  const ada = await Person.arrive(`ada-${RUN}`);
  const bob = await Person.arrive(`bob-${RUN}`, { query: "&transport=websocket" });
  const said = [];
  const say = async (person, text) => {
    said.push(`${RUN} ${text}`);
    await person.say(`${RUN} ${text}`);
  };

  check((await ada.transport()) === "WebTransport", `ada's badge says WebTransport (${await ada.transport()})`);
  check((await bob.transport()) === "WebSocket", `bob's badge says WebSocket (${await bob.transport()})`);
  check(bob.page.url().includes("transport=websocket"), "and bob's address keeps what he asked for");
  await status();
  await presence(ada, bob);
  await bothWays(ada, bob, said, say);
  await typing(ada, bob);
  await cut(ada, bob, said, say);
  await reload(ada, bob, said, say);
  for (const transport of ["websocket", "webtransport"]) await lostAnswer(ada, bob, said, say, transport);
  await switches(ada, bob, said, say);
  await largeAnswer(ada);
  await withoutWebTransport(bob);
  await silentUdp(bob);
  await hostileText(ada, bob);
  // For whoever runs this beside a client of another kind: all that bob has on his page, in order.
  const all = await bob.page.$$eval(".message .text", (texts) => texts.map((text) => text.textContent));
  console.log(`timeline ${JSON.stringify(all)}`);
  await leaving(ada, bob);
}

async function status() {
  const page = await browser.newPage();
  await page.goto(`${BASE}/status`);
  check(await until(async () => (await page.textContent("#transport")) === "HTTP/1.1"), "the status page says what brings its figures");
  const quic = await page.textContent('#total td[data-label="QUIC"]');
  check(Number(quic) >= 1, `and counts ada's connection (${quic})`);
  await page.close();
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
  await shot(ada.page, "both-ways");
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
async function lostAnswer(ada, bob, said, say, transport) {
  await switchTo(ada, transport);
  await ada.page.evaluate(() => window.ringshard.deafen());
  await say(ada, `sent twice over ${transport}`);
  check(await until(async () => (await bob.texts()).includes(said.at(-1))), `${transport}: the server has a message`);
  check((await ada.messages()).at(-1).state === "pending", `${transport}: and its sender does not know it`);
  await ada.drop(200);
  await until(async () => (await ada.messages()).at(-1)?.state === "sent");
  await checkSame(ada, bob, said, `${transport}: a message whose answer was lost comes once`);
}

/** Both talk all the time while one changes the transport again and again. */
async function switches(ada, bob, said, say) {
  let isOver = false;
  const talk = async (person) => {
    for (let round = 0; !isOver; round += 1) {
      await say(person, `${person === ada ? "ada" : "bob"} goes on ${round}`);
      await pause(150); // within the 10 messages a second of a session
    }
  };
  const talks = Promise.all([talk(ada), talk(bob)]);
  for (const transport of ["websocket", "webtransport", "websocket", "webtransport"]) {
    await switchTo(ada, transport);
    await pause(SETTLE_MS);
  }
  await shot(ada.page, "webtransport");
  await shot(bob.page, "websocket");
  isOver = true;
  await talks;
  await checkSame(ada, bob, said, "four changes of the transport");
}

async function switchTo(person, transport) {
  await person.page.evaluate((wanted) => window.ringshard.switch(wanted), transport);
  const found = await person.transport();
  check(found.toLowerCase() === transport, `the session goes on over ${transport} (${found})`);
}

/** A page of history comes on a stream of its own, while messages pass it on theirs. */
async function largeAnswer(ada) {
  const answer = await ada.page.evaluate(async (topic) => {
    const { session } = window.ringshard;
    const text = "x".repeat(4_000);
    for (let round = 0; round < 8; round += 1) session.publish(topic, { type: "text", text: `${round} ${text}` });
    while (session.device.entries.length) await new Promise((resolve) => setTimeout(resolve, 50));
    const { messages } = await session.request("chat.history", { topic, limit: 100 });
    return { count: messages.length, length: JSON.stringify(messages).length, transport: session.transport };
  }, `chat/${ROOM}`);
  check(answer.transport === "WebTransport" && answer.length > 32_000, `a large answer over WebTransport (${answer.count} messages, ${answer.length} characters)`);
}

async function withoutWebTransport(bob) {
  const eve = await Person.arrive(`eve-${RUN}`, { meddle: () => delete window.WebTransport });
  check((await eve.transport()) === "WebSocket", "a browser without WebTransport uses WebSocket");
  await checkHeard(eve, bob, "from an old browser");
}

/** A network that drops UDP costs one wait, and no second one when the connection comes back. */
async function silentUdp(bob) {
  const meddle = () => {
    window.tried = 0;
    window.WebTransport = class {
      ready = new Promise(() => {});
      closed = new Promise(() => {});
      constructor() {
        window.tried += 1;
      }
      close() {}
    };
  };
  const started = Date.now();
  const dan = await Person.arrive(`dan-${RUN}`, { meddle });
  const took = Date.now() - started;
  check((await dan.transport()) === "WebSocket" && took > OPEN_MS, `a network without UDP falls back to WebSocket (${took} ms)`);
  await dan.drop(0);
  await dan.isOnline();
  check((await dan.page.evaluate(() => window.tried)) === 1, "and is not asked again at the next connection");
  await checkHeard(dan, bob, "from behind a firewall");
}

async function checkHeard(person, bob, text) {
  await person.say(text);
  check(await until(() => bob.page.$$eval(".message .text", (all, one) => all.some(({ textContent }) => textContent === one), text)), `and bob hears it: ${text}`);
  await person.page.context().close();
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
  await shot(bob.page, "before-leaving");
  await ada.page.close(); // as people do; a context that is torn down says no goodbye over QUIC
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
