// The device of this tab and its outbox: an identity leased from the browser's pool, and the messages it still owes the server.
//
// Exactly once is counted by (device, topic, seq), so an unsent message may only be sent again under the device that
// wrote it. Devices are therefore a pool in localStorage: a tab leases one for as long as it lives (a Web Lock), and a
// new tab takes over a free one, first of all one with unsent messages. Nothing is ever copied between devices.

/** Unsent messages that one device may hold: 200 of 5,000 characters are 2 MB of the 5 MB that browsers give a site. */
export const OUTBOX_MAX = 200;
/** Messages that a device remembers to have written, of a topic, and topics in which it does. */
const WROTE_MAX = 100;
const WROTE_TOPICS_MAX = 16;

const RECORD = "ringshard.device.";
const LEASE = "ringshard.lease.";
/** After a reload the old page may hold its lock for a moment; a duplicated tab waits this long in vain. */
const RECLAIM_MS = 800;
/** Without Web Locks (plain HTTP from another host) a lease lives this long; background tabs run timers once a minute. */
const LEASE_MS = 150_000;
const RENEW_MS = 20_000;
/** A device that nobody used for a month is forgotten, its counters with it. */
const UNUSED_MS = 30 * 86_400_000;

export class Device {
  /** Leases a device for `user`: the tab's own one, else a free one of the pool, else a new one. */
  static async lease(user) {
    const own = read(sessionStorage, RECORD + "own");
    const pool = records().filter(([id, record]) => record.user === user && id !== own);
    pool.sort(([, a], [, b]) => b.outbox.length - a.outbox.length);
    const ownRecord = own && read(localStorage, RECORD + own);
    if (ownRecord?.user === user) {
      const release = await hold(own, RECLAIM_MS);
      if (release) return new Device(own, user, ownRecord, release);
    }
    for (const [id] of pool) {
      const release = await hold(id, 0);
      if (!release) continue;
      const record = read(localStorage, RECORD + id); // read again: it may have changed before the lock was ours
      if (record?.user === user) return new Device(id, user, record, release);
      release();
    }
    const id = randomId();
    return new Device(id, user, null, (await hold(id, 0)) ?? (() => {}));
  }

  #record;
  #release;

  constructor(id, user, record, release) {
    this.id = id;
    this.#record = { user, seqs: {}, outbox: [], wrote: {}, ...record };
    this.#release = release;
    write(sessionStorage, RECORD + "own", id);
    this.#save();
    sweep(id);
  }

  /** What is not acknowledged yet, oldest first. */
  get entries() {
    return this.#record.outbox;
  }

  /** Writes a message into the outbox, before it is sent. `after` is the last offset of the topic that was known then. */
  add(topic, body, { epoch, after }) {
    if (this.entries.length >= OUTBOX_MAX) throw new Error("Too many unsent messages are waiting.");
    const seq = (this.#record.seqs[topic] ?? 0) + 1;
    const entry = { topic, seq, body, epoch, after, at: Date.now() };
    this.#record.seqs[topic] = seq;
    this.#record.outbox.push(entry);
    this.#save();
    return entry;
  }

  /** The oldest entry of every topic: what may be sent now, as one message per topic is under way at a time. */
  *heads() {
    const seen = new Set();
    for (const entry of this.entries) {
      if (seen.has(entry.topic)) continue;
      seen.add(entry.topic);
      yield entry;
    }
  }

  /** The server has decided about `entry`: `offset` is its place in the topic's history `epoch`, if it has one. */
  settle(entry, epoch, offset) {
    const { topic } = entry;
    this.#record.outbox = this.entries.filter((one) => one !== entry);
    if (offset !== undefined) {
      const { [topic]: old, ...others } = this.#record.wrote;
      const offsets = [...(old?.epoch === epoch ? old.offsets : []), offset].slice(-WROTE_MAX);
      this.#record.wrote = Object.fromEntries([...Object.entries(others).slice(1 - WROTE_TOPICS_MAX), [topic, { epoch, offsets }]]);
    }
    this.#save();
  }

  /** Whether this very device wrote a message, as far as it remembers. */
  wrote(topic, epoch, offset) {
    const known = this.#record.wrote[topic];
    return known?.epoch === epoch && known.offsets.includes(offset);
  }

  /** Gives the device back to the pool; `forget` also erases it. */
  release(forget = false) {
    if (forget) localStorage.removeItem(RECORD + this.id);
    sessionStorage.removeItem(RECORD + "own");
    this.#release();
  }

  #save() {
    this.#record.at = Date.now();
    write(localStorage, RECORD + this.id, this.#record);
  }
}

/** 128 random bits; `crypto.randomUUID` is missing on plain HTTP. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The parsed value of `key`, or null if it is missing or was damaged. */
export function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null;
  }
}

/** Stores `value`; a full or forbidden storage costs the survival of a reload, never the page. */
export function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch (error) {
    console.warn("ringshard: not stored:", key, error);
  }
}

function records() {
  const found = [];
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(RECORD)) continue;
    const record = read(localStorage, key);
    if (Array.isArray(record?.outbox)) found.push([key.slice(RECORD.length), record]);
  }
  return found;
}

async function sweep(own) {
  for (const [id, record] of records()) {
    if (id === own || Date.now() - record.at < UNUSED_MS) continue;
    const release = await hold(id, 0);
    if (!release) continue;
    localStorage.removeItem(RECORD + id);
    release();
  }
}

/** Resolves to a function that gives `id` back, or to null if another tab has it. */
function hold(id, waitMs) {
  if (!navigator.locks) return holdByLease(id, waitMs);
  const options = waitMs ? { signal: AbortSignal.timeout(waitMs) } : { ifAvailable: true };
  return new Promise((resolve) => {
    const held = (lock) => (lock ? new Promise((release) => resolve(release)) : resolve(null));
    navigator.locks.request(RECORD + id, options, held).catch(() => resolve(null));
  });
}

async function holdByLease(id, waitMs) {
  const key = LEASE + id;
  const tab = randomId();
  const isTaken = () => (read(localStorage, key)?.until ?? 0) > Date.now();
  if (isTaken() && waitMs) await pause(waitMs);
  if (isTaken()) return null;
  const renew = () => write(localStorage, key, { tab, until: Date.now() + LEASE_MS });
  renew();
  await pause(50); // two tabs may write in the same moment: the later one has it
  if (read(localStorage, key)?.tab !== tab) return null;
  const timer = setInterval(renew, RENEW_MS);
  const release = () => {
    clearInterval(timer);
    localStorage.removeItem(key);
  };
  addEventListener("pagehide", release, { once: true });
  return release;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
