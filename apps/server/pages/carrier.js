// What carries a session: WebTransport with frames where it opens, else WebSocket with JSON, behind one face of message objects.
//
// A carrier is used once. Whoever wants another one, or the other kind, opens a new one and resumes the session there.

import { read, write } from "./outbox.js";
import { Deframer, encode, Reader } from "./frames.js";

/** A handshake takes two or three round trips; a network that drops UDP says nothing at all, and nobody waits longer for that. */
const OPEN_MS = 2_500;
/** So long WebTransport is left alone after it did not open, as reconnecting should not cost OPEN_MS each time. */
const AVOID_MS = 300_000;
const AVOID = "ringshard.webtransport.avoid";
/** Transfers of the server under way at once. It has no reason for more than a few. */
const BULK_MAX = 32;

/** Names as people write them, and as `?transport=` does in small letters. */
export const WEBTRANSPORT = "WebTransport";
export const WEBSOCKET = "WebSocket";

/** The network is another one: what did not open in the last one may open here. */
export function trustAgain() {
  sessionStorage.removeItem(AVOID);
}

/** Set `onopen`, `onmessage` and `onclose` in the turn that makes it. `transport` is its name once it is open. */
export class Carrier {
  onopen = null;
  onmessage = null;
  onclose = null;
  transport = null;
  #way = null;
  #isClosed = false;
  #openedAt = 0;
  #hasHeard = false;

  /** `wish` is "webtransport" or "websocket" for this kind alone; anything else is the best that opens. */
  constructor(wish) {
    this.#open(waysOf(wish));
  }

  /** Sends a message; without an open carrier it is lost, as on any connection. */
  send(message) {
    if (!this.#isClosed) this.#way?.send(message);
  }

  close() {
    if (performance.now() - this.#openedAt > OPEN_MS) this.#judge();
    this.#isClosed = true;
    this.#way?.close();
    this.#way = null;
  }

  async #open(ways) {
    const heard = {
      message: (message) => this.#hear(message),
      end: () => this.#end(),
      isClosed: () => this.#isClosed,
    };
    for (const Way of ways) {
      const way = await Way.open(heard).catch((error) => {
        if (Way === Lanes) console.info("ringshard: no WebTransport:", error.message);
      });
      if (this.#isClosed) return way?.close();
      if (!way) continue;
      this.#way = way;
      this.transport = Way.transport;
      this.#openedAt = performance.now();
      return this.onopen?.();
    }
    this.#end();
  }

  #hear(message) {
    this.#hasHeard = true;
    if (this.#isClosed) return;
    try {
      this.onmessage?.(message);
    } catch (error) {
      reportError(error); // the page's fault, and no reason to connect again
    }
  }

  #end() {
    if (this.#isClosed) return;
    this.#judge();
    this.close();
    this.onclose?.();
  }

  /** One that opens and then carries nothing is as bad as one that does not open. */
  #judge() {
    if (this.transport === WEBTRANSPORT && !this.#hasHeard) avoid();
  }
}

function waysOf(wish) {
  if (wish === "websocket") return [Socket];
  if (wish === "webtransport") return [Lanes];
  const isAvoided = Date.now() < (read(sessionStorage, AVOID) ?? 0);
  return "WebTransport" in window && !isAvoided ? [Lanes, Socket] : [Socket];
}

function avoid() {
  write(sessionStorage, AVOID, Date.now() + AVOID_MS);
}

/** A WebSocket: every message is one JSON text. */
class Socket {
  static transport = WEBSOCKET;

  static open(heard) {
    const socket = new WebSocket(new URL("/ws", location.href.replace(/^http/, "ws")), "ringshard.json");
    return new Promise((resolve, reject) => {
      socket.onopen = () => resolve(new Socket(socket, heard));
      socket.onclose = () => reject(new Error("it was closed"));
    });
  }

  #socket;

  constructor(socket, heard) {
    this.#socket = socket;
    socket.onclose = () => heard.end();
    socket.onmessage = ({ data }) => {
      let message;
      try {
        message = JSON.parse(data);
      } catch {
        return heard.end();
      }
      heard.message(message);
    };
  }

  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  close() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

/** WebTransport: what has an order on one stream, each large answer on one of its own, and ephemeral messages in datagrams. */
class Lanes {
  static transport = WEBTRANSPORT;

  static async open(heard) {
    const place = await find();
    const opened = await connect(place, OPEN_MS).catch((error) => {
      avoid();
      throw error;
    });
    return new Lanes(opened, heard);
  }

  #session;
  #heard;
  #stream;
  #datagrams;
  #reader = new Reader();
  #bulk = 0;

  constructor({ session, stream }, heard) {
    this.#session = session;
    this.#heard = heard;
    this.#stream = stream.writable.getWriter();
    const { datagrams } = session;
    this.#datagrams = (datagrams.createWritable?.() ?? datagrams.writable).getWriter();
    session.closed.then(() => heard.end(), () => heard.end());
    this.#whole(this.#listen(stream.readable).then(() => heard.end()));
    this.#whole(each(datagrams.readable, (frame) => this.#take(frame)));
    this.#whole(each(session.incomingUnidirectionalStreams, (bulk) => this.#transfer(bulk)));
  }

  send(message) {
    const frame = encode(message);
    if (message.kind === "eph" && frame.length <= this.#session.datagrams.maxDatagramSize) {
      this.#datagrams.write(frame).catch(() => {}); // one may get lost on the way as well
    } else this.#whole(this.#stream.write(frame));
  }

  close() {
    hangUp(this.#session);
  }

  #transfer(bulk) {
    if (this.#bulk === BULK_MAX) throw new Error("too many transfers at once");
    this.#bulk += 1;
    this.#whole(this.#listen(bulk).finally(() => (this.#bulk -= 1)));
  }

  async #listen(stream) {
    const deframer = new Deframer();
    await each(stream, (bytes) => {
      for (const frame of deframer.push(bytes)) this.#take(frame);
    });
  }

  #take(frame) {
    if (this.#heard.isClosed()) return;
    const message = this.#reader.decode(frame);
    if (message) this.#heard.message(message);
  }

  /** A part of the session that fails is the end of all of it: what was lost there comes again after a resume. */
  #whole(part) {
    part.catch((error) => {
      if (!(error instanceof DOMException)) console.warn("ringshard:", error); // the others are of a lost network
      this.#heard.end();
    });
  }
}

async function each(stream, take) {
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    take(value);
  }
}

/** Where this server listens for HTTP/3, and which certificate it shows. */
async function find() {
  const response = await fetch("/cert-hash", { cache: "no-store", signal: AbortSignal.timeout(OPEN_MS) });
  const port = /\bh3="[^":]*:(\d+)"/.exec(response.headers.get("alt-svc") ?? "")?.[1];
  if (!response.ok || !port) throw new Error("the server names no port for HTTP/3");
  const { sha256 } = await response.json();
  // The server listens on IPv4, and `localhost` may be the other one.
  const host = location.hostname === "localhost" ? "127.0.0.1" : location.hostname;
  return { url: `https://${host}:${port}/wt`, hash: Uint8Array.from(sha256.match(/../g), (byte) => parseInt(byte, 16)) };
}

/** By the hash, as for a certificate that the server has made itself, or else as for one that the browser trusts. */
async function connect({ url, hash }, openMs) {
  const end = performance.now() + openMs;
  try {
    return await opened(new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value: hash }] }), end);
  } catch (error) {
    if (performance.now() >= end) throw error;
    return opened(new WebTransport(url), end);
  }
}

/** `session` and the stream of its messages; what is not open by `end` is given up. */
async function opened(session, end) {
  session.closed.catch(() => {}); // said by `ready`, too
  let timer;
  const tooLate = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer over UDP")), end - performance.now());
  });
  try {
    await Promise.race([session.ready, tooLate]);
    const stream = await Promise.race([session.createBidirectionalStream(), tooLate]);
    return { session, stream };
  } catch (error) {
    hangUp(session);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function hangUp(session) {
  try {
    session.close();
  } catch {
    // It has failed or was closed already.
  }
}
