// WebTransport from a browser: a datagram, streams both ways, ends with a code and a reason. Chromium also takes a page over HTTP/3.
//
//   BROWSER=chromium|firefox PLAIN=127.0.0.1:8080 SECURE=127.0.0.1:8443 [SPKI=base64] node webtransport.mjs
//
// Needs playwright-core for Chromium, puppeteer-core for Firefox. Prints one line per check; exits 0 if all hold, else 1.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { BROWSER, PLAIN, SECURE, SPKI } = process.env;
/** Whatever should happen happens within this time, or the check has failed. */
const PATIENCE_MS = 20_000;
/** Sessions one after the other, from a new port each: with two shards both are met. */
const ROUNDS = 5;
const TRIES = 8;
const load = createRequire(join(process.cwd(), "index.js"));

async function chromium() {
  const flags = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", `--origin-to-force-quic-on=${SECURE}`,
    `--ignore-certificate-errors-spki-list=${SPKI}`,
  ];
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await load("playwright-core").chromium.launch({ executablePath, args: flags });
  return { browser, page: await browser.newPage() };
}

async function firefox() {
  const executablePath = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
  const launch = { browser: "firefox", executablePath, headless: true };
  const browser = await load("puppeteer-core").launch(launch);
  return { browser, page: await browser.newPage() };
}

/** Runs in the page: one session with the echo, told as what came back. */
async function echo({ url, hash, size, patience }) {
  const within = (what, promise) => {
    const late = new Promise((_, no) => setTimeout(() => no(new Error(`no ${what} in ${patience} ms`)), patience));
    return Promise.race([promise, late]);
  };
  const text = (bytes) => new TextDecoder().decode(bytes);
  const bytes = (text) => new TextEncoder().encode(text);
  const all = async (stream) => {
    const reader = stream.getReader();
    const parts = [];
    for (let step = await reader.read(); !step.done; step = await reader.read()) parts.push(step.value);
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  };
  const value = Uint8Array.from(hash.match(/../g), (hex) => parseInt(hex, 16));
  const transport = new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value }] });
  await within("session", transport.ready);

  const incoming = transport.datagrams.readable.getReader();
  const outgoing = (transport.datagrams.createWritable?.() ?? transport.datagrams.writable).getWriter();
  // A datagram may be lost: it is said again until an echo comes.
  const saying = setInterval(() => outgoing.write(bytes("datagram")).catch(() => {}), 100);
  const datagram = text((await within("datagram", incoming.read())).value);
  clearInterval(saying);

  const both = await transport.createBidirectionalStream();
  const large = Uint8Array.from({ length: size }, (_, at) => at * 31 + (at >> 8));
  const writer = both.writable.getWriter();
  const reading = all(both.readable);
  await within("room for a stream both ways", writer.write(large));
  await within("end of what was written", writer.close());
  const back = await within("echo on its stream", reading);
  const bidi = back.length === size && back.every((byte, at) => byte === large[at]);

  const one = await transport.createUnidirectionalStream();
  const way = one.getWriter();
  await way.write(bytes("one way"));
  await way.close();
  const other = await within("stream that the server opens", transport.incomingUnidirectionalStreams.getReader().read());
  const uni = text(await within("end of that", all(other.value)));

  transport.close({ closeCode: 7, reason: "bye" });
  const { closeCode, reason } = await within("end of the session", transport.closed);
  return { datagram, bidi, uni, closeCode, reason };
}

/** Runs in the page: a session that breaks the protocol's rules, told as how the server ended it. */
async function misbehave({ url, hash }) {
  const value = Uint8Array.from(hash.match(/../g), (hex) => parseInt(hex, 16));
  const transport = new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value }] });
  await transport.ready;
  const stream = await transport.createBidirectionalStream();
  await stream.writable.getWriter().write(new Uint8Array(64).fill(0xff));
  const { closeCode, reason } = await transport.closed;
  return { closeCode, reason };
}

/** Runs in the page: how it came, and an answer of each kind. */
async function browse() {
  const [navigation] = performance.getEntriesByType("navigation");
  const shards = await fetch("/api/v1/shards");
  await shards.arrayBuffer();
  const headers = { "content-type": "application/json" };
  const guest = await fetch("/api/v1/guest", { method: "POST", headers, body: JSON.stringify({ name: "browser" }) });
  const { token } = await guest.json();
  const large = await fetch("/api/v1/guest", { method: "POST", headers, body: " ".repeat(1 << 20) });
  return { page: navigation.nextHopProtocol, statuses: [shards.status, guest.status, large.status], token: !!token };
}

const { browser, page } = await { chromium, firefox }[BROWSER]();
try {
  page.setDefaultTimeout(PATIENCE_MS);
  const overdue = new Promise((_, no) => setTimeout(() => no(new Error("out of patience")), PATIENCE_MS * 4).unref());
  await Promise.race([check(), overdue]);
} finally {
  await browser.close();
}

async function check() {
  if (BROWSER === "chromium") {
    await page.goto(`https://${SECURE}/chat`);
    const seen = await page.evaluate(browse);
    assert.deepEqual(seen, { page: "h3", statuses: [200, 200, 413], token: true });
    console.log("chromium: a page, GET and POST over HTTP/3");
  } else {
    await page.goto(`http://${PLAIN}/`);
  }
  const hash = (await page.evaluate(async () => (await fetch("/cert-hash")).json())).sha256;
  for (let round = 0; round < ROUNDS; round++) {
    const heard = await page.evaluate(echo, { url: `https://${SECURE}/wt/echo`, hash, size: 1 << 20, patience: PATIENCE_MS });
    assert.deepEqual(heard, { datagram: "datagram", bidi: true, uni: "one way", closeCode: 7, reason: "bye" });
  }
  console.log(`${BROWSER}: WebTransport: a datagram, both ways, one way and back, closed with code and reason; ${ROUNDS} times`);
  // Chromium's own log has the capsule, its end, and its transport go from CONNECTED to CLOSED; the page is told "Connection
  // lost" nevertheless at times: probably what tells it and what disconnects it race within the browser. So it is asked again.
  let ended;
  for (let tries = 0; tries < TRIES && !ended; tries++) {
    ended = await page.evaluate(misbehave, { url: `https://${SECURE}/wt`, hash }).catch((error) => {
      assert.match(String(error), /Connection lost/);
      console.log(`${BROWSER}: lost before it was told why`);
    });
  }
  assert.deepEqual(ended, { closeCode: 2, reason: "a rule was broken" });
  console.log(`${BROWSER}: WebTransport: a session that broke the rules was ended with code and reason`);
}
