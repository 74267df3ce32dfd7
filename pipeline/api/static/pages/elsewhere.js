// What the same requests would have cost at another provider of the same model: where that is a fair comparison, and what it leaves out.

import { amount, brief, nano } from "./money.js";
import { count, made, put, putAll, putMoney } from "./show.js";

const SHOWN = 5;

/** Show what an answer of `/me/whatif/providers` says, in a section that is hidden where there is nothing to compare. */
export function showElsewhere(section, list, note, { models, left_out: leftOut }) {
  section.hidden = models.length === 0;
  putAll(list, models.slice(0, SHOWN).map(line));
  put(note, models.length ? words(models.slice(SHOWN), leftOut) : "");
}

function line({ model, as_provider: provider, requests, actual_inr: actual, whatif_inr: whatif }) {
  const cost = money("number", "actual_inr", actual);
  const more = nano(whatif) - nano(actual);
  const change = more === 0n ? "the same" : `${brief(amount(more < 0n ? -more : more))} ${more < 0n ? "less" : "more"}`;
  const told = made("span", "small", `The same ${plural(requests, "request")} at ${provider} would have cost `);
  told.append(money("", "whatif_inr", whatif), `, ${change}.`);
  const item = made("li", "", made("span", "name", model), cost, told);
  item.dataset.model = model;
  return item;
}

function money(className, metric, text) {
  const element = made("span", className);
  element.dataset.metric = metric;
  putMoney(element, text);
  return element;
}

function words(more, leftOut) {
  const left = [];
  if (more.length) left.push(`${plural(more.length, "model")} that cost less`);
  if (leftOut.length) {
    const requests = leftOut.reduce((sum, each) => sum + each.requests, 0);
    const cost = amount(leftOut.reduce((sum, each) => sum + nano(each.actual_inr), 0n));
    left.push(`${plural(requests, "request")} for ${brief(cost)}, as no other provider has had a price for the model on all of these days`);
  }
  left.push("free requests", "how fast the other provider is, how often it fails and what it finds in its cache");
  return `Last 30 days, by the prices of each request's own time, at the cheapest other provider. Left out: ${left.join("; ")}.`;
}

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
