// The pages' codec against the specification: every vector of SPEC.md, streams cut anywhere, and frames that are none.
//
//   node frames.mjs        (prints one line per check; exits 0 if all hold, else 1)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const ROOT = process.env.ROOT ?? new URL("../../../../", import.meta.url).pathname;
// The pages have no package.json that would call them modules; a data URL of this type is one.
const source = readFileSync(`${ROOT}/apps/server/pages/frames.js`);
const { BODY_MAX, Deframer, encode, Reader } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

const TOLD = "server: sub_ok"; // the vector that tells alias 7
const vectors = readFileSync(`${ROOT}/protocols/session/SPEC.md`, "utf8")
  .split("```vector\n")
  .slice(1)
  .map((rest) => {
    const [title, json, ...lines] = rest.split("```")[0].trim().split("\n");
    const digits = lines.map((line) => line.split(";")[0]).join("").replace(/\s/g, "");
    return { title, message: JSON.parse(json), frame: Uint8Array.from(Buffer.from(digits, "hex")) };
  });
const told = vectors.find(({ title }) => title === TOLD).frame;
const servers = vectors.filter(({ title }) => title.startsWith("server"));

check("every vector of a client is written", () => {
  const clients = vectors.filter(({ title }) => title.startsWith("client") && !title.includes("alias")); // pages write names
  assert.ok(clients.length >= 10);
  for (const { title, message, frame } of clients) assert.deepEqual(encode(message), frame, title);
});

check("every vector of a server is read", () => {
  assert.ok(servers.length >= 12);
  for (const { title, message, frame } of servers) {
    const reader = new Reader();
    reader.decode(told);
    assert.deepEqual(reader.decode(frame), message, title);
  }
});

check("an alias is also told by welcome, and counts for its connection alone", () => {
  const frame = (title) => vectors.find((vector) => vector.title === `server: ${title}`).frame;
  const reader = new Reader();
  reader.decode(frame("welcome"));
  assert.equal(reader.decode(frame("msg")).topic, "chat/lobby");
  assert.equal(new Reader().decode(frame("msg")).topic, undefined);
});

check("a stream may be cut anywhere", () => {
  const stream = Buffer.concat(servers.map(({ frame }) => frame));
  for (let size = 1; size < 200; size += 1) {
    const deframer = new Deframer();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...deframer.push(stream.subarray(at, at + size)));
    assert.deepEqual(found, servers.map(({ frame }) => frame), `pieces of ${size} bytes`);
  }
});

check("what is no frame is refused, and never waited for", () => {
  const broken = (edit) => {
    const frame = Uint8Array.from(told);
    edit(frame);
    return () => [...new Deframer().push(frame)].map((one) => new Reader().decode(one));
  };
  const tooLong = (frame) => new DataView(frame.buffer).setUint32(4, BODY_MAX + 1, true);
  assert.throws(broken(tooLong), /bytes/);
  assert.throws(broken((frame) => (frame[0] = 2)), /version/);
  assert.throws(broken((frame) => (frame[0] |= 0x10)), /version/);
  assert.throws(() => new Reader().decode(told.subarray(0, told.length - 1)), /length/);
  assert.throws(() => new Reader().decode(told.subarray(0, 3)), /header/);
  assert.throws(broken((frame) => (frame[17] = 99)), /beyond/);
  assert.throws(broken((frame) => (frame[16] = 0x08)), /type/);
  assert.equal(broken((frame) => (frame[1] = 77))()[0], null);
});

check("a 64-bit epoch keeps all its digits", () => {
  const epoch = "fedcba9876543210";
  const written = encode({ kind: "sub", id: 2, topic: "a/b", epoch, after: 2 ** 53 - 1 });
  written[1] = 10; // sub and sub_ok have the same three fields
  const { epoch: found, head } = new Reader().decode(written);
  assert.deepEqual([found, head], [epoch, 2 ** 53 - 1]);
});

function check(what, run) {
  try {
    run();
    console.log(`ok   ${what}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAIL ${what}: ${error.stack}`);
  }
}
