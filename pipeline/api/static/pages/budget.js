// A key's budget of the month: a bar, and what is left in words.

import { amount, brief, nano } from "./money.js";
import { bar } from "./show.js";

/** Whether what was spent this month has reached a key's budget. */
export const isBudgetSpent = (key) => key.budget_inr !== null && nano(key.spent_this_month_inr) >= nano(key.budget_inr);

/** Return a key's budget as `{ drawn, words }`; `drawn` is null where it has none. */
export function budgetOf(key) {
  if (key.budget_inr === null) {
    return { drawn: null, words: key.tier === "trial" ? "Trial key: free, with a daily limit." : "No budget." };
  }
  const [used, budget] = [nano(key.spent_this_month_inr), nano(key.budget_inr)];
  const left = budget - used;
  const part = budget === 0n ? 1 : Number((used * 1000n) / budget) / 1000;
  const words = left > 0n ? `${brief(amount(left))} left of ${brief(key.budget_inr)}` : `Budget of ${brief(key.budget_inr)} is spent`;
  return { drawn: bar(part, part >= 1 ? "full" : part >= 0.8 ? "near" : ""), words };
}
