// Parts of the messenger's story: who is really the user, and who is no longer.

import { Account, named, PICTURES } from "./account.mjs";
import { check, until } from "./harness.mjs";

/** Where guests write, a name alone proves nothing: pictures are not fetched for somebody else who is called the same. */
export async function namesakes() {
  const name = named("sam");
  const guest = await Account.enter("guest", name, {}, "?room=den");
  const other = await Account.enter("guest", name, {}, "?room=den");
  const sam = await Account.enter("register", name, {}, "?room=den");
  await guest.sendLink(`${PICTURES}/cat.png`, "look at this");
  const isFetched = (one) => until(async () => one.fetched === 1);
  check((await isFetched(guest)) && (await guest.last()).isOwn, "a guest sees the own picture");
  for (const [one, what] of [[other, "another guest"], [sam, "an account"]]) {
    await one.sees("look at this");
    check((await one.page.isVisible(".show-picture")) && one.fetched === 0, `but for ${what} of the same name it is not fetched`);
  }
  check(!(await other.last()).isOwn, "nor is it that guest's message");
  await guest.page.reload();
  await guest.isOnline();
  check((await guest.sees("look at this")) && (await guest.last()).isOwn, "after a reload it is still who wrote it");
  await sam.sendLink(`${PICTURES}/dog.png`, "and at this");
  check((await isFetched(sam)) && (await sam.last()).isOwn, "what the account writes there is the account's");
  for (const one of [guest, other, sam]) await one.page.context().close();
}

/** Signing out everywhere, on a page that does not know the token yet with which another one goes on. */
export async function everywhere(bob) {
  const tab = await bob.another("?room=lobby");
  const elsewhere = await Account.enter("login", bob.name, {}, "?room=lobby");
  elsewhere.page.removeAllListeners("console"); // it says that its token is refused
  await tab.page.evaluate(async () => {
    const { renew } = await import("/assets/account.js");
    await renew(window.ringshard.session.identity);
  });
  await tab.page.fill("#text", "half a thought");
  await bob.page.click("#open-me");
  await bob.page.click("#leave-all");
  for (const one of [tab, elsewhere]) check(await until(() => one.page.isVisible("#door")), "signing out everywhere ends the login of every device");
  const typed = () => tab.page.inputValue("#text");
  await tab.signIn("login");
  check((await typed()) === "half a thought", "what was being written is there again for who comes back");
  await tab.page.click("#leave");
  tab.name = named("joe");
  await tab.signIn("register");
  check((await typed()) === "", "and not for anybody else");
}
