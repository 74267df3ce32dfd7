// The low-balance alert: set and cleared.

import { change } from "./api.js";
import { at, doing, mark, say } from "./form.js";
import { shown, typed } from "./money.js";

/** Show the threshold that is in force; null is none. */
export function show(threshold) {
  at("alert-now").textContent = threshold === null ? "Off." : `On, below ${shown(threshold)}.`;
  const form = at("alert");
  if (!form) return;
  at("alert-off").hidden = threshold === null;
  const field = form.elements.namedItem("threshold_inr");
  if (document.activeElement !== field) field.value = threshold ?? "";
}

/** Let it be changed; `saved` is told the new threshold. */
export function start(saved) {
  const form = at("alert");
  if (!form) return;
  doing(form, "submit", "alert-result", async () => {
    const amount = typed(form.elements.namedItem("threshold_inr").value);
    if (amount === null || /^[0.]+$/.test(amount)) {
      say("alert-result", "Put in an amount in rupees, for example 50.", "bad");
      mark(form, "threshold_inr");
      return;
    }
    // The amount goes out as it was typed, through no floating-point number.
    await change("PUT", "/me/billing/threshold", `{"threshold_inr":${amount}}`);
    say("alert-result", `You get a mail when the balance falls below ${shown(amount)}.`, "good");
    saved(amount);
  });
  doing(at("alert-off"), "click", "alert-result", async () => {
    await change("PUT", "/me/billing/threshold", { threshold_inr: null });
    say("alert-result", "The alert is off.", "good");
    form.elements.namedItem("threshold_inr").focus();
    saved(null);
    form.elements.namedItem("threshold_inr").value = "";
  });
}
