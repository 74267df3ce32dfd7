// A top-up: order, Razorpay's Checkout, confirmation. Paid money is credited even if this page is closed.

import { change, changePatiently, Failure, newKey, pause } from "./api.js";
import { at, doing, mark, say } from "./form.js";
import { shown } from "./money.js";
import { newest } from "./ledger.js";

const AMOUNT_MIN = 100;
const AMOUNT_MAX = 1000;
const LOOK_EVERY_MS = 3000;
const LOOK_TIMES = 40;

let page = null;
let attempt = { asked: "", key: "" };

/** Let money be paid in. `state` tells address, email and Checkout's place; `changed` shows new billing. */
export function start(state, changed) {
  page = { state, changed };
  const form = at("top-up");
  if (!form) return;
  form.elements.namedItem("amount_inr").addEventListener("input", showAmount);
  for (const chip of form.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      form.elements.namedItem("amount_inr").value = chip.dataset.amount;
      showAmount();
    });
  }
  form.elements.namedItem("promo_code").addEventListener("input", () => say("promo-result", ""));
  doing(at("promo-check"), "click", "promo-result", checkPromo);
  doing(form, "submit", "top-up-result", topUp);
  showAmount();
}

function amount() {
  const text = at("amount").value.trim().replaceAll(",", "");
  const rupees = /^\d{1,4}$/.test(text) ? Number(text) : NaN;
  return rupees >= AMOUNT_MIN && rupees <= AMOUNT_MAX ? rupees : null;
}

function showAmount() {
  const rupees = amount();
  at("pay").textContent = rupees === null ? "Pay" : `Pay ${shown(String(rupees)).replace(/\.00$/, "")}`;
  for (const chip of document.querySelectorAll(".chip")) {
    chip.setAttribute("aria-pressed", String(chip.dataset.amount === String(rupees)));
  }
}

function promoCode() {
  return at("promo").value.trim() || null;
}

async function checkPromo() {
  const code = promoCode();
  if (code === null) {
    say("promo-result", "Put in a code first.", "bad");
    at("promo").focus();
    return;
  }
  const promo = await change("POST", "/me/billing/promo/check", { code });
  say("promo-result", `${promo.code} adds ${shown(promo.bonus_inr)} to this top-up.`, "good");
}

async function topUp() {
  const rupees = amount();
  if (rupees === null) {
    say("top-up-result", "Put in whole rupees, from 100 to 1,000.", "bad");
    mark(at("top-up"), "amount_inr");
    return;
  }
  if (!page.state.address) {
    addressNeeded();
    return;
  }
  say("top-up-result", "Opening Razorpay…");
  const [order] = await Promise.all([newOrder(rupees), loadCheckout()]);
  openCheckout(order);
}

function addressNeeded() {
  say("top-up-result", "");
  say("address-result", "Save your billing address first, then top up.", "bad");
  at("name").focus();
}

async function newOrder(rupees) {
  const body = JSON.stringify({ amount_inr: rupees, promo_code: promoCode() });
  // Asking the same again after a failure is the same order, not a second one.
  if (attempt.asked !== body) attempt = { asked: body, key: newKey() };
  try {
    const order = await change("POST", "/me/billing/orders", body, attempt.key);
    attempt = { asked: "", key: "" };
    return order;
  } catch (failure) {
    if (failure.code === "address_required") addressNeeded();
    if (failure.code === "promo_invalid" || failure.code === "promo_redeemed") {
      say("promo-result", failure.words, "bad");
      at("promo").focus();
      throw new Failure(failure.status, { code: failure.code, message: "Not ordered: take the promo code out, or change it." });
    }
    throw failure;
  }
}

function loadCheckout() {
  if (window.Razorpay) return Promise.resolve();
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = page.state.checkout;
    script.onload = done;
    script.onerror = () => {
      script.remove();
      failed(new Failure(0, { code: "no_checkout", message: "Razorpay's Checkout could not be loaded. Nothing was paid; try again." }));
    };
    document.head.append(script);
  });
}

/** Open Checkout. The form is free again at once: not every way out of Checkout is told. */
function openCheckout(order) {
  const checkout = new window.Razorpay({
    key: order.razorpay_key_id,
    order_id: order.order_id,
    amount: order.amount_paise,
    currency: order.currency,
    name: "BharatRouter",
    description: "Prepaid top-up",
    prefill: { name: page.state.address?.name || "", email: page.state.email },
    theme: { color: "#0b5d4e" },
    handler: (paid) => saying(confirm(paid)),
    modal: { ondismiss: () => saying(dismissed(order)) },
  });
  checkout.on("payment.failed", (event) => {
    say("top-up-result", `That payment failed. ${event?.error?.description || ""} You can try another way.`, "bad");
  });
  say("top-up-result", "Pay in Razorpay's window.");
  checkout.open();
}

/** Wait for work and say what went wrong with it. */
async function saying(work) {
  try {
    await work;
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    say("top-up-result", failure.words, "bad");
  }
}

async function confirm(paid) {
  say("top-up-result", "Paid. Confirming it…");
  const { razorpay_order_id, razorpay_payment_id, razorpay_signature } = paid;
  try {
    const callback = { razorpay_order_id, razorpay_payment_id, razorpay_signature };
    const { status } = await changePatiently("POST", "/me/billing/verify", callback);
    if (status === "failed") {
      say("top-up-result", "Razorpay says that this payment failed. Nothing was credited; you can try again.", "bad");
      return;
    }
  } catch (failure) {
    if (!failure.passes) {
      say("top-up-result", `${failure.words} If you have paid, the money is credited as soon as Razorpay confirms payment ${razorpay_payment_id}; do not pay again.`, "bad");
      await look((entry) => entry.payment_id === razorpay_payment_id);
      return;
    }
  }
  say("top-up-result", "Paid. The credit shows as soon as Razorpay confirms it; you can close this page.");
  await look((entry) => entry.payment_id === razorpay_payment_id);
}

async function dismissed(order) {
  say("top-up-result", "The window was closed. If you did pay, the credit comes by itself; otherwise nothing was paid.");
  await look((entry) => entry.order_id === order.order_id, 3);
}

/** Look into the ledger until a top-up is there, and say so. */
async function look(isIt, times = LOOK_TIMES) {
  for (let left = times; left > 0; left -= 1) {
    try {
      const billing = await newest();
      const found = billing.entries.find((entry) => entry.kind === "topup" && isIt(entry));
      if (found) {
        page.changed(billing);
        const bonus = billing.entries.find((entry) => entry.kind === "promo" && entry.payment_id === found.payment_id);
        at("promo").value = "";
        say("promo-result", "");
        const extra = bonus ? `, and ${shown(bonus.amount_inr)} from code ${bonus.promo_code}` : "";
        const why = found.note ? ` ${found.note.charAt(0).toUpperCase()}${found.note.slice(1)}.` : "";
        say("top-up-result", `${shown(found.amount_inr)} added${extra}. Thank you!${why}`, "good");
        return;
      }
    } catch (failure) {
      if (!failure.passes) throw failure;
    }
    if (left > 1) await pause(LOOK_EVERY_MS);
  }
}
