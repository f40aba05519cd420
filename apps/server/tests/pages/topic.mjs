// The pages' names of topics against the server's: what `apps/chat/src/conversation/address.rs` proves of them.
//
//   node topic.mjs        (prints one line per check; exits 0 if all hold, else 1)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const ROOT = process.env.ROOT ?? new URL("../../../../", import.meta.url).pathname;
// The pages have no package.json that would call them modules; a data URL of this type is one.
const source = readFileSync(`${ROOT}/apps/server/pages/topic.js`);
const { directTopic, parseTopic, personalTopic, roomName } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

check("topics say what they are", () => {
  assert.deepEqual(parseTopic("chat/lobby"), { kind: "room", room: "lobby" });
  assert.deepEqual(parseTopic("chat/g/0190-x"), { kind: "group", id: "0190-x" });
  assert.deepEqual(parseTopic("chat/d/ada~bob"), { kind: "direct", users: ["ada", "bob"] });
  assert.deepEqual(parseTopic("chat/u/~.0021.lice"), { kind: "personal", user: "Alice" });
  for (const bad of ["", "chat/", "chat/d/ada", "chat/d/bob~ada", "chat/u/Ada", "chat/u/~.0031.da", "chat/u/a/b", "chat/g/", "chat/a/b", "x/y"]) {
    assert.equal(parseTopic(bad), null, bad);
  }
});

check("names are written as the server writes them", () => {
  assert.equal(directTopic("bob", "Ada"), "chat/d/~.0021.da~bob");
  assert.equal(directTopic("Ada", "bob"), "chat/d/~.0021.da~bob");
  assert.equal(personalTopic("\u{10348}".repeat(32)).length, 7 + 32 * 4 + 3);
});

check("every pair of names is one topic, whatever letters they have", () => {
  const names = ["ada", "Ada", "b.b", "zoë", "张伟", "\uffee", "\u{10348}", "a-\u{10348}B", "x".repeat(32)];
  for (const one of names) {
    for (const other of names) {
      if (one === other) continue;
      const topic = directTopic(one, other);
      assert.match(topic, /^[a-z0-9._~\/-]+$/);
      assert.equal(topic, directTopic(other, one));
      assert.deepEqual(new Set(parseTopic(topic).users), new Set([one, other]));
    }
    assert.deepEqual(parseTopic(personalTopic(one)), { kind: "personal", user: one });
  }
  // The order is that of code points: UTF-16 has the second one first.
  assert.deepEqual(parseTopic(directTopic("\u{10348}", "\uffee")).users, ["\uffee", "\u{10348}"]);
});

check("rooms are named as people type them", () => {
  assert.deepEqual([" #Tea Room ", "lobby", "a/b", "", "-x"].map(roomName), ["tea-room", "lobby", null, null, null]);
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
