// Who talks: signing in by HTTP, the identity that this tab and new ones remember, renewing its token, and signing out.

import { read, write } from "./outbox.js";

const IDENTITY = "ringshard.identity";
/** The newest identity of a user in this browser: a token to renew with is good once, so all tabs share it. */
const NEWEST = "ringshard.identity.";
/** So many characters of a token to renew with name its login. */
const LOGIN_CHARS = 22;
/** A token is renewed when this part of its time is over. */
const RENEW_AT = 0.75;
/** Not more often than this, whatever is remembered. */
const RENEW_MS_MIN = 1_000;
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
export function renewIn({ refresh_token: refresh, life = 0, at = Date.now() }) {
  if (!refresh) return null;
  return Math.min(TIMER_MS_MAX, Math.max(RENEW_MS_MIN, at + life * RENEW_AT - Date.now()));
}

/** The same user with a new token; another tab may have it already. Rejects with a `status` of 401 if there is none. */
export async function renew(identity) {
  const work = async () => {
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
export async function signOut(identity, all = false) {
  // Another tab may have renewed: an older token would end this login alone, as one that was stolen.
  const newest = newer(identity);
  const loginOf = ({ refresh_token: token }) => token?.slice(0, LOGIN_CHARS);
  const { refresh_token: refresh } = loginOf(newest) === loginOf(identity) ? newest : identity;
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
  // How long it lives is told by the server's clock alone: this one may be an hour off.
  const now = Date.parse(response.headers.get("date")) || Date.now();
  if (response.ok) return { ...answer, life: answer.expires_at * 1_000 - now };
  const error = new Error(answer.message ?? answer.error?.message ?? `The server answered ${response.status}.`);
  throw Object.assign(error, { status: response.status });
}
