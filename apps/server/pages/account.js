// Who talks: signing in by HTTP, and the identity that this tab and new ones remember.

import { read, write } from "./outbox.js";

const IDENTITY = "ringshard.identity";

/** Asks for a token: `how` is "guest", "login" or "register". Remembers the identity for this tab and for new ones. */
export async function signIn(how, name, password) {
  const answer = await post(how, how === "guest" ? { name } : { name, password });
  const identity = { ...answer, guest: how === "guest" };
  remember(identity);
  return identity;
}

/** Who this tab was before a reload, or whoever signed in last in this browser. */
export function savedIdentity() {
  return read(sessionStorage, IDENTITY) ?? read(localStorage, IDENTITY);
}

/** Forgets the identity here and, unless another one has signed in since, for new tabs. */
export function forgetIdentity() {
  const own = read(sessionStorage, IDENTITY);
  if (!own || read(localStorage, IDENTITY)?.token === own.token) localStorage.removeItem(IDENTITY);
  sessionStorage.removeItem(IDENTITY);
}

function remember(identity) {
  write(sessionStorage, IDENTITY, identity);
  write(localStorage, IDENTITY, identity);
}

async function post(what, body) {
  const response = await fetch(`/api/v1/${what}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? answer.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}
