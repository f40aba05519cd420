// A sign-in that lasts: tokens that live for seconds are renewed in the background, in two tabs of one browser, and signing
// out ends both.
//
//   BASE=http://127.0.0.1:8080 CHROMIUM=/usr/bin/chromium node renewal.mjs
//
// The server has to have RINGSHARD_AUTH_ACCESS_TTL=10s. Prints one line per check; exits 0 if all hold, else 1.
// `harness.mjs` says what it needs.

import { Account, named } from "./account.mjs";
import { BASE, check, pause, tell, until } from "./harness.mjs";

/** More than two lives of a token. */
const LONG_MS = 24_000;

await tell(story);

async function story() {
  const ada = await Account.enter("register", named("ada"), {}, "?room=lobby");
  const page = await ada.page.context().newPage();
  await page.goto(`${BASE}/chat?room=lobby`);
  const tab = new Account(page, ada.name);
  await tab.isOnline();
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
  check(!(await ada.page.isVisible("#door")) && !(await page.isVisible("#door")), "neither tab was signed out");
  await ada.page.click("#leave");
  check(await until(() => page.isVisible("#door")), "signing out in one tab ends the login of the other one");
}
