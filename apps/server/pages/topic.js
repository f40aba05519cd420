// Topics of the messenger by their names: which conversation one is, and which topic a conversation has.
//
// The server's `apps/chat/src/conversation/address.rs` has the rules: a name is written as it is where a topic can hold
// it; anything else in it is a run of `~.`, four digits [0-9a-v] per character, and `.`.

const DIRECT = "chat/d/";
const GROUP = "chat/g/";
const PERSONAL = "chat/u/";
const DIGITS = 4;
const ROOM = /^[a-z0-9][a-z0-9._~-]{0,63}$/;
const GROUP_ID = /^[a-z0-9._~-]{1,64}$/;

/** {kind: "direct", users}, {kind: "group", id}, {kind: "personal", user} or {kind: "room", room}; null if it is none. */
export function parseTopic(topic) {
  if (topic.startsWith(DIRECT)) {
    const users = unpack(topic.slice(DIRECT.length));
    return users?.length === 2 && directTopic(...users) === topic ? { kind: "direct", users } : null;
  }
  if (topic.startsWith(PERSONAL)) {
    const users = unpack(topic.slice(PERSONAL.length));
    return users?.length === 1 && personalTopic(users[0]) === topic ? { kind: "personal", user: users[0] } : null;
  }
  if (topic.startsWith(GROUP)) return GROUP_ID.test(topic.slice(GROUP.length)) ? { kind: "group", id: topic.slice(GROUP.length) } : null;
  const room = topic.startsWith("chat/") ? topic.slice(5) : "";
  return ROOM.test(room) ? { kind: "room", room } : null;
}

/** The topic of two users, in whatever order. */
export function directTopic(a, b) {
  const [first, second] = isBefore(a, b) ? [a, b] : [b, a];
  return `${DIRECT}${pack(first)}~${pack(second)}`;
}

/** What the server tells all devices of `user`. */
export function personalTopic(user) {
  return PERSONAL + pack(user);
}

/** The name of a room as somebody types it, or null if no room is called so. */
export function roomName(text) {
  const name = text.trim().replace(/^#/, "").toLowerCase().replace(/\s+/g, "-");
  return ROOM.test(name) ? name : null;
}

/** The order of the server is that of code points; JavaScript compares halves of surrogate pairs. */
function isBefore(a, b) {
  const [one, other] = [[...a], [...b]].map((name) => name.map((char) => char.codePointAt(0)));
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) if (one[at] !== other[at]) return one[at] < other[at];
  return one.length < other.length;
}

function pack(name) {
  let packed = "";
  let isRun = false;
  for (const char of name) {
    const isPlain = /^[a-z0-9._-]$/.test(char);
    if (isRun === isPlain) {
      packed += isRun ? "." : "~.";
      isRun = !isRun;
    }
    packed += isRun ? char.codePointAt(0).toString(32).padStart(DIGITS, "0") : char;
  }
  return isRun ? `${packed}.` : packed;
}

function unpack(packed) {
  const names = [""];
  while (packed) {
    const run = /^~\.((?:[0-9a-v]{4})+)\./.exec(packed);
    if (run) {
      for (const digits of run[1].match(/.{4}/g)) {
        const point = parseInt(digits, 32);
        if (point > 0x10ffff) return null;
        names[names.length - 1] += String.fromCodePoint(point);
      }
      packed = packed.slice(run[0].length);
      continue;
    }
    if (packed[0] === "~") names.push("");
    else names[names.length - 1] += packed[0];
    packed = packed.slice(1);
  }
  return names;
}
