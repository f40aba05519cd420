// Parts of the messenger's story: what somebody types, has picked, presses or looks at while others change it.

import { check, shot, until } from "./harness.mjs";

/** What somebody is in the middle of stays as it is while others change the group. */
export async function amidst(ada, bob, eve) {
  const picker = "#about .picker-field";
  const at = () => ada.page.$eval(picker, (field) => ({ text: field.value, caret: field.selectionStart, isFocused: field === document.activeElement }));
  const value = (id) => ada.page.inputValue(id);
  await ada.about();
  await ada.pick("#about", bob.name);
  await ada.page.click("#about summary");
  await ada.page.fill("#group-name", "Not yet");
  await ada.page.fill(picker, eve.name.slice(0, 4));
  await ada.page.waitForSelector(`#about .pick:has-text("${eve.name}")`);
  await ada.page.press(picker, "ArrowLeft");
  await mute(ada, bob, eve);
  const { text, caret, isFocused } = await at();
  check(text === eve.name.slice(0, 4) && isFocused && caret === 3, `a name that is half typed stays, and so does the caret (${text}, ${caret}, ${isFocused})`);
  check((await ada.page.$$("#about .pick")).length > 0 && (await ada.page.$$("#about .chip")).length === 1, "as do those who were found and picked");
  await bob.page.click("#about summary");
  await bob.page.selectOption("#group-slow", "30000");
  await bob.save();
  check(await until(async () => (await value("#group-slow")) === "30000"), "settings that nobody edits are those of the group");
  check((await value("#group-name")) === "Not yet", "and one that is edited is not taken away");
  await shot(ada.page, "group-edited");
  await ada.page.click("#about .chip");
  await ada.page.fill("#group-name", "The whole new crew");
  await ada.save();
  await until(async () => (await bob.page.inputValue("#group-name")) === "The whole new crew");
  check(await ada.hasNotice("renamed the group to “The whole new crew”"), "until it is saved");
  await bob.page.click("#about summary");
  await bob.page.fill("#group-name", "The whole crew");
  await bob.page.selectOption("#group-slow", "5000");
  await bob.save();
  check(await until(async () => (await value("#group-name")) === "The whole crew" && (await value("#group-slow")) === "5000"), "and then it is the group's again");
  await ada.page.fill(picker, "");
}

/** bob lets somebody write no more, and then again: two changes that ada's page shows. */
async function mute(ada, bob, eve) {
  for (const [act, isMuted] of [["mute", true], ["unmute", false]]) {
    await bob.act(act, eve.name);
    await until(async () => (await ada.member(eve.name))?.isMuted === isMuted);
  }
}

export async function demoted(ada, bob) {
  await bob.page.click("#about summary");
  await bob.page.fill("#group-name", "Mine");
  await ada.act("member", bob.name);
  check(await until(async () => (await bob.page.$("#about .settings, #about .inviting")) === null), "who is an admin no longer cannot go on with the settings");
  await ada.act("admin", bob.name);
  await bob.page.waitForSelector("#about .settings");
  check((await bob.page.inputValue("#group-name")) === "The whole crew", "and begins afresh as one again");
}

/** A button, line or row that is drawn anew between press and release of the mouse is clicked all the same. */
export async function pressed(ada, bob, eve) {
  const member = `#members [data-user="${eve.name}"] .member-link`;
  await ada.page.focus(member);
  await mute(ada, bob, eve);
  const isFocused = (selector) => ada.page.$eval(selector, (one) => one === document.activeElement);
  check(await isFocused(member), "a member's button keeps the focus when the member is changed");
  const isOpen = await ada.page.getAttribute(member, "aria-expanded");
  await ada.press(member, () => mute(ada, bob, eve));
  check((await ada.page.getAttribute(member, "aria-expanded")) !== isOpen, "and is clicked when that happens in the middle of it");
  const line = "#chats li:first-child a";
  await bob.open(ada.name);
  await bob.say("first of all");
  await until(async () => (await ada.line(bob.name)).last === "first of all");
  await ada.press(line, async () => {
    await bob.say("in between");
    await until(async () => (await ada.line(bob.name)).last === "in between");
  });
  check(await ada.isOpen(bob.name).then(() => true, () => false), "so is a line of the list whose words change");
  await ada.open("The whole crew");
  await ada.tab("contacts");
  const contact = (op) => ada.page.evaluate(([name, user]) => window.ringshard.session.request(`contact.${name}`, { user }), [op, eve.name]);
  await ada.press(`#contacts [data-state=contact] [data-user="${bob.name}"] .person-link`, async () => {
    await contact("request");
    await ada.page.waitForSelector(`#contacts [data-state=outgoing] [data-user="${eve.name}"]`);
  });
  check(await ada.isOpen(bob.name).then(() => true, () => false), "and a contact while another one comes");
  await contact("remove");
  await ada.tab("chats");
  for (const one of [ada, bob]) await one.open("The whole crew");
}
