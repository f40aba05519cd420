// Who talks: signing in by HTTP, the identity that this tab and new ones remember, renewing its token, and signing out.

import { randomId, read, write } from "./outbox.js";

const IDENTITY = "ringshard.identity";
/** The newest identity of a user in this browser: a token to renew with is good once, so all tabs share it. */
const NEWEST = "ringshard.identity.";
/** A token is renewed when this part of its time is over. */
const RENEW_AT = 0.75;
/** Not more often than this, whatever a clock or a storage says; a token of the server lives 10 s at least. */
const RENEW_MS_MIN = 5_000;
/** By when all tabs see what one of them has stored, which may be a little later than the lock that it held. */
const STORED_MS = 500;
/** Timers of browsers count to 2^31 milliseconds. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** When this page got the token that it has, by a clock that nobody sets. */
let got = { token: null, at: 0 };

/** Asks for a token: `how` is "guest", "login" or "register". Remembers the identity for this tab and for new ones. */
export async function signIn(how, name, password) {
  const answer = await post(how, how === "guest" ? { name } : { name, password });
  const identity = received(answer, { guest: how === "guest", login: randomId() });
  remember(identity);
  write(localStorage, IDENTITY, identity);
  return identity;
}

/** Who this tab was before a reload, or whoever signed in last in this browser. */
export function savedIdentity() {
  const saved = read(sessionStorage, IDENTITY) ?? read(localStorage, IDENTITY);
  return saved && newer(saved);
}

/** Forgets the identity here and, unless another one has signed in since, for new tabs. */
export function forgetIdentity() {
  const own = read(sessionStorage, IDENTITY);
  if (!own || read(localStorage, IDENTITY)?.user === own.user) localStorage.removeItem(IDENTITY);
  if (own) localStorage.removeItem(NEWEST + own.user);
  sessionStorage.removeItem(IDENTITY);
}

/** When to renew a token, in milliseconds from now; null for one that cannot be. */
export function renewIn({ refresh_token: refresh, token, life_ms: life, at }) {
  if (!refresh) return null;
  // Another page's identity has only the clock of the device, which may have been set since; one that does not fit says nothing.
  const age = got.token === token ? performance.now() - got.at : Date.now() - at;
  const left = age >= 0 && life > 0 ? life * RENEW_AT - age : 0;
  return Math.min(TIMER_MS_MAX, Math.max(RENEW_MS_MIN, left));
}

/** The same user with a new token; another tab may have it already. Rejects with a `status` of 401 if there is none. */
export async function renew(identity) {
  if (got.token === identity.token) await pause(RENEW_MS_MIN - (performance.now() - got.at)); // it was refused at once
  const work = async () => {
    await pause(STORED_MS);
    const newest = newer(identity);
    if (newest.token !== identity.token) return newest;
    const answer = await post("refresh", { refresh_token: identity.refresh_token });
    const renewed = received(answer, { guest: false, login: identity.login });
    remember(renewed);
    if (read(localStorage, IDENTITY)?.user === renewed.user) write(localStorage, IDENTITY, renewed);
    return renewed;
  };
  return alone(identity, work);
}

/** Ends the login, or with `all` those of every device; what was signed in by it ends, too. */
export async function signOut(identity, all = false) {
  if (!identity.refresh_token) return;
  // Another tab may have renewed: a token from before ends its login alone, as a stolen one would.
  const newest = newer(identity);
  if (all) return alone(identity, () => signOutAll(newest));
  await post("logout", { refresh_token: (newest.login === identity.login ? newest : identity).refresh_token });
}

/** Does `work` while no other tab of this browser renews the user's token. */
function alone({ user }, work) {
  return navigator.locks ? navigator.locks.request(NEWEST + user, work) : work();
}

async function signOutAll(identity) {
  await Promise.race([pause(STORED_MS), new Promise((resolve) => addEventListener("pagehide", resolve, { once: true }))]);
  return post("logout", { refresh_token: newer(identity).refresh_token, all: true });
}

/** An identity of an answer that has just come, with what this page knows of it. */
function received(answer, known) {
  got = { token: answer.token, at: performance.now() };
  return { ...answer, ...known, at: Date.now() };
}

function remember(identity) {
  write(sessionStorage, IDENTITY, identity);
  if (!identity.guest) write(localStorage, NEWEST + identity.user, identity);
}

function newer(identity) {
  const newest = identity.guest ? null : read(localStorage, NEWEST + identity.user);
  return newest?.token && newest.expires_at > identity.expires_at ? newest : identity;
}

async function post(what, body) {
  const response = await fetch(`/api/v1/${what}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    keepalive: true, // signing out outlives the page
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return { ...answer, life_ms: lifeOf(answer, response) };
  const error = new Error(answer.message ?? answer.error?.message ?? `The server answered ${response.status}.`);
  throw Object.assign(error, { status: response.status });
}

/** How long a token lives: to the server's end of it by the server's clock. The one of this device may be an hour off. */
function lifeOf({ expires_at: expires }, { headers }) {
  return expires * 1_000 - (Date.parse(headers.get("date")) || Date.now());
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
