// What a message says, as nodes and as words: text with its links and mentions, cards of files, and what the server says.
//
// Text of users only ever becomes a text node or the address of a checked link. A picture of another site is fetched
// when its reader asks for it: looking at it tells that site who looks.

import { button, element, icon } from "./dom.js";
import { lasting } from "./redraw.js";

const LINK = /https?:\/\/[^\s<>"']+/gi;
const MEDIA = new Set(["image", "file", "audio", "video"]);
const KINDS = { image: "Picture", file: "File", audio: "Sound", video: "Video" };
const ROLES = { member: "a member", admin: "an admin", owner: "the owner" };
const EVENTS = {
  created: "Group created", renamed: "Another name", settings: "Other settings", invited: "New members", joined: "Somebody joined",
  left: "Somebody left", removed: "A member was removed", role: "Another role", muted: "A member may not write, or may again",
  banned: "Somebody was banned", unbanned: "A ban was lifted", day: "A new day",
};
/** Media types by the ends of names; whatever is not here is a file. */
const TYPES = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", avif: "image/avif", svg: "image/svg+xml",
  mp3: "audio/mpeg", ogg: "audio/ogg", wav: "audio/wav", m4a: "audio/mp4", flac: "audio/flac",
  mp4: "video/mp4", webm: "video/webm", mov: "video/quicktime",
  pdf: "application/pdf", zip: "application/zip", txt: "text/plain", csv: "text/csv", json: "application/json",
};
const ALWAYS = "ringshard.pictures";
const NAME_CHARS_MAX = 255;
/** Card -> the file that it shows, as text. */
const files = new WeakMap();

/** Whether this is a message of a user, with a row of its own. */
export function isShown(body) {
  return body.type === "text" || MEDIA.has(body.type);
}

/**
 * The nodes of a message's content; `isSure` says that nobody but the user can have written it. `before` is the card that
 * the message had: as long as it has the same file it is the same card, and a picture that was asked for stays.
 */
export function content(body, { isOwn = false, isSure = false, before = null } = {}) {
  if (body.type === "recalled") return [element("em", "recalled", isOwn ? "You recalled this message" : "This message was recalled")];
  const nodes = MEDIA.has(body.type) && body.file ? [cardOf(body, isSure, before)] : [];
  if (body.text) nodes.push(...linked(String(body.text), Array.isArray(body.mentions) ? body.mentions : []));
  if (nodes.length === 0) nodes.push(element("em", "recalled", "This page cannot show this message"));
  return nodes;
}

/** One line of a message for lists and quotes. */
export function summary(body) {
  if (body.type === "recalled" || body.type === "recall") return "Message recalled";
  if (MEDIA.has(body.type)) return `${KINDS[body.type]}: ${body.text || body.file?.name || ""}`;
  return String(body.text ?? "");
}

/** What the server says of a conversation, in words; `me` is "You". */
export function systemWords({ event, by, user, users = [], name, role, open, slow_ms: slowMs, until_ms: untilMs }, me) {
  const who = (one) => (one === me ? "you" : one);
  const Who = (one) => (one === me ? "You" : one);
  const By = Who(by);
  const all = users.length > 4 ? `${users.slice(0, 3).map(who).join(", ")} and ${users.length - 3} others` : users.map(who).join(", ");
  const until = untilMs ? ` until ${new Date(untilMs).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}` : "";
  const words = {
    created: () => `${By} created the group “${name}”${all ? ` with ${all}` : ""}`,
    renamed: () => `${By} renamed the group to “${name}”`,
    settings: () => `${By} changed the settings: ${open ? "everybody may join" : "by invitation only"}${slowMs ? `, one message in ${slowMs / 1_000} s` : ""}`,
    invited: () => `${By} invited ${all || who(user ?? "somebody")}`,
    joined: () => `${Who(user)} joined`,
    left: () => `${Who(user)} left`,
    removed: () => `${By} removed ${who(user)}`,
    role: () => `${By} made ${who(user)} ${ROLES[role] ?? role}`,
    muted: () => (untilMs ? `${By} muted ${who(user)}${until}` : `${By} let ${who(user)} write again`),
    banned: () => `${By} banned ${who(user)}${until}`,
    unbanned: () => `${By} lifted the ban of ${who(user)}`,
  };
  return words[event]?.() ?? `${By ?? "The server"}: ${String(event ?? "a notice")}`;
}

/** A line of the conversation list: what was said last. */
export function preview({ type, text = "", from }, me) {
  if (type === "system") return EVENTS[text] ?? "News of the group";
  const said = type === "recall" || type === "recalled" ? "Message recalled" : type === "edit" ? `Edited: ${text}` : MEDIA.has(type) ? `${KINDS[type]}: ${text}` : text;
  return from === me ? `You: ${said}` : said;
}

/** A message of a file at `address`, or the reason why there cannot be one. `kind` "auto" goes by the name. */
export function fileOf(address, kind, name, caption) {
  const url = addressOf(address);
  if (!url || !(url.protocol === "https:" || isOwn(url))) throw new Error("The address has to begin with https://");
  if (url.username || url.password) throw new Error("The address must not have a user name in it.");
  const given = name || nameOf(url);
  const found = TYPES[given.split(".").at(-1).toLowerCase()] ?? TYPES[url.pathname.split(".").at(-1).toLowerCase()];
  const family = kind === "auto" ? found?.split("/")[0] : kind;
  const type = MEDIA.has(family) ? family : "file";
  const mime = type === "file" ? (found ?? "application/octet-stream") : found?.startsWith(`${type}/`) ? found : `${type}/${{ image: "png", audio: "mpeg", video: "mp4" }[type]}`;
  const body = { type, file: { url: isOwn(url) ? url.pathname + url.search : url.href, name: given, bytes: 0, mime } };
  return caption ? { ...body, text: caption } : body;
}

/** The file that a text is the address of, if it is nothing else, or null. */
export function fileOfText(text) {
  if (!/^https:\/\/\S+$/.test(text)) return null;
  const end = addressOf(text)?.pathname.split(".").at(-1).toLowerCase();
  if (!TYPES[end]) return null;
  try {
    return fileOf(text, "auto", "", "");
  } catch {
    return null;
  }
}

/** Whether pictures of other sites are fetched by themselves. */
export function showsPictures() {
  return localStorage.getItem(ALWAYS) === "always";
}

export function setShowsPictures(isAlways) {
  localStorage.setItem(ALWAYS, isAlways ? "always" : "ask");
}

function addressOf(text) {
  return URL.canParse(text, location.href) ? new URL(text, location.href) : null;
}

function isOwn(url) {
  return url.origin === location.origin && url.pathname.startsWith("/files/");
}

function nameOf(url) {
  let name = url.pathname.split("/").filter(Boolean).at(-1) ?? url.hostname;
  try {
    name = decodeURIComponent(name);
  } catch {
    // As it is.
  }
  return name.replace(/[/\\\p{C}]/gu, "_").slice(0, NAME_CHARS_MAX) || "file";
}

function cardOf({ type, file }, isSure, before) {
  const { url, name, bytes: size, width, height } = file;
  const what = JSON.stringify([type, url, name, size, width, height]);
  if (before && files.get(before) === what) return before;
  const made = lasting(card(type, file, isSure));
  files.set(made, what);
  return made;
}

function card(type, file, isSure) {
  const url = addressOf(String(file.url));
  const made = element("span", `card-file is-${type}`);
  const name = String(file.name ?? "file");
  if (!url || !["https:", "http:"].includes(url.protocol)) return element("span", "card-file", icon("file"), name);
  if (type === "image") made.append(pictureOf(url, name, file, isSure));
  const where = isOwn(url) ? "this server" : url.host;
  const size = file.bytes ? `${bytes(file.bytes)} · ` : "";
  const link = element("a", "file-link", icon(type), element("span", "", element("strong", "", name), element("small", "", `${size}${where}`)));
  Object.assign(link, { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" });
  made.append(link);
  return made;
}

function pictureOf(url, name, { width, height }, isSure) {
  const frame = element("span", "picture");
  if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
  const show = () => {
    const image = element("img");
    Object.assign(image, { alt: name, loading: "lazy", decoding: "async", referrerPolicy: "no-referrer" });
    image.addEventListener("error", () => frame.replaceChildren(element("small", "", "The picture cannot be shown")));
    image.src = url.href;
    frame.replaceChildren(image);
  };
  if (isOwn(url) || isSure || showsPictures()) show();
  else frame.append(button("quiet show-picture", "Show picture", show, { title: `Fetches it from ${url.host}` }));
  return frame;
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${(count / 1_000 ** power).toFixed(power && count / 1_000 ** power < 10 ? 1 : 0)} ${units[power]}`;
}

function linked(text, mentions) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = found.replace(/[.,;:!?)\]}]+$/, "");
    if (!URL.canParse(address)) continue;
    const link = element("a", "", address);
    Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer nofollow" });
    nodes.push(...mentioned(text.slice(end, index), mentions), link);
    end = index + address.length;
  }
  nodes.push(...mentioned(text.slice(end), mentions));
  return nodes;
}

function mentioned(text, names) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(/@[\p{L}\p{N}._-]+/gu)) {
    if (!names.includes(found.slice(1))) continue;
    nodes.push(text.slice(end, index), element("b", "mention", found));
    end = index + found.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
