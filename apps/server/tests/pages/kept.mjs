// Parts of the messenger's story: what somebody has opened stays open, whatever is changed there meanwhile.

import { check, shot, until } from "./harness.mjs";

/** The words below a picture change: it is neither folded again nor fetched by itself, and goes when it is recalled. */
export async function unfolded(ada, bob) {
  const row = (text) => bob.page.locator("#messages .message", { hasText: text }).last();
  const edit = async (text, wanted) => {
    await ada.choose(text, "edit");
    await ada.say(wanted);
    return until(async () => (await bob.messages()).some((message) => message.text.includes(wanted) && message.isEdited));
  };
  const picture = await row("my cat").locator("img").elementHandle();
  const fetched = bob.fetched;
  await row("my cat").locator(".file-link").focus();
  check(await edit("my cat", "my old cat"), "the words below a picture are edited");
  check(await picture.isVisible(), "and a picture that was shown stays");
  check(await row("my old cat").locator(".file-link").evaluate((link) => link === document.activeElement), "with the focus in it");
  check(await edit("my old cat", "my cat, who sleeps"), "also when they are edited again");
  await shot(bob.page, "picture-edited");
  check((await picture.isVisible()) && (await row("who sleeps").locator(".card-file").count()) === 1, "it stays, and is there once");
  check((await edit("dog.png", "my dog")) && (await row("my dog").locator("img").count()) === 0, "a picture that was not shown is not");
  check(bob.fetched === fetched, "and neither is fetched anew");
  await row("my dog").locator(".show-picture").click();
  check(await until(() => row("my dog").locator("img").evaluate((one) => one.complete && one.naturalWidth === 1)), "until it is asked for");
  await ada.choose("my dog", "recall");
  check(await until(async () => (await bob.last()).isRecalled), "a picture is recalled");
  check((await bob.page.locator("#messages .message").last().locator(".card-file").count()) === 0, "and goes, although it was shown");
}
