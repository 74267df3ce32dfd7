// The billing page: what is known of the org's money, and the forms around it.

import { Failure } from "./api.js";
import * as address from "./address.js";
import * as alert from "./alert.js";
import { at, say } from "./form.js";
import * as ledger from "./ledger.js";
import { fill, isBelow, isSpent, shown } from "./money.js";
import * as topup from "./topup.js";

const { email, checkout } = at("billing").dataset;
const state = { email, checkout, address: null, balance: null, threshold: null };

function showMoney() {
  fill(at("balance"), state.balance);
  const note = at("balance-note");
  const isLow = state.threshold !== null && isBelow(state.balance, state.threshold);
  note.hidden = !isSpent(state.balance) && !isLow;
  note.textContent = isSpent(state.balance)
    ? "Requests with standard keys are refused until a top-up. Trial keys and your own provider keys go on."
    : `This is below your alert of ${isLow ? shown(state.threshold) : ""}.`;
  alert.show(state.threshold);
}

function showAddress() {
  address.show(state.address);
  const needed = at("address-needed");
  if (needed) needed.hidden = state.address !== null;
}

/** Show a newest page of billing, leaving what somebody is filling in. */
function show(billing, { withAddress = false } = {}) {
  state.balance = billing.balance_inr;
  state.threshold = billing.threshold_inr;
  ledger.showNewest(billing);
  showMoney();
  if (withAddress) {
    state.address = billing.address;
    showAddress();
  }
}

async function load() {
  try {
    show(await ledger.newest(), { withAddress: true });
    say("page-result", "");
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    failed(failure);
  }
}

function failed(failure) {
  if (state.balance === null) at("balance").textContent = "—";
  say("page-result", `${failure.words} `, "bad");
  const way = document.createElement(failure.status === 401 ? "a" : "button");
  if (failure.status === 401) {
    way.href = "/login";
    way.textContent = "Sign in";
  } else {
    way.type = "button";
    way.className = "quiet";
    way.textContent = "Try again";
    way.addEventListener("click", load);
  }
  at("page-result").append(way);
}

async function refresh() {
  if (document.visibilityState !== "visible" || state.balance === null || ledger.isLong()) return;
  try {
    show(await ledger.newest());
    say("page-result", "");
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    failed(failure);
  }
}

ledger.start();
address.start((saved) => {
  state.address = saved;
  showAddress();
});
alert.start((threshold) => {
  state.threshold = threshold;
  showMoney();
});
topup.start(state, show);
document.addEventListener("visibilitychange", refresh);
await load();
