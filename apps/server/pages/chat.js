// The chat page: who is talking, which conversation is open, and what the session reports, handed to the parts of the page.

import { forgetIdentity, renew, renewIn, savedIdentity, signOut } from "./account.js";
import { setShowsPictures, showsPictures } from "./body.js";
import { Chats } from "./chats.js";
import { Composer } from "./composer.js";
import { Contacts } from "./contacts.js";
import { Conversation } from "./conversation.js";
import { Details } from "./details.js";
import { Creation } from "./creation.js";
import { $, hueOf, initials, toast } from "./dom.js";
import { Door } from "./door.js";
import { Inbox, unreadOf } from "./inbox.js";
import { refreshLineActions } from "./line.js";
import { Menu } from "./menu.js";
import { Presence } from "./presence.js";
import { openSession } from "./session.js";
import { Timeline } from "./timeline.js";
import { directTopic, parseTopic, personalTopic, roomName } from "./topic.js";

/** Several messages that arrive together are acknowledged together. */
const DELIVERED_MS = 400;
const TRANSPORTS = {
  WebTransport: "This session travels over WebTransport (HTTP/3, UDP)",
  WebSocket: "This session travels over WebSocket (TCP)",
};
const WORDS = { connecting: "Connecting", online: "Online", offline: "Offline", draining: "Moving", closed: "Closed" };
const DETAILS = "ringshard.details";

/** A token that could not be renewed for lack of a connection is tried again. */
const RENEW_AGAIN_MS = 5_000;

/** What the parts of the page know of each other. */
const page = {
  session: null, inbox: null, contacts: null, presence: null, unread: 0,
  get thread() { return page.conversation.thread; },
  get topic() { return page.conversation.thread?.topic ?? null; },
  get drafts() { return page.composer.drafts; },
  open: openTopic, leaveTo: () => openTopic("chat/lobby"), write: (user) => openTopic(directTopic(page.session.user, user)),
  people: () => page.conversation.people(),
  lastOwn: () => page.conversation.lastOwn(),
  publish, showTitle, showSide,
};
const timeline = new Timeline({
  scroller: $("scroller"), messages: $("messages"), pending: $("pending"), template: $("message"), jump: $("jump"), jumpText: $("jump-text"),
  onRead: () => page.conversation.noteRead(),
  onTop: () => page.conversation.older(),
  onMenu: (row, opener) => page.menu.open(row, opener),
  onQuote: (offset) => page.conversation.reveal(offset),
});
page.conversation = new Conversation(page, timeline);
page.composer = new Composer(page);
page.menu = new Menu(page);
page.details = new Details(page);
page.chats = new Chats(page);
page.creation = new Creation(page);
const door = new Door((identity, room) => enter(identity, room));
const delivered = new Map(); // topic -> timer
let renewal = null; // the timer of the next one

enter(savedIdentity());

// -- coming and going --------------------------------------------------------------------------------------------------

async function enter(identity, room) {
  if (!identity?.token) return door.show(roomName(address()?.replace(/^chat\//, "") ?? "") ?? "lobby");
  const session = await openSession(identity);
  page.session = session;
  page.inbox = new Inbox(session, changed);
  page.presence = new Presence(session, present);
  page.contacts = new Contacts(page, contactsChanged);
  listen(session);
  showMe(identity);
  door.hide();
  showTab("chats");
  const isWide = matchMedia("(min-width: 1200px)").matches;
  const wanted = address();
  openTopic(wanted ?? `chat/${(identity.guest && room) || "lobby"}`, { isFirst: true });
  page.details.toggle(isWide && localStorage.getItem(DETAILS) !== "closed");
  if (!identity.guest) session.subscribe(personalTopic(session.user));
  session.start();
  renewLater();
  if (!wanted && !identity.guest) showSide(true);
  else if (matchMedia("(hover: hover)").matches) $("text").focus();
}

function leave(isEverywhere = false) {
  const { session } = page;
  const waiting = session.device.entries.length;
  if (waiting && !confirm(`${waiting} unsent ${waiting === 1 ? "message" : "messages"} will be lost. Sign out?`)) return;
  signOut(session.identity, isEverywhere).catch((error) => toast(error.message));
  close(session.identity.guest || waiting > 0);
  door.show("lobby");
}

/** Renews the token before it ends. */
function renewLater(ms = renewIn(page.session.identity)) {
  clearTimeout(renewal);
  if (ms !== null) renewal = setTimeout(renewNow, ms);
}

async function renewNow() {
  const { session } = page;
  const isOver = () => session !== page.session || session.isClosed;
  try {
    const identity = await renew(session.identity);
    if (isOver()) return;
    session.renew(identity);
    renewLater();
  } catch (error) {
    if (isOver()) return;
    if (error.status === 401 || !session.identity.refresh_token) return expired();
    renewLater(RENEW_AGAIN_MS);
  }
}

function expired() {
  close(false);
  door.show("lobby", "Your sign-in has ended. Please join again.");
}

function close(isForgotten) {
  clearTimeout(renewal);
  page.presence.stop();
  page.composer.close();
  page.session.close(isForgotten);
  page.conversation.thread = null;
  forgetIdentity();
  history.replaceState(null, "", location.pathname);
}

// -- what the session reports ------------------------------------------------------------------------------------------

function listen(session) {
  const here = (run) => (event) => (event.topic ?? event.entry?.topic) === page.topic && run(event);
  const { conversation } = page;
  session
    .on("state", showState)
    .on("signed_out", () => (session.identity.refresh_token ? renewNow() : expired()))
    .on("joined", joined)
    .on("msg", heard)
    .on("gap", here(() => conversation.gap()))
    .on("presence", here((event) => conversation.presence(event)))
    .on("eph", (event) => (isPersonal(event.topic) ? toldSoon(event) : event.topic === page.topic && conversation.ephemeral(event)))
    .on("queued", here(({ entry }) => timeline.queue(entry)))
    .on("sent", here(({ entry, offset, level }) => timeline.sent(entry, offset, level)))
    .on("refused", (event) => {
      const reason = event.message ?? event.code;
      if (event.entry.topic === page.topic) timeline.refused(event.entry, reason);
      toast(`Not delivered: ${reason}`);
    })
    .on("denied", (event) => {
      if (event.topic === page.topic) conversation.denied(event);
      else page.inbox.lost(event.topic);
    })
    .on("err", ({ message, code }) => toast(message ?? code));
}

function isPersonal(topic) {
  return topic === personalTopic(page.session.user);
}

function joined(event) {
  if (isPersonal(event.topic)) return loadAll();
  if (event.topic === page.topic) page.conversation.joined(event);
  const line = page.inbox.get(event.topic);
  if (line && unreadOf(line)) tellDelivered(event.topic);
}

/** A connection stands: whatever happened meanwhile, the server says how it is. */
async function loadAll() {
  const { inbox, contacts, presence } = page;
  page.chats.searchAgain();
  const loads = await Promise.allSettled([inbox.load(), contacts.load(), presence.start()]);
  const failed = loads.find(({ reason }) => reason && reason.code !== "unavailable");
  if (failed) toast(failed.reason.message);
}

function heard(event) {
  if (isPersonal(event.topic)) return told(event.body);
  page.inbox.hear(event);
  if (event.topic === page.topic) page.conversation.message(event);
  else tellDelivered(event.topic);
  if (document.hidden && event.from !== page.session.user && parseTopic(event.topic).kind === "room") page.unread += 1;
  showTitle();
}

/** News for all devices of this user. */
function told(body) {
  if (body.type === "contact") page.contacts.told(body);
  else if (body.type === "invitation") page.contacts.invited(body);
  else if (body.type === "conversation") {
    page.inbox.told(body);
    if (body.topic === page.topic && body.entry?.left_ms) page.conversation.left();
  } else if (body.text) toast(body.text); // a program has something to say
}

function toldSoon({ from, key, body }) {
  if (key === "read") page.inbox.seen(body.topic, body.read);
  else if (key === "presence") page.presence.told(from, body);
}

function tellDelivered(topic) {
  if (delivered.has(topic)) return;
  delivered.set(topic, setTimeout(() => {
    delivered.delete(topic);
    page.session.ack(topic);
  }, DELIVERED_MS));
}

function publish(body) {
  try {
    page.session.publish(page.topic, body);
  } catch (error) {
    toast(error.message);
    return false;
  }
  $("empty").hidden = true;
  return true;
}

// -- the open conversation and the address -----------------------------------------------------------------------------

function openTopic(topic, { isFirst = false, isAgain = false } = {}) {
  const place = parseTopic(topic);
  if (!place || place.kind === "personal") return toast("There is no such conversation.");
  if (!isFirst) showSide(false);
  if (page.topic === topic && !isAgain) return $("text").focus();
  const before = page.topic;
  if (isAgain) page.session.unsubscribe(topic);
  page.conversation.open(topic);
  page.composer.open(before);
  setAddress(topic, isFirst);
  if (place.kind === "room") page.chats.remember(place.room);
  page.chats.show();
  page.details.open();
  if (!isFirst && matchMedia("(hover: hover)").matches) $("text").focus();
}

/** The topic that the address asks for, or null. */
function address() {
  const query = new URLSearchParams(location.search);
  const topic = query.get("topic");
  if (topic && parseTopic(topic)) return topic;
  const room = roomName(query.get("room") ?? location.hash);
  return room && `chat/${room}`;
}

function setAddress(topic, isReplaced) {
  const query = new URLSearchParams(location.search); // who asks for a transport keeps it
  const place = parseTopic(topic);
  query.delete(place.kind === "room" ? "topic" : "room");
  query.set(place.kind === "room" ? "room" : "topic", place.room ?? topic);
  const wanted = `${location.pathname}?${query}`;
  if (wanted === location.pathname + location.search) return;
  history[isReplaced ? "replaceState" : "pushState"](null, "", wanted);
}

// -- what is shown -----------------------------------------------------------------------------------------------------

function changed() {
  page.chats.show();
  if (!page.thread) return;
  page.conversation.showHead();
  refreshLineActions(page);
}

function present() {
  if (page.thread?.place.kind === "direct") page.conversation.showHead();
  for (const words of document.querySelectorAll(".presence-words")) words.textContent = page.presence.words(page.conversation.title);
}

function contactsChanged() {
  if (page.thread?.place.kind === "direct") page.details.refresh();
  const count = page.contacts.waiting;
  $("waiting").hidden = count === 0;
  $("waiting").textContent = count;
}

function showState({ state, shard, transport, retryAt }) {
  clearInterval(showState.timer);
  $("badge").dataset.state = state;
  $("badge-state").textContent = WORDS[state];
  const detail = () => {
    const secs = Math.ceil((retryAt - Date.now()) / 1_000);
    if (state === "online") return shard === null ? "" : `shard ${shard}`;
    return state === "offline" && secs > 1 ? `again in ${secs} s` : "…";
  };
  const show = () => ($("badge-detail").textContent = detail());
  show();
  $("transport").hidden = !transport;
  if (transport) $("transport").textContent = transport;
  $("transport").title = TRANSPORTS[transport] ?? "";
  if (state === "offline") showState.timer = setInterval(show, 1_000);
  $("offline").hidden = state !== "offline";
  if (state !== "online") page.conversation.offline();
}

function showMe({ user, guest }) {
  document.body.classList.toggle("is-guest", Boolean(guest));
  $("my-name").textContent = user;
  $("my-kind").textContent = guest ? "Guest" : "Signed in";
  $("my-avatar").textContent = initials(user);
  $("my-avatar").className = `avatar ${hueOf(user)}`;
  $("always-pictures").checked = showsPictures();
}

function showTitle() {
  if (!page.thread) return;
  const { place } = page.thread;
  const unread = page.unread + page.inbox.unread;
  document.title = `${unread ? `(${unread}) ` : ""}${place.kind === "room" ? "#" : ""}${page.conversation.title} · Ringshard`;
}

function showSide(isOpen) {
  document.body.classList.toggle("side-open", isOpen);
  $("open-side").setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) page.conversation.noteRead();
  if (!isOpen && document.activeElement?.closest("#side") && matchMedia("(max-width: 760px)").matches) $("open-side").focus();
}

function showTab(name) {
  for (const tab of ["chats", "contacts"]) {
    $(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    $(`panel-${tab}`).hidden = tab !== name;
  }
}

// -- events ------------------------------------------------------------------------------------------------------------

$("leave").addEventListener("click", () => leave());
$("open-me").addEventListener("click", () => $("me-dialog").showModal());
$("me-close").addEventListener("click", () => $("me-dialog").close());
$("leave-all").addEventListener("click", () => {
  $("me-dialog").close();
  leave(true);
});
$("open-side").addEventListener("click", () => showSide(true));
$("close-side").addEventListener("click", () => showSide(false));
$("shade").addEventListener("click", () => {
  showSide(false);
  page.details.toggle(false);
});
$("always-pictures").addEventListener("change", (event) => setShowsPictures(event.target.checked));
for (const name of ["open-details", "close-details"]) {
  $(name).addEventListener("click", () => localStorage.setItem(DETAILS, document.body.classList.contains("details-open") ? "open" : "closed"));
}
for (const tab of ["chats", "contacts"]) $(`tab-${tab}`).addEventListener("click", () => showTab(tab));
$("tabs").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  const other = event.target.id === "tab-chats" ? "contacts" : "chats";
  showTab(other);
  $(`tab-${other}`).focus();
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("side-open")) showSide(false);
  else if (document.activeElement?.closest("#details")) page.details.toggle(false);
  else if (page.session) $("text").focus();
});
addEventListener("popstate", () => {
  const topic = address();
  if (page.session && topic) openTopic(topic, { isFirst: true });
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !page.thread) return;
  page.unread = 0;
  showTitle();
  page.conversation.noteRead();
});
