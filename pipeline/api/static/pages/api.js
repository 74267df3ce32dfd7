// Asking the JSON API: exact amounts, one kind of error, and a word for people about each.

import { parseExactly } from "./money.js";

const SOON_MS = 2000;
// A connection that is gone without a word, as after a sleep, may never answer: nothing that only reads waits for it.
const READ_MS_MAX = 30_000;

/** What the API said no with. `code` and `param` are the envelope's; `status` is 0 where nobody answered. */
export class Failure extends Error {
  constructor(status, error = {}, retryAfterS = 0) {
    super(error.message || "There is no connection to the server. Nothing was lost; try again.");
    this.status = status;
    this.code = error.code || "unavailable";
    this.param = error.param || null;
    this.retryAfterS = retryAfterS;
  }

  /** What to tell a person. */
  get words() {
    if (this.code === "no_session") return "Your session is over. Sign in again to go on.";
    if (this.code === "unavailable") return "This does not work right now. Nothing was lost; try again in a moment.";
    const text = this.message;
    return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
  }

  /** Whether the same again may well succeed. */
  get passes() {
    return this.status === 0 || this.status === 503;
  }
}

async function ask(method, path, body, headers, signal) {
  let response;
  let text;
  try {
    response = await fetch(path, { method, body, headers, signal, credentials: "same-origin", cache: "no-store" });
    text = await response.text();
  } catch {
    throw new Failure(0);
  }
  let answer = {};
  try {
    answer = parseExactly(text);
  } catch {
    if (response.ok) throw new Failure(response.status, { message: "The answer cannot be read." });
  }
  if (!response.ok) {
    throw new Failure(response.status, answer.error, Number(response.headers.get("Retry-After")) || 0);
  }
  return answer;
}

/** GET a path. */
export async function read(path) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), READ_MS_MAX);
  try {
    return await ask("GET", path, undefined, { Accept: "application/json" }, giveUp.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** PUT or POST a body: an object, or JSON text where an amount in it must stay as typed. */
export function change(method, path, body, key = newKey()) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return ask(method, path, text, {
    Accept: "application/json",
    "Content-Type": "application/json",
    "Idempotency-Key": key,
  });
}

/** The same as `change`, several times over while the server cannot: with one key it has one effect. */
export async function changePatiently(method, path, body, key = newKey(), tries = 5) {
  for (let left = tries - 1; ; left -= 1) {
    try {
      return await change(method, path, body, key);
    } catch (failure) {
      if (!failure.passes || left === 0) throw failure;
      await pause(failure.retryAfterS ? failure.retryAfterS * 1000 : SOON_MS);
    }
  }
}

/** Return a new idempotency key. (crypto.randomUUID is missing on plain HTTP.) */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Wait. */
export function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
