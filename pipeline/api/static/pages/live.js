// Following the product: asking again and again while somebody looks, and saying how old the numbers are.

import { Failure } from "./api.js";
import { at } from "./form.js";
import { clock, made } from "./show.js";

const PATIENCE_MAX_MS = 60_000;

/**
 * Call `look` now and every `everyMs` while the page is visible. It returns the `as_of` of what it showed, or throws
 * a Failure: then what is shown stays, its age is told, and it is asked again ever more slowly. Returns a function that
 * looks again at once, for when something else is to be shown.
 */
export function follow(look, everyMs) {
  let timer = 0;
  let asOf = null;
  let lookedAt = 0;
  let failures = 0;
  let busy = false;
  let again = false;
  let over = false;

  async function turn() {
    clearTimeout(timer);
    again = busy;
    if (busy || over || document.visibilityState !== "visible") return;
    busy = true;
    try {
      const began = performance.now();
      asOf = await look();
      lookedAt = began;
      failures = 0;
      at("page-result").replaceChildren();
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      failures += 1;
      over = failure.status === 401;
      tell(failure, turn, over);
    } finally {
      busy = false;
    }
    settle();
    age();
    if (again && !over) return turn();
    if (!over) timer = setTimeout(turn, Math.min(everyMs * 2 ** failures, PATIENCE_MAX_MS));
  }

  function age() {
    if (asOf === null || document.visibilityState !== "visible") return;
    const line = at("fresh");
    const seconds = Math.max(0, Math.round((performance.now() - lookedAt) / 1000));
    line.textContent = `as of ${clock(asOf)} IST, ${seconds} s behind`;
    line.classList.toggle("stale", failures > 0);
  }

  document.addEventListener("visibilitychange", turn);
  setInterval(age, 1000);
  turn();
  return turn;
}

/** Whatever still waits after all was asked is not known: nothing looks as if it were coming when it is not. */
function settle() {
  for (const place of document.querySelectorAll("main .waiting")) {
    place.className = "unknown";
    place.textContent = "Not known now";
  }
}

function tell(failure, again, over) {
  const way = over ? made("a", "", "Sign in") : made("button", "quiet", "Try again");
  if (over) way.href = "/login";
  else way.addEventListener("click", again);
  const place = at("page-result");
  place.className = "result bad";
  place.replaceChildren(`${failure.words} `, way);
}
