// The session protocol in binary frames: the same message objects as JSON gives, out of and into bytes.
//
// `protocols/session/SPEC.md` draws the frames (section 3) and `proto/session.proto` their bodies; the test of this
// module reads the specification's vectors. Nothing here knows where the bytes come from.

const VERSION = 1;
const VERSION_BITS = 0x07;
const EPHEMERAL = 0x08;
const ZSTD = 0x10;
const OFFSET = 0x20;
const MORE = 0x40;
const HEADER_LEN = 16;
const OFFSET_LEN = 8;
/** No answer is longer: a page of history has 100 messages, each of which came in a frame of at most 64 KiB. */
export const BODY_MAX = 8 * 1024 * 1024;

// Field types: how the value is written behind the tag. A list is of fields that stand any number of times.
const UINT = { wire: 0, read: (varint) => Number(varint), write: (value) => varint(value) };
const HEX64 = { wire: 1, read: (number) => number.toString(16).padStart(16, "0"), write: (value) => fixed64(BigInt(`0x${value}`)) };
const TEXT = { wire: 2, read: (bytes) => decoder.decode(bytes), write: (value) => encoder.encode(value) };
const JSON_TEXT = { wire: 2, read: (bytes) => JSON.parse(decoder.decode(bytes)), write: (value) => encoder.encode(JSON.stringify(value)) };
const CODE = { wire: 0, read: (varint) => CODES[varint] ?? "unknown" };
const LEVEL = { wire: 0, read: (varint) => LEVELS[varint] };
const listOf = (type) => ({ ...type, isList: true });
const messageOf = (fields) => ({ wire: 2, read: (bytes) => readBody(fields, bytes), write: (value) => writeBody(fields, value) });

const CODES = {
  2: "unknown", 3: "invalid_argument", 4: "deadline_exceeded", 5: "not_found", 6: "already_exists", 7: "permission_denied",
  8: "resource_exhausted", 9: "failed_precondition", 11: "out_of_range", 12: "unimplemented", 13: "internal", 14: "unavailable",
  16: "unauthenticated",
};
const LEVELS = { 1: "memory", 2: "durable" };

const RESUME = { session: [1, TEXT], ticket: [2, TEXT] };
const SUB = { topic: [1, TEXT], epoch: [2, HEX64], after: [3, UINT] };
/** What proto3 leaves out because it is zero has its value third; without one the field is absent. */
const SUB_RESULT = { topic: [1, TEXT, ""], alias: [2, UINT, 0], epoch: [3, HEX64], head: [4, UINT, 0], code: [5, CODE], message: [6, TEXT] };

const FROM_CLIENT = {
  hello: {
    kind: 1,
    fields: {
      version_min: [1, UINT], version_max: [2, UINT], features: [3, UINT], token: [4, TEXT], resume: [5, messageOf(RESUME)],
      device: [6, TEXT], subs: [7, listOf(messageOf(SUB))],
    },
  },
  ping: { kind: 3, fields: {} },
  req: { kind: 6, fields: { op: [1, TEXT], body: [2, JSON_TEXT] } },
  sub: { kind: 9, fields: SUB },
  unsub: { kind: 11, fields: { topic: [1, TEXT] } },
  pub: { kind: 13, fields: { topic: [1, TEXT], seq: [2, UINT], body: [3, JSON_TEXT] } },
  eph: { kind: 16, fields: { topic: [1, TEXT], key: [3, TEXT], body: [4, JSON_TEXT] } },
  ack: { kind: 18, fields: { topic: [1, TEXT], delivered: [2, UINT], read: [3, UINT] } },
};

const FROM_SERVER = new Map([
  [2, {
    kind: "welcome",
    fields: {
      session: [1, TEXT, ""], user: [2, TEXT, ""], ticket: [3, TEXT, ""], shard: [4, UINT, 0], ping_ms: [5, UINT, 0],
      subs: [6, listOf(messageOf(SUB_RESULT))],
    },
  }],
  [4, { kind: "pong", fields: { at_ms: [1, UINT, 0] } }],
  [5, { kind: "goaway", fields: { reason: [1, TEXT, ""], retry_ms: [2, UINT, 0] } }],
  [7, { kind: "res", fields: { body: [1, JSON_TEXT] } }],
  [8, { kind: "err", fields: { code: [1, CODE, "unknown"], message: [2, TEXT, ""], retry_ms: [3, UINT] } }],
  [10, { kind: "sub_ok", fields: { topic: [1, TEXT], epoch: [2, HEX64, "0".repeat(16)], head: [3, UINT, 0] } }],
  [12, { kind: "unsub_ok", fields: { topic: [1, TEXT] } }],
  [14, { kind: "pub_ok", offset: "offset", fields: { topic: [1, TEXT], level: [2, LEVEL] } }],
  [15, { kind: "msg", offset: "offset", fields: { topic: [1, TEXT], from: [2, TEXT, ""], at_ms: [3, UINT, 0], body: [4, JSON_TEXT] } }],
  [16, { kind: "eph", fields: { topic: [1, TEXT], from: [2, TEXT, ""], key: [3, TEXT, ""], body: [4, JSON_TEXT] } }],
  [17, { kind: "gap", offset: "first", fields: { topic: [1, TEXT] } }],
  [19, { kind: "presence", fields: { topic: [1, TEXT], joined: [2, listOf(TEXT)], left: [3, listOf(TEXT)], count: [4, UINT, 0] } }],
]);

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A client's message as one frame. */
export function encode({ kind: name, id = 0, ...message }) {
  const { kind, fields } = FROM_CLIENT[name];
  if (name === "hello") message = { version_min: VERSION, version_max: VERSION, ...message };
  const body = writeBody(fields, message);
  const frame = new Uint8Array(HEADER_LEN + body.length);
  const view = new DataView(frame.buffer);
  frame[0] = VERSION | (name === "eph" ? EPHEMERAL : 0);
  frame[1] = kind;
  view.setUint32(4, body.length, true);
  view.setUint32(12, id, true);
  frame.set(body, HEADER_LEN);
  return frame;
}

/** The names of one connection's topics, which the server calls by numbers once it has told them. */
export class Reader {
  #topics = new Map(); // alias -> topic

  /** A server's frame as the message that it holds, or null if it is of a kind that this page does not know. */
  decode(frame) {
    const view = viewOf(frame);
    const header = headerOf(view);
    const known = FROM_SERVER.get(frame[1]);
    if (!known) return null; // of a newer server: what it cannot do without it asks for by a version
    if (header.hasOffset !== Boolean(known.offset)) throw new Error(`${known.kind}: an offset where there is none, or none`);
    if (header.len !== frame.length) throw new Error("a frame of another length than it says");
    const message = { kind: known.kind, ...readBody(known.fields, frame.subarray(HEADER_LEN + (header.hasOffset ? OFFSET_LEN : 0))) };
    const id = view.getUint32(12, true);
    if (id) message.id = id;
    if (known.offset) message[known.offset] = Number(view.getBigUint64(HEADER_LEN, true));
    this.#name(message, view.getUint32(8, true));
    return message;
  }

  #name(message, alias) {
    if (message.kind === "welcome") message.subs = message.subs.map((result) => this.#learn(result));
    else if (message.kind === "sub_ok") this.#topics.set(alias, message.topic);
    else if (alias) message.topic = this.#topics.get(alias);
  }

  #learn({ alias, epoch = "0".repeat(16), ...result }) {
    if (result.code !== undefined) return { topic: result.topic, code: result.code, message: result.message ?? "" };
    if (alias) this.#topics.set(alias, result.topic);
    return { topic: result.topic, epoch, head: result.head };
  }
}

/** Cuts a stream of bytes into frames, each copied once, none longer than BODY_MAX. */
export class Deframer {
  #frame = new Uint8Array(HEADER_LEN); // as long as what is known to come
  #held = 0;

  /** The frames that `bytes` complete. Throws if what comes is no frame. */
  *push(bytes) {
    while (bytes.length) {
      const part = bytes.subarray(0, this.#frame.length - this.#held);
      this.#frame.set(part, this.#held);
      this.#held += part.length;
      bytes = bytes.subarray(part.length);
      if (this.#held === HEADER_LEN) this.#grow();
      if (this.#held < this.#frame.length) continue;
      const frame = this.#frame;
      [this.#frame, this.#held] = [new Uint8Array(HEADER_LEN), 0];
      yield frame;
    }
  }

  #grow() {
    const { len } = headerOf(viewOf(this.#frame));
    const frame = new Uint8Array(len);
    frame.set(this.#frame);
    this.#frame = frame;
  }
}

/** What of a header is about the frame itself: whether it has an offset, and its length in all. */
function headerOf(view) {
  if (view.byteLength < HEADER_LEN) throw new Error("a frame without a whole header");
  const flags = view.getUint8(0);
  if ((flags & VERSION_BITS) !== VERSION || flags & (ZSTD | MORE)) throw new Error("a frame of another version");
  const body = view.getUint32(4, true);
  if (body > BODY_MAX) throw new Error(`a frame of ${body} bytes`);
  const hasOffset = Boolean(flags & OFFSET);
  return { hasOffset, len: HEADER_LEN + (hasOffset ? OFFSET_LEN : 0) + body };
}

// -- protobuf ----------------------------------------------------------------------------------------------------------

function writeBody(fields, message) {
  const parts = [];
  for (const [name, [number, type]] of Object.entries(fields)) {
    const value = message[name];
    if (value === undefined || value === null) continue;
    for (const one of type.isList ? value : [value]) {
      const bytes = type.write(one);
      parts.push(varint(number * 8 + type.wire));
      if (type.wire === 2) parts.push(varint(bytes.length));
      parts.push(bytes);
    }
  }
  return joined(parts);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function varint(value) {
  const bytes = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 0x80n) return Uint8Array.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

function fixed64(value) {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value, true);
  return bytes;
}

/** Unknown fields are passed over; of one that stands twice the last one counts. */
function readBody(fields, bytes) {
  const message = {};
  const known = new Map();
  for (const [name, [number, type, absent]] of Object.entries(fields)) {
    known.set(number, { name, type });
    if (type.isList) message[name] = [];
    else if (absent !== undefined) message[name] = absent;
  }
  const cursor = new Cursor(bytes);
  while (!cursor.isAtEnd) {
    const tag = Number(cursor.varint());
    const raw = cursor.value(tag % 8);
    const field = known.get(Math.floor(tag / 8));
    if (!field) continue;
    const { name, type } = field;
    if (type.wire !== tag % 8) throw new Error(`${name} is of another type`);
    if (type.isList) message[name].push(type.read(raw));
    else message[name] = type.read(raw);
  }
  return message;
}

class Cursor {
  #bytes;
  #view;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  get isAtEnd() {
    return this.#at === this.#bytes.length;
  }

  value(wire) {
    if (wire === 0) return this.varint();
    if (wire === 1) return viewOf(this.#take(8)).getBigUint64(0, true);
    if (wire === 2) return this.#take(Number(this.varint()));
    if (wire === 5) return this.#take(4);
    throw new Error(`wire type ${wire}`);
  }

  varint() {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#view.getUint8(this.#at); // throws behind the end
      this.#at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new Error("a varint without an end");
  }

  #take(length) {
    if (length > this.#bytes.length - this.#at) throw new Error("a field beyond its body");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
