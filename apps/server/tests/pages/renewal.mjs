// A sign-in that lasts: tokens that live for seconds are renewed in the background, in two tabs of one browser and on devices
// whose clocks are wrong, and signing out ends it in both tabs.
//
//   BASE=http://127.0.0.1:8080 CHROMIUM=/usr/bin/chromium node renewal.mjs
//
// The server has to have RINGSHARD_AUTH_ACCESS_TTL=10s. Prints one line per check; exits 0 if all hold, else 1.
// `harness.mjs` says what it needs.

import { Account, named } from "./account.mjs";
import { check, pause, tell, until } from "./harness.mjs";

/** More than two lives of a token. */
const LONG_MS = 24_000;
/** A token is good for so long, and not renewed before a good part of that. */
const LIFE_MS = 10_000;
const HOUR_MS = 3_600_000;

await tell(story);

async function story() {
  const ada = await Account.enter("register", named("ada"), {}, "?room=lobby");
  const tab = await ada.another("?room=lobby");
  const { page } = tab;
  const clocks = await Promise.all([["behind", -HOUR_MS], ["ahead", HOUR_MS]].map(([name, offMs]) => misled(name, offMs)));
  const token = () => ada.page.evaluate(() => window.ringshard.session.identity.token);
  const first = await token();
  const end = Date.now() + LONG_MS;
  for (let round = 0; Date.now() < end; round += 1) {
    await ada.say(`round ${round}`);
    if (!(await tab.sees(`round ${round}`))) check(false, `what one tab says in round ${round} comes to the other one`);
    await pause(1_000);
  }
  check((await token()) !== first, "a token was renewed");
  const texts = (await tab.messages()).map(({ text }) => text);
  check(new Set(texts).size === texts.length && texts.length > 10, `and nothing was lost or came twice meanwhile (${texts.length} messages)`);
  for (const { device, renewed, ended } of clocks) {
    const [times, lost] = [renewed.length, await ended()];
    check(times > 1 && lost < times, `a clock that is an hour ${device} lets nobody's token end before it is renewed (${times} times, ${lost} late)`);
    const gaps = renewed.slice(1).map((at, index) => at - renewed[index]);
    check(gaps.every((gap) => gap > LIFE_MS / 2), `nor renew it more often than there is need (${gaps.map(Math.round).join(", ")} ms)`);
  }
  check(!(await ada.page.isVisible("#door")) && !(await page.isVisible("#door")), "neither tab was signed out");
  await ada.page.click("#leave");
  check(await until(() => page.isVisible("#door")), "signing out in one tab ends the login of the other one");
}

/** Somebody on a device whose clock is wrong: when its page renewed the token, and how often the token had ended before. */
async function misled(device, offMs) {
  const meddle = `(${shift})(${offMs})`;
  const { page } = await Account.enter("register", named(device), {}, "?room=lobby", meddle);
  const renewed = [];
  page.on("request", (request) => request.url().endsWith("/refresh") && renewed.push(performance.now()));
  await page.evaluate(() => {
    window.ended = 0;
    window.ringshard.session.on("signed_out", () => (window.ended += 1));
  });
  return { device, renewed, ended: () => page.evaluate(() => window.ended) };
}

/** In a page: another time than it is. */
function shift(offMs) {
  const Right = Date;
  window.Date = class extends Right {
    constructor(...time) {
      super(...(time.length ? time : [Right.now() + offMs]));
    }

    static now() {
      return Right.now() + offMs;
    }
  };
}
