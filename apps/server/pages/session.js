// The session client: one carrier that comes back by itself, resumes every topic where it was, and sends each message exactly once.
//
// It applies a `msg` only at the offset after the last one, so whoever listens sees every message of a topic once and
// in order, whatever the connection does. What `publish` takes is kept by the device's outbox until the server answers.

import { Carrier, trustAgain } from "./carrier.js";
import { Device, randomId, read, write } from "./outbox.js";

const RESUME = "ringshard.resume";
/** From the first byte to `welcome`; the server allows the same. */
const HELLO_MS = 10_000;
/** Reconnecting: doubled from first to last, and only 50-100 % of it, so that clients do not come back in step. */
const BACKOFF_FIRST_MS = 300;
const BACKOFF_LAST_MS = 15_000;
/** A connection that lived this long was a good one: the next backoff starts afresh. */
const STABLE_MS = 5_000;
/** A subscription of the hello that `welcome` did not confirm is asked for again. */
const SUB_MS = 3_000;
/** Until `welcome` names another interval. */
const PING_MS = 25_000;
/** How often the heartbeat looks at the clock. */
const BEAT_MS = 2_500;
/** An answer to a ping of a page that has just come back to the foreground. */
const PROBE_MS = 4_000;
/** An unanswered publish: the connection is taken for dead. Sending again is safe. */
const ANSWER_MS = 20_000;
/** After `goaway` the server finishes what is under way. */
const GOAWAY_MS = 1_500;
/** Errors that pass: the message stays in the outbox and is sent again. */
const PASSING = new Set(["resource_exhausted", "unavailable", "aborted", "deadline_exceeded", "internal", "unknown", "cancelled"]);
/** An operation that came too fast is asked again, so often and each time later: others of this page wait as well. */
const ASKS_MAX = 8;
/** An id tells the messages apart that a device waits for, and is stored with each: 48 bits are enough, and short. */
const CLIENT_ID_LEN = 12;
const FORBIDDEN = new Set(["unauthenticated", "permission_denied"]);

/** Opens a session for `identity`. It connects as soon as `start()` is called, so that listeners can be set before. */
export async function openSession(identity) {
  return new Session(identity, await Device.lease(identity.user));
}

/**
 * Events: `state` {state, shard, transport, retryAt} · `joined` {topic, epoch, head, isReset} · `msg` · `gap` {topic, first} ·
 * `denied` {topic, code, message} · `presence` · `eph` · `queued`/`sent`/`refused` {entry, offset, level, code, message} · `err` ·
 * `signed_out`.
 */
export class Session {
  #listeners = new Map();
  #topics = new Map(); // name -> { epoch, last, head, isAsked, isJoined, isRepaired }
  #calls = new Map(); // id -> what to do with the answer
  #flying = new Set(); // topics with a publish under way
  #carrier = null;
  #wish = new URLSearchParams(location.search).get("transport"); // for people and tests that want one kind
  #timers = {};
  #lastId = 0;
  #attempt = 0;
  #heardAt = 0;
  #pingedAt = 0;
  #pingMs = PING_MS;
  #heldUntil = new Map(); // topic -> when the server takes something there again
  #isGreeting = false;
  #resume;
  #watch;

  constructor(identity, device) {
    this.identity = identity;
    this.device = device;
    this.state = "offline";
    this.isClosed = false;
    this.shard = null;
    const saved = read(sessionStorage, RESUME);
    this.#resume = saved?.device === device.id && saved.user === identity.user ? saved : null;
    // For tests and the console. `drop` cuts the connection as a lost network would, and stays away for `awayMs`; `deafen`
    // hears nothing more of this connection; `switch` goes on over "webtransport", "websocket" or (null) the best.
    window.ringshard = {
      session: this,
      drop: (awayMs = 0) => this.#lost(awayMs),
      deafen: () => this.#carrier && (this.#carrier.onmessage = null),
      switch: (transport) => this.#switch(transport),
    };
  }

  get user() {
    return this.identity.user;
  }

  /** "WebTransport" or "WebSocket", null while there is no connection. */
  get transport() {
    return this.#carrier?.transport ?? null;
  }

  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, []);
    this.#listeners.get(event).push(listener);
    return this;
  }

  start() {
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    addEventListener("online", () => trustAgain(), { signal });
    addEventListener("online", () => this.#hurry(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry(), { signal });
    this.#connect();
  }

  /** Ends the session; `forget` also erases the device and what it has not sent. */
  close(forget = false) {
    this.isClosed = true;
    this.#watch?.abort();
    this.#detach();
    this.device.release(forget);
    sessionStorage.removeItem(RESUME); // another user may come
    this.#setState("closed");
  }

  /** Goes on with another token of the same user: what the old one opened ends with it. */
  renew(identity) {
    this.identity = identity;
    this.#resume = null;
    sessionStorage.removeItem(RESUME);
    this.#connect();
  }

  /** Joins a topic. `after: 0` asks for its whole history, undefined for what comes from now on. */
  subscribe(topic, after) {
    const held = { name: topic, epoch: null, last: after, head: 0, isAsked: false, isJoined: false, isRepaired: false };
    this.#topics.set(topic, held);
    if (this.state === "online") this.#sendSub(held);
  }

  unsubscribe(topic) {
    if (this.#topics.delete(topic) && this.state === "online") this.#send({ kind: "unsub", id: this.#id(), topic });
  }

  /** Puts a message into the outbox, with an id by which it is known when it comes back, and sends it as soon as it can be. */
  publish(topic, body) {
    const held = this.#topics.get(topic);
    const entry = this.device.add(topic, { ...body, client_id: randomId().slice(0, CLIENT_ID_LEN) }, { epoch: held?.epoch ?? null, after: held?.last ?? 0 });
    this.#emit("queued", { entry });
    this.#flush();
    return entry;
  }

  /** Tells the others the newest value of `key`; lost if the connection is down. */
  ephemeral(topic, key, body) {
    if (this.#topics.get(topic)?.isJoined) this.#send({ kind: "eph", topic, key, body });
  }

  /** Raises the watermarks: all that was applied is delivered, all up to `read`, if given, was seen. */
  ack(topic, read) {
    const held = this.#topics.get(topic);
    if (!held?.isJoined) return;
    const seen = read === undefined ? {} : { read: Math.min(read, held.last) };
    this.#send({ kind: "ack", topic, delivered: held.last, ...seen });
  }

  /** Whether the server has said yes to a subscription on this connection. */
  isJoined(topic) {
    return this.#topics.get(topic)?.isJoined ?? false;
  }

  /** Whether a topic is subscribed to, joined or on the way to it. */
  has(topic) {
    return this.#topics.has(topic);
  }

  get topicCount() {
    return this.#topics.size;
  }

  /** Calls an operation; rejects with {code, message} or when the connection is lost. What came too fast is asked again. */
  async request(op, body = {}) {
    for (let round = 1; ; round += 1) {
      try {
        return await this.#ask(op, body);
      } catch (error) {
        if (error.code !== "resource_exhausted" || !error.retry_ms || round === ASKS_MAX) throw error;
        await new Promise((resolve) => setTimeout(resolve, error.retry_ms * round * (1 + Math.random())));
      }
    }
  }

  #ask(op, body) {
    return new Promise((resolve, reject) => {
      if (this.state !== "online") return reject({ code: "unavailable", message: "There is no connection right now." });
      const id = this.#id();
      this.#calls.set(id, { res: (answer) => resolve(answer.body), err: reject });
      this.#send({ kind: "req", id, op, body });
    });
  }

  // -- the connection ------------------------------------------------------------------------------------------------

  #connect() {
    this.#detach();
    this.#setState("connecting");
    this.#carrier = new Carrier(this.#wish);
    this.#carrier.onopen = () => this.#sendHello();
    this.#carrier.onmessage = (message) => this.#hear(message);
    this.#carrier.onclose = () => this.#lost();
    this.#timer("hello", HELLO_MS, () => this.#lost());
  }

  #switch(transport) {
    this.#wish = transport;
    if (this.state !== "closed") this.#connect();
  }

  #sendHello() {
    const subs = Array.from(this.#topics.values(), subOf);
    for (const held of this.#topics.values()) held.isAsked = true;
    this.#isGreeting = true;
    const proof = this.#resume
      ? { resume: { session: this.#resume.session, ticket: this.#resume.ticket } }
      : { token: this.identity.token };
    this.#send({ kind: "hello", id: this.#id(), ...proof, device: this.device.id, subs });
  }

  #welcome(message) {
    clearTimeout(this.#timers.hello);
    this.#isGreeting = false;
    this.#resume = { device: this.device.id, user: this.user, session: message.session, ticket: message.ticket };
    write(sessionStorage, RESUME, this.#resume);
    this.#pingMs = message.ping_ms ?? PING_MS;
    this.shard = message.shard ?? null;
    this.#timer("stable", STABLE_MS, () => (this.#attempt = 0));
    this.#setState("online");
    for (const sub of message.subs ?? []) sub.code === undefined ? this.#joined(sub) : this.#denied(sub);
    this.#askAgain((held) => !held.isAsked);
    this.#timer("subs", SUB_MS, () => this.#askAgain(() => true));
    this.#beat();
    this.#flush();
  }

  /** The connection is gone: everything under way is undecided, and it is tried again after a while. */
  #lost(awayMs) {
    this.#detach();
    const backoff = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    const waitMs = awayMs ?? backoff;
    this.#attempt += 1;
    this.#setState("offline", { retryAt: Date.now() + waitMs });
    this.#timer("retry", waitMs, () => this.#connect());
  }

  #detach() {
    Object.values(this.#timers).forEach(clearTimeout);
    this.#timers = {};
    if (this.#carrier) {
      this.#carrier.onopen = this.#carrier.onmessage = this.#carrier.onclose = null;
      this.#carrier.close();
      this.#carrier = null;
    }
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    this.#flying.clear();
    if (this.#isGreeting) this.#resume = null; // not even an answer to the ticket: next time the token
    this.#isGreeting = false;
    for (const held of this.#topics.values()) held.isAsked = held.isJoined = false;
    for (const call of calls) if (call.res) call.err({ code: "unavailable", message: "the connection was lost" });
  }

  /** The page is looked at again, or the network is back: no more waiting, and no trust in an old connection. */
  #hurry() {
    if (this.state === "offline") this.#connect();
    else if (this.state === "online" && Date.now() - this.#heardAt > PROBE_MS) this.#ping(PROBE_MS);
  }

  #beat() {
    const idle = Date.now() - this.#heardAt;
    if (idle >= this.#pingMs && this.#pingedAt <= this.#heardAt) this.#ping(this.#pingMs);
    this.#timer("beat", BEAT_MS, () => this.#beat());
  }

  #ping(answerMs) {
    this.#pingedAt = Date.now();
    this.#send({ kind: "ping", id: this.#id() });
    this.#timer("pong", answerMs, () => this.#lost());
  }

  // -- what the server says ------------------------------------------------------------------------------------------

  #hear(message) {
    this.#heardAt = Date.now();
    clearTimeout(this.#timers.pong);
    const { kind, id } = message;
    if (kind === "msg") return this.#msg(message);
    if (kind === "err") return this.#err(message);
    if (kind === "welcome") return this.#welcome(message);
    if (kind === "goaway") return this.#goaway(message);
    if (kind === "sub_ok") this.#joined(message);
    else if (kind === "gap") this.#gap(message);
    else if (kind === "presence" || kind === "eph") this.#topics.has(message.topic) && this.#emit(kind, message);
    else if (kind === "pub_ok" || kind === "res") this.#calls.get(id)?.[kind]?.(message);
    this.#calls.delete(id);
  }

  #msg(message) {
    const held = this.#topics.get(message.topic);
    if (!held || message.offset <= held.last) return; // a repeat
    if (held.last !== undefined && message.offset > held.last + 1) {
      if (!held.isJoined) return; // live ones that overtake a repair; they come again
      if (!held.isRepaired) return this.#repair(held);
      this.#emit("gap", { topic: held.name, first: message.offset }); // it cannot give more than it has
    }
    held.last = message.offset;
    held.isRepaired = false;
    this.#emit("msg", { ...message, epoch: held.epoch, isCaughtUp: held.last >= held.head });
  }

  /** Something is missing: subscribes again from the last message that was applied. */
  #repair(held) {
    held.isRepaired = true;
    held.isJoined = false;
    this.#send({ kind: "unsub", id: this.#id(), topic: held.name });
    this.#sendSub(held);
  }

  #gap({ topic, first }) {
    const held = this.#topics.get(topic);
    if (!held || first <= (held.last ?? 0) + 1) return;
    held.last = first - 1;
    this.#emit("gap", { topic, first });
  }

  #joined({ topic, epoch, head }) {
    const held = this.#topics.get(topic);
    if (!held) return;
    const isReset = held.epoch !== null && held.epoch !== epoch;
    if (isReset) held.last = 0; // another history: its offsets count from 1 again
    Object.assign(held, { epoch, head, last: held.last ?? head, isJoined: true });
    this.#emit("joined", { topic, epoch, head, isReset, isCaughtUp: held.last >= head });
  }

  /** Nobody may listen there, or this user may not. What passes is asked for again by `subs`. */
  #denied({ topic, code, message }) {
    if (!PASSING.has(code) && this.#topics.delete(topic)) this.#emit("denied", { topic, code, message });
  }

  #goaway({ reason, retry_ms: retryMs }) {
    const waitMs = (retryMs ?? BACKOFF_FIRST_MS) * (1 + Math.random() / 2);
    this.shard = null;
    this.#setState("draining", { reason });
    if (this.#carrier) this.#carrier.onclose = () => this.#lost(waitMs);
    this.#timer("goaway", GOAWAY_MS, () => this.#lost(waitMs));
  }

  #err(message) {
    const { id, code, retry_ms: retryMs } = message;
    if (this.state === "connecting") return this.#refused(code, retryMs, message);
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (call) call.err(message);
    else if (!PASSING.has(code) && code !== "unauthenticated") this.#emit("err", message); // that one ends the connection
  }

  #refused(code, retryMs, message) {
    if (this.#resume) {
      this.#resume = null; // the ticket is too old or from another life of the server: the token still counts
      sessionStorage.removeItem(RESUME);
      return this.#lost(0);
    }
    if (!FORBIDDEN.has(code)) return this.#lost(retryMs);
    this.#detach();
    this.#setState("closed");
    this.#emit("signed_out", message);
  }

  // -- what is said to it --------------------------------------------------------------------------------------------

  #askAgain(isMeant) {
    for (const held of this.#topics.values()) if (!held.isJoined && isMeant(held)) this.#sendSub(held);
  }

  #sendSub(held) {
    const id = this.#id();
    held.isAsked = true;
    this.#calls.set(id, {
      err: (answer) => {
        if (answer.code === "already_exists") return; // asked twice: the first answer counts
        if (!PASSING.has(answer.code)) return this.#denied({ ...answer, topic: held.name });
        setTimeout(() => this.state === "online" && !held.isJoined && this.#sendSub(held), answer.retry_ms ?? 1_000);
      },
    });
    this.#send({ kind: "sub", id, ...subOf(held) });
  }

  /** One publish per topic is under way at a time: the device's order holds even if one is refused for a moment. */
  #flush() {
    if (this.state !== "online") return;
    let nextMs = Infinity;
    for (const entry of [...this.device.heads()]) {
      const heldMs = (this.#heldUntil.get(entry.topic) ?? 0) - Date.now();
      if (heldMs > 0) nextMs = Math.min(nextMs, heldMs);
      else if (!this.#flying.has(entry.topic)) this.#sendPub(entry);
    }
    if (nextMs < Infinity) this.#timer("flush", nextMs, () => this.#flush());
  }

  #sendPub(entry) {
    const { topic, seq, body } = entry;
    const id = this.#id();
    const timer = `pub ${topic}`;
    const decided = (event, answer) => {
      clearTimeout(this.#timers[timer]);
      this.#flying.delete(topic);
      if (event) this.device.settle(entry, this.#topics.get(topic)?.epoch, answer.offset);
      if (event) this.#heldUntil.delete(topic);
      if (event) this.#emit(event, { ...answer, entry });
      this.#flush();
    };
    this.#calls.set(id, {
      pub_ok: (answer) => decided("sent", answer),
      err: (answer) => {
        const isPassing = PASSING.has(answer.code);
        if (isPassing) this.#heldUntil.set(topic, Date.now() + (answer.retry_ms ?? 1_000));
        decided(isPassing ? null : "refused", answer);
      },
    });
    this.#flying.add(topic);
    this.#send({ kind: "pub", id, topic, seq, body });
    this.#timer(timer, ANSWER_MS, () => this.#lost(0));
  }

  #send(message) {
    this.#carrier?.send(message);
  }

  #id() {
    this.#lastId += 1;
    return this.#lastId;
  }

  #timer(name, ms, run) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(run, ms);
  }

  #setState(state, detail = {}) {
    this.state = state;
    this.#emit("state", { state, shard: this.shard, transport: this.transport, ...detail });
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) listener(detail);
  }
}

function subOf({ name, epoch, last }) {
  const sub = { topic: name };
  if (epoch !== null) sub.epoch = epoch;
  if (last !== undefined) sub.after = last;
  return sub;
}
