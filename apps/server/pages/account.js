// Who talks: signing in by HTTP, the identity that this tab and new ones remember, renewing its token, and signing out.

import { read, write } from "./outbox.js";

const IDENTITY = "ringshard.identity";
/** The newest identity of a user in this browser: a token to renew with is good once, so all tabs share it. */
const NEWEST = "ringshard.identity.";
/** A token is renewed when this part of its time is over. */
const RENEW_AT = 0.75;
/** By when all tabs see what one of them has stored, in milliseconds. */
const STORED_MS = 500;
/** Timers of browsers count to 2^31 milliseconds. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Asks for a token: `how` is "guest", "login" or "register". Remembers the identity for this tab and for new ones. */
export async function signIn(how, name, password) {
  const answer = await post(how, how === "guest" ? { name } : { name, password });
  const identity = { ...answer, guest: how === "guest", at: Date.now() };
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
export function renewIn({ refresh_token: refresh, expires_at: expires, at = Date.now() }) {
  if (!refresh) return null;
  return Math.min(TIMER_MS_MAX, Math.max(0, at + (expires * 1_000 - at) * RENEW_AT - Date.now()));
}

/** The same user with a new token; another tab may have it already. Rejects with a `status` of 401 if there is none. */
export async function renew(identity) {
  const work = async () => {
    // What another tab has stored may come here a little later than the lock that it held.
    await new Promise((resolve) => setTimeout(resolve, STORED_MS));
    const newest = newer(identity);
    if (newest.token !== identity.token) return newest;
    const answer = await post("refresh", { refresh_token: identity.refresh_token });
    const renewed = { ...answer, guest: false, at: Date.now() };
    remember(renewed);
    if (read(localStorage, IDENTITY)?.user === renewed.user) write(localStorage, IDENTITY, renewed);
    return renewed;
  };
  return navigator.locks ? navigator.locks.request(NEWEST + identity.user, work) : work();
}

/** Ends the login, or with `all` those of every device; what was signed in by it ends, too. */
export async function signOut({ refresh_token: refresh }, all = false) {
  if (refresh) await post("logout", all ? { refresh_token: refresh, all } : { refresh_token: refresh });
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
  if (response.ok) return answer;
  const error = new Error(answer.message ?? answer.error?.message ?? `The server answered ${response.status}.`);
  throw Object.assign(error, { status: response.status });
}
