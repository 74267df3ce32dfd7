// The ledger: entries newest first, more of them on demand.

import { read } from "./api.js";
import { at, doing, say } from "./form.js";
import { fill } from "./money.js";

const PAGE = 10;
const KINDS = {
  topup: "Top-up", promo: "Promo credit", refund: "Refund", dispute: "Dispute", correction: "Correction",
};
const WHEN = new Intl.DateTimeFormat("en-IN", {
  timeZone: "Asia/Kolkata", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  hour12: false,
});

let nextBefore = null;
let hasMore = false;

/** Ask for the newest page of billing. */
export function newest() {
  return read(`/me/billing?limit=${PAGE}`);
}

/** Show a newest page in place of whatever is shown. */
export function showNewest(billing) {
  at("entries").replaceChildren(...billing.entries.map(row));
  at("no-entries").hidden = billing.entries.length > 0;
  hasMore = false;
  went(billing);
}

/** Whether older pages are shown too, so that a refresh would take them away. */
export function isLong() {
  return hasMore;
}

/** Let older entries be asked for. */
export function start() {
  doing(at("older"), "click", "ledger-result", async () => {
    const page = await read(`/me/billing?limit=${PAGE}&before=${nextBefore}`);
    const rows = page.entries.map(row);
    at("entries").append(...rows);
    hasMore = true;
    went(page);
    const count = rows.length;
    say("ledger-result", `${count} more ${count === 1 ? "entry" : "entries"}${page.next_before === null ? ", that is all" : ""}.`);
    // The button may be gone: whoever pressed it goes on reading where the new rows begin.
    rows[0]?.querySelector(".kind").focus();
  });
}

function went(page) {
  nextBefore = page.next_before;
  at("older").hidden = nextBefore === null;
}

function row(entry) {
  const line = document.createElement("tr");
  line.setAttribute("role", "row");
  const time = document.createElement("time");
  time.dateTime = entry.at;
  time.textContent = WHEN.format(new Date(entry.at));
  const amount = cell("number money amount");
  const comesIn = !entry.amount_inr.startsWith("-");
  fill(amount, entry.amount_inr, "+");
  amount.classList.add(comesIn ? "good" : "bad");
  const after = cell("number money after");
  fill(after, entry.balance_after_inr);
  line.append(cell("when", time), cell("what", ...what(entry)), amount, after);
  return line;
}

function what(entry) {
  const kind = text("span", "kind", KINDS[entry.kind] || entry.kind);
  kind.tabIndex = -1;
  const said = [kind];
  const about = [entry.promo_code && `Code ${entry.promo_code}`, entry.note].filter(Boolean);
  if (about.length) said.push(text("span", "more", about.join(" · ")));
  if (entry.kind === "topup" && entry.payment_id) {
    const link = text("a", "", "Receipt");
    link.href = `/me/billing/receipts/${encodeURIComponent(entry.payment_id)}`;
    link.target = "_blank";
    link.rel = "noopener";
    link.setAttribute("aria-label", `Receipt for payment ${entry.payment_id}, opens in a new tab`);
    said.push(link);
  } else if (entry.payment_id) {
    said.push(text("span", "more", entry.payment_id));
  }
  return said;
}

function cell(name, ...content) {
  const made = document.createElement("td");
  made.className = name;
  made.setAttribute("role", "cell");
  made.append(...content);
  return made;
}

function text(tag, name, content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = content;
  return made;
}
