// Chat over WebSocket with k6: every virtual user joins one room, publishes, and must see its own messages come back once,
// in order.
//
//   k6 run -e TARGET=127.0.0.1:8080 -e VUS=50 -e SECS=60 bench/k6/ws.js
//
// Each session stays below the default limit of 10 messages per second (burst 100).

import http from 'k6/http';
import exec from 'k6/execution';
import { check, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

const TARGET = __ENV.TARGET || '127.0.0.1:8080';
const ROOM = __ENV.ROOM || 'k6';
const VUS = Number(__ENV.VUS || 50);
const SECS = Number(__ENV.SECS || 60);
const INTERVAL_MS = Number(__ENV.INTERVAL_MS || 500);

// A session lasts this long, so that connecting is under load as well.
const SESSION_MS = 10_000;
// How long the last answers are waited for.
const GRACE_MS = 2_000;

const roundTrip = new Trend('chat_round_trip', true);
const published = new Counter('chat_published');
const delivered = new Counter('chat_delivered');

export const options = {
  scenarios: {
    chat: {
      executor: 'ramping-vus',
      startVUs: 1,
      stages: [
        { duration: `${Math.ceil(SECS / 6)}s`, target: VUS },
        { duration: `${SECS}s`, target: VUS },
        { duration: '5s', target: 0 },
      ],
      gracefulRampDown: '15s',
      gracefulStop: '15s',
    },
  },
  thresholds: {
    checks: ['rate==1.0'],
    chat_round_trip: ['p(95)<500', 'p(99)<1500'],
    ws_connecting: ['p(95)<500'],
    http_req_failed: ['rate==0'],
  },
};

// One guest's token for all users of this run; each has a device of its own.
export function setup() {
  const answer = http.post(`http://${TARGET}/api/v1/guest`, JSON.stringify({ name: 'k6' }), {
    headers: { 'Content-Type': 'application/json' },
  });
  if (!check(answer, { 'a guest gets a token': (r) => (r.status === 200 || r.status === 201) && !!r.json('token') })) {
    exec.test.abort(`no guest token: ${answer.status} ${answer.body}`);
  }
  return { token: answer.json('token') };
}

export default function (data) {
  const device = `vu-${exec.vu.idInTest}-${exec.vu.iterationInInstance}`;
  const topic = `chat/${ROOM}`;
  const socket = new WebSocket(`ws://${TARGET}/ws`, ['ringshard.json']);
  const seen = { welcome: false, sent: 0, acked: 0, received: 0, offset: 0, inOrder: true, errors: [], clean: false };
  let timer = null;

  const say = (message) => socket.send(JSON.stringify(message));
  const publish = () => {
    seen.sent += 1;
    published.add(1);
    const text = JSON.stringify([device, seen.sent, Date.now()]);
    say({ kind: 'pub', id: seen.sent + 1, topic, seq: seen.sent, body: { type: 'text', text } });
  };
  const onMessage = (message) => {
    // The room is shared: offsets must rise by one for everybody, and what is ours must come back in order.
    if (seen.offset !== 0 && message.offset !== seen.offset + 1) seen.inOrder = false;
    seen.offset = message.offset;
    delivered.add(1);
    let stamp;
    try {
      stamp = JSON.parse(message.body.text);
    } catch (_) {
      return; // somebody else's text
    }
    if (!Array.isArray(stamp) || stamp[0] !== device) return;
    seen.received += 1;
    if (stamp[1] !== seen.received) seen.inOrder = false;
    roundTrip.add(Date.now() - stamp[2]);
  };

  socket.onopen = () => say({ kind: 'hello', id: 1, token: data.token, device, subs: [{ topic }] });
  socket.onerror = (event) => seen.errors.push(String(event.error));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    switch (message.kind) {
      case 'welcome':
        seen.welcome = true;
        publish();
        timer = setInterval(publish, INTERVAL_MS);
        setTimeout(() => clearInterval(timer), SESSION_MS);
        setTimeout(() => {
          seen.clean = true;
          socket.close(1000);
        }, SESSION_MS + GRACE_MS);
        break;
      case 'msg':
        onMessage(message);
        break;
      case 'pub_ok':
        seen.acked += 1;
        break;
      case 'pong':
        // With id 0 nobody asked: the server wants to hear something.
        if (message.id === 0) say({ kind: 'ping', id: 1 });
        break;
      case 'err':
      case 'gap':
      case 'goaway':
        seen.errors.push(event.data);
        break;
    }
  };
  socket.onclose = () => {
    clearInterval(timer);
    check(seen, {
      'the session was welcomed': (s) => s.welcome,
      'the server did not close it': (s) => s.clean,
      'every publication was acknowledged': (s) => s.sent > 0 && s.acked === s.sent,
      'every publication came back': (s) => s.received === s.sent,
      'everything came in order': (s) => s.inOrder,
      'no errors': (s) => s.errors.length === 0,
    });
    if (seen.errors.length > 0) console.error(`${device}: ${seen.errors[0]}`);
  };
  sleep(0.01);
}
