// The chat page: who is talking, in which room, and what the session reports, put on the screen.

import { forgetIdentity, openSession, savedIdentity, signIn } from "./session.js";
import { read, write } from "./outbox.js";
import { hueOf, initials, Timeline } from "./timeline.js";

/** The server refuses longer texts. */
const TEXT_MAX = 5_000;
/** From here on the counter is shown. */
const TEXT_NEAR = 4_500;
/** Typing is told at most this often, and believed a little longer. */
const TYPING_EVERY_MS = 3_000;
const TYPING_SHOWN_MS = 5_000;
/** Watermarks are told at most this often: they are for later visits, not for others. */
const ACK_EVERY_MS = 3_000;
const TOAST_MS = 6_000;
const TOASTS_MAX = 3;
const ROOMS_MAX = 8;
const PEOPLE_SHOWN = 50;
const ROOM = /^[a-z0-9][a-z0-9._~-]{0,63}$/;
const ROOMS = "ringshard.rooms";
const SEEN = "ringshard.seen";
const TRANSPORTS = {
  WebTransport: "This session travels over WebTransport (HTTP/3, UDP)",
  WebSocket: "This session travels over WebSocket (TCP)",
};

const $ = (id) => document.getElementById(id);
const label = document.title.replace(/^Chat/, "");
const timeline = new Timeline(
  {
    scroller: $("scroller"), messages: $("messages"), pending: $("pending"), template: $("message"),
    jump: $("jump"), jumpText: $("jump-text"), onRead: () => noteRead(),
  },
  null,
);

let session = null;
let room = null; // { name, topic, people: Map name -> true, count, isStale, typing: Map name -> timer, last, epoch, unread, seen }

enter(savedIdentity());

// -- the door ----------------------------------------------------------------------------------------------------------

async function enter(identity) {
  if (!identity?.token) return showDoor();
  session = await openSession(identity);
  timeline.me = identity.user;
  listen(session);
  showMe(identity);
  $("door").hidden = true;
  $("room").hidden = false;
  openRoom(roomOfAddress() ?? "lobby", true);
  session.start();
  if (matchMedia("(hover: hover)").matches) $("text").focus();
}

function showDoor(problem = "") {
  $("room").hidden = true;
  $("door").hidden = false;
  $("door-room").value = roomOfAddress() ?? "lobby";
  $("door-problem").textContent = problem;
  document.title = `Join${label}`;
  $("name").focus();
}

function showWay() {
  const how = wayChosen();
  const password = $("password");
  $("password-field").hidden = how === "guest";
  password.required = how !== "guest";
  password.autocomplete = how === "register" ? "new-password" : "current-password";
  $("enter").textContent = { guest: "Enter the room", login: "Log in and enter", register: "Register and enter" }[how];
  $("door-problem").textContent = "";
}

function wayChosen() {
  return document.querySelector("input[name=how]:checked").value;
}

async function submitDoor(event) {
  event.preventDefault();
  const name = $("name").value.trim();
  const roomName = tidyRoom($("door-room").value);
  const how = wayChosen();
  if (!name) return problem("name", "Please pick a name.");
  if (how !== "guest" && !$("password").value) return problem("password", "Please type your password.");
  if (!ROOM.test(roomName)) return problem("door-room", "Rooms are named with a-z, 0-9, dot, dash and underscore.");
  $("enter").disabled = true;
  try {
    const identity = await signIn(how, name, $("password").value);
    setAddress(roomName, true);
    $("password").value = "";
    await enter(identity);
  } catch (error) {
    problem("name", error instanceof TypeError ? "The server cannot be reached." : error.message);
  } finally {
    $("enter").disabled = false;
  }
}

function problem(field, text) {
  $("door-problem").textContent = text;
  $(field).focus();
}

function leave() {
  const waiting = session.device.entries.length;
  if (waiting && !confirm(`${waiting} unsent ${waiting === 1 ? "message" : "messages"} will be lost. Sign out?`)) return;
  session.close(session.identity.guest || waiting > 0);
  forgetIdentity();
  showDoor();
}

// -- the room ----------------------------------------------------------------------------------------------------------

function openRoom(name, isFirst = false) {
  if (room && room.name !== name) session.unsubscribe(room.topic);
  room?.typing.forEach(clearTimeout);
  const topic = `chat/${name}`;
  room = { name, topic, people: new Set([session.user]), count: 1, isStale: false, typing: new Map(), last: 0, unread: 0 };
  room.seen = read(localStorage, SEEN)?.[session.user]?.[topic] ?? null;
  setAddress(name, isFirst);
  rememberRoom(name);
  timeline.clear();
  $("messages").setAttribute("aria-live", "off"); // the history is not read out, only what comes after it
  $("empty").hidden = true;
  $("room-name").textContent = name;
  $("text").placeholder = `Message #${name}`;
  session.subscribe(topic, 0);
  for (const entry of session.device.entries) if (entry.topic === topic) timeline.queue(entry);
  showPeople();
  showTyping();
  showTitle();
}

function listen(session) {
  const here = (run) => (event) => (event.topic ?? event.entry?.topic) === room.topic && run(event);
  session
    .on("state", showState)
    .on("signed_out", () => {
      forgetIdentity();
      showDoor("Your sign-in has expired. Please join again.");
    })
    .on("joined", here(joined))
    .on("msg", here(message))
    .on("gap", here(() => timeline.notice("Earlier messages are no longer kept.")))
    .on("presence", here(presence))
    .on("eph", here(typing))
    .on("queued", here(({ entry }) => timeline.queue(entry)))
    .on("sent", here(({ entry, offset, level }) => timeline.sent(entry, offset, level)))
    .on("refused", (event) => {
      if (event.entry.topic === room.topic) timeline.refused(event.entry);
      toast(`Not delivered: ${event.message ?? event.code}`);
    })
    .on("err", ({ message, code }) => toast(message ?? code));
}

function joined({ epoch, isReset, isCaughtUp }) {
  if (isReset) timeline.restart();
  room.epoch = epoch;
  if (isCaughtUp) caughtUp();
}

function message(event) {
  const { offset, epoch, from, isCaughtUp } = event;
  room.last = offset;
  const { seen } = room;
  if (seen?.epoch === epoch && offset === seen.last + 1 && from !== session.user) timeline.notice("New", "news");
  timeline.add(event);
  forgetTyping(from);
  if (document.hidden && from !== session.user && room.isLive) {
    room.unread += 1;
    showTitle();
  } else noteRead();
  if (isCaughtUp) caughtUp();
}

function caughtUp() {
  $("empty").hidden = room.last > 0 || $("pending").childElementCount > 0;
  if (room.isLive) return;
  room.isLive = true;
  requestAnimationFrame(() => $("messages").setAttribute("aria-live", "polite"));
}

/** What was on the screen of somebody who was there is read: told to the server, and kept for the "New" line. */
function noteRead() {
  if (!room || document.hidden || !timeline.isAtBottom || room.ackTimer || room.last === (room.acked ?? 0)) return;
  const noted = room;
  room.ackTimer = setTimeout(() => {
    noted.ackTimer = null;
    noted.acked = noted.last;
    session.ack(noted.topic, noted.last);
    const all = read(localStorage, SEEN) ?? {};
    const mine = { ...all[session.user], [noted.topic]: { epoch: noted.epoch, last: noted.last } };
    write(localStorage, SEEN, { [session.user]: mine }); // one user's marks are enough for one browser
  }, ACK_EVERY_MS);
}

function presence({ joined = [], left = [], count }) {
  if (room.isStale) room.people = new Set([session.user]); // the first one after a reconnect starts afresh
  room.isStale = false;
  for (const name of joined) room.people.add(name);
  for (const name of left) room.people.delete(name);
  room.people.add(session.user);
  room.count = Math.max(count ?? 0, 1);
  left.forEach(forgetTyping);
  showPeople();
}

// -- typing ------------------------------------------------------------------------------------------------------------

function typing({ from, key, body }) {
  if (key !== "typing" || from === session.user) return;
  forgetTyping(from);
  if (!body?.typing) return;
  room.typing.set(from, setTimeout(() => forgetTyping(from), TYPING_SHOWN_MS));
  showTyping();
}

function forgetTyping(name) {
  clearTimeout(room.typing.get(name));
  if (room.typing.delete(name)) showTyping();
}

function tellTyping(isTyping) {
  const now = Date.now();
  if (isTyping ? now - (room.toldAt ?? 0) < TYPING_EVERY_MS : !room.toldAt) return;
  room.toldAt = isTyping ? now : 0;
  session.ephemeral(room.topic, "typing", { typing: isTyping });
}

// -- the composer ------------------------------------------------------------------------------------------------------

function typed() {
  const text = $("text").value;
  const length = [...text].length;
  $("send").disabled = !text.trim() || length > TEXT_MAX;
  $("counter").textContent = length > TEXT_NEAR ? `${length.toLocaleString()} / ${TEXT_MAX.toLocaleString()}` : "";
  $("counter").classList.toggle("over", length > TEXT_MAX);
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
  tellTyping(Boolean(text.trim()));
}

function submit(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  if ([...text].length > TEXT_MAX) return toast(`A message has at most ${TEXT_MAX.toLocaleString()} characters.`);
  try {
    session.publish(room.topic, { type: "text", text });
  } catch (error) {
    return toast(error.message);
  }
  $("empty").hidden = true;
  $("text").value = "";
  room.toldAt = 0; // the message itself says that typing is over
  typed();
  $("text").focus();
}

function keyed(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
}

// -- what is shown -----------------------------------------------------------------------------------------------------

function showState({ state, shard, transport, retryAt }) {
  clearInterval(showState.timer);
  const words = { connecting: "Connecting", online: "Online", offline: "Offline", draining: "Moving", closed: "Closed" };
  $("badge").dataset.state = state;
  $("badge-state").textContent = words[state];
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
  if (state !== "online" && room) room.isStale = true;
}

function showMe({ user, guest }) {
  $("my-name").textContent = user;
  $("my-kind").textContent = guest ? "Guest" : "Signed in";
  $("my-avatar").textContent = initials(user);
  $("my-avatar").className = `avatar ${hueOf(user)}`;
}

function showPeople() {
  const names = [...room.people].filter((name) => name !== session.user).sort((a, b) => a.localeCompare(b));
  const shown = [session.user, ...names].slice(0, PEOPLE_SHOWN);
  const count = Math.max(room.count, room.people.size);
  $("people").replaceChildren(...shown.map(person));
  if (count > shown.length) $("people").append(element("li", "more", `and ${(count - shown.length).toLocaleString()} more`));
  $("people-count").textContent = count.toLocaleString();
  $("room-people").textContent = count === 1 ? "Only you are here" : `${count.toLocaleString()} people here`;
}

function person(name) {
  const item = element("li", hueOf(name));
  const avatar = element("span", "avatar", initials(name));
  avatar.setAttribute("aria-hidden", "true");
  item.append(avatar, element("span", "name", name));
  if (name === session.user) item.append(element("small", "", "you"));
  return item;
}

function showTyping() {
  const [first, second, ...more] = room.typing.keys();
  let text = "";
  if (more.length) text = "Several people are typing…";
  else if (second) text = `${first} and ${second} are typing…`;
  else if (first) text = `${first} is typing…`;
  if ($("typing").textContent !== text) $("typing").textContent = text;
}

function showTitle() {
  document.title = `${room.unread ? `(${room.unread}) ` : ""}#${room.name}${label}`;
}

function showRooms(names) {
  $("rooms").replaceChildren(
    ...names.map((name) => {
      const link = element("a", "", name);
      link.href = `?room=${encodeURIComponent(name)}`;
      if (name === room.name) link.setAttribute("aria-current", "page");
      const item = element("li");
      item.append(link);
      return item;
    }),
  );
}

function toast(text) {
  const toasts = $("toasts");
  const note = element("p", "toast", text);
  toasts.append(note);
  if (toasts.childElementCount > TOASTS_MAX) toasts.firstElementChild.remove();
  setTimeout(() => note.remove(), TOAST_MS);
}

function showSide(isOpen) {
  document.body.classList.toggle("side-open", isOpen);
  $("open-side").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) $("close-side").focus();
  else if (document.activeElement?.closest("#side")) $("open-side").focus();
}

function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

// -- rooms and the address ---------------------------------------------------------------------------------------------

function roomOfAddress() {
  const given = new URLSearchParams(location.search).get("room") ?? location.hash;
  const name = tidyRoom(given);
  return ROOM.test(name) ? name : null;
}

function tidyRoom(text) {
  return text.trim().replace(/^#/, "").toLowerCase().replace(/\s+/g, "-");
}

function setAddress(name, isReplaced) {
  const query = new URLSearchParams(location.search); // who asks for a transport keeps it
  query.set("room", name);
  const address = `${location.pathname}?${query}`;
  if (address === location.pathname + location.search) return;
  history[isReplaced ? "replaceState" : "pushState"](null, "", address);
}

function rememberRoom(name) {
  const known = (read(localStorage, ROOMS) ?? []).filter((one) => ROOM.test(one));
  const names = known.includes(name) ? known : [name, ...known].slice(0, ROOMS_MAX);
  write(localStorage, ROOMS, names);
  showRooms(names.includes("lobby") ? names : [...names, "lobby"]);
}

function joinRoom(event) {
  event.preventDefault();
  const name = tidyRoom($("join-room").value);
  if (!ROOM.test(name)) return toast("Rooms are named with a-z, 0-9, dot, dash and underscore.");
  $("join-room").value = "";
  showSide(false);
  if (name !== room.name) openRoom(name);
}

// -- events ------------------------------------------------------------------------------------------------------------

$("sign-in").addEventListener("submit", submitDoor);
$("sign-in").addEventListener("change", (event) => event.target.name === "how" && showWay());
$("leave").addEventListener("click", leave);
$("composer").addEventListener("submit", submit);
$("text").addEventListener("input", typed);
$("text").addEventListener("keydown", keyed);
$("join").addEventListener("submit", joinRoom);
$("open-side").addEventListener("click", () => showSide(true));
$("close-side").addEventListener("click", () => showSide(false));
$("shade").addEventListener("click", () => showSide(false));
$("rooms").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  showSide(false);
  if (link.textContent !== room.name) openRoom(link.textContent);
});
addEventListener("keydown", (event) => event.key === "Escape" && showSide(false));
addEventListener("popstate", () => {
  const name = roomOfAddress();
  if (session && name && name !== room.name) openRoom(name, true);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !room) return;
  room.unread = 0;
  showTitle();
  noteRead();
});
