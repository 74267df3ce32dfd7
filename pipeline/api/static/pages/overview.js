// The overview: what is left and how long it lasts, today and 30 days, the chart, keys, what is refused, and what other providers cost.

import { Failure, read } from "./api.js";
import { budgetOf, isBudgetSpent } from "./budget.js";
import { DayChart } from "./daychart.js";
import { showElsewhere } from "./elsewhere.js";
import { at } from "./form.js";
import { follow } from "./live.js";
import { amount, brief, isSpent, nano, shown } from "./money.js";
import { count, day, dayOf, dayRange, delta, linkTo, longDay, made, nextMonth, plusDays, put, putAll, putCount, putMoney, share } from "./show.js";

const EVERY_MS = 4000;
// Balance, forecast and keys are asked of the account's owner: when something was used, and once a minute.
const OWNER_EVERY_MS = 60_000;
// What other providers cost is made of every request of 30 days: it is asked for once, and rarely again.
const ELSEWHERE_EVERY_MS = 900_000;
const WINDOW = 30;

const page = at("overview");
const chart = new DayChart(page.querySelector('[data-chart="days"]'));
const known = { today: page.dataset.today, activity: null, usage: null, billing: null, forecast: null, keys: null };
let used = null;
let ownerAskedAt = -Infinity;
let elsewhereAskedAt = -Infinity;

/** Ask for one part; where it fails say so in its own place, and leave the rest alone. */
async function part(name, path, place) {
  try {
    known[name] = await read(path);
    if (place) put(at(place), "");
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401 || !place) throw failure;
    put(at(place), failure.words);
  }
}

async function look() {
  const isFirst = ownerAskedAt === -Infinity;
  const [missing] = await Promise.all([counted(), isFirst && askOwner()]);
  const now = known.activity ? JSON.stringify(known.activity.totals) : null;
  if (!isFirst && (now !== used || performance.now() - ownerAskedAt > OWNER_EVERY_MS)) await askOwner();
  // What was asked beside the first counts may be older than they are: it is asked once more.
  if (!isFirst) used = now;
  if (known.billing) showBalance();
  if (known.keys) showKeys();
  if (known.billing && known.keys) showRefused();
  if (missing) throw missing;
  if (performance.now() - elsewhereAskedAt > ELSEWHERE_EVERY_MS) {
    elsewhereAskedAt = performance.now();
    lookElsewhere();
  }
  return known.activity.as_of;
}

/** Ask what other providers cost. Nothing waits for it, and where it fails there is one comparison less. */
async function lookElsewhere() {
  const from = plusDays(known.today, 1 - WINDOW);
  try {
    const answer = await read(`/me/whatif/providers?from=${from}&to=${known.today}`);
    showElsewhere(at("elsewhere"), at("elsewhere-models"), at("elsewhere-note"), answer);
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
  }
}

/** Ask what the account's owner knows; the balance is shown as soon as it is there. */
async function askOwner() {
  await Promise.all([
    part("billing", "/me/billing?limit=1", "balance-result").then(() => known.billing && showBalance()),
    part("forecast", "/me/forecast", "forecast-result"),
    part("keys", "/me/keys", "keys-result"),
  ]);
  ownerAskedAt = performance.now();
}

/** Show what ClickHouse counted. Where it is away return the Failure: what the owners know is shown all the same. */
async function counted() {
  const from = plusDays(known.today, 1 - 2 * WINDOW);
  try {
    await Promise.all([part("activity", `/me/activity?from=${from}`), part("usage", "/me/usage")]);
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401) throw failure;
    return failure;
  }
  known.today = dayOf(known.activity.as_of);
  await showActivity();
  return null;
}

function sums(rows) {
  const all = { cost: 0n, requests: 0, tokens: 0, errors: 0 };
  for (const row of rows) {
    all.cost += nano(row.cost_inr);
    for (const name of ["requests", "tokens", "errors"]) all[name] += row[name];
  }
  return all;
}

function showActivity() {
  const { today, activity } = known;
  const days = activity.days;
  const start = plusDays(today, 1 - WINDOW);
  const inWindow = days.filter((row) => row.day >= start);
  const periods = [
    ["today_", sums(days.filter((row) => row.day === today)), sums(days.filter((row) => row.day === plusDays(today, -1)))],
    ["", sums(inWindow), sums(days.filter((row) => row.day < start))],
  ];
  for (const [prefix, now, before] of periods) {
    for (const name of ["requests", "tokens", "errors"]) {
      putCount(metric(prefix + name), now[name]);
      put(page.querySelector(`[data-before="${prefix}${name}"]`), count(before[name]));
    }
    putMoney(metric(`${prefix}cost_inr`), amount(now.cost));
    const earlier = page.querySelector(`[data-before="${prefix}cost_inr"]`);
    put(earlier, brief(amount(before.cost)));
    earlier.title = shown(amount(before.cost));
  }
  const [, [, now, before]] = periods;
  for (const name of ["requests", "tokens"]) showDelta(name, BigInt(now[name]), BigInt(before[name]));
  showDelta("cost_inr", now.cost, before.cost);
  put(page.querySelector('[data-delta="errors"]'), now.requests ? `${share(now.errors, now.requests)} of requests` : "");
  return chart.show(inWindow, start, today);
}

const metric = (name) => page.querySelector(`[data-metric="${name}"]`);

function showDelta(name, now, before) {
  put(page.querySelector(`[data-delta="${name}"]`), delta(now, before));
}

function showBalance() {
  const { balance_inr: balance } = known.billing;
  putMoney(metric("balance_inr"), balance);
  if (isSpent(balance)) {
    put(at("lasts"), "It is used up.");
    put(at("lasts-why"), "");
  } else if (known.forecast) {
    showForecast(known.forecast);
  }
}

function showForecast({ as_of, spend_inr_per_day: spend, runs_out_on: ends }) {
  put(at("lasts"), lasts(spend, ends, dayOf(as_of)));
  if (spend.likely === null || isSpent(spend.high)) return put(at("lasts-why"), "");
  const between = spend.low === spend.high ? "" : `, between ${brief(spend.low)} and ${brief(spend.high)}`;
  put(at("lasts-why"), `At ${brief(spend.likely)} a day${between}. By the days before today, 28 at most, with weekdays told apart. Such a forecast holds in 4 of 5 cases or more.`);
}

/** Say how long a balance lasts: until one day, or from the earliest to the latest, which may be open. */
function lasts(spend, ends, today) {
  if (spend.likely === null) return "How long it lasts can be told after 3 days of requests.";
  if (ends === null) return isSpent(spend.high) ? "Nothing is being spent." : "Lasts longer than a year.";
  const likely = ends.likely === null ? "" : `, likely ${dayRange(ends.likely, ends.likely, today)}`;
  if (ends.latest === null) return `Lasts until ${dayRange(ends.earliest, ends.earliest, today)} at least${likely}, perhaps longer than a year.`;
  if (ends.earliest === ends.latest) return `Lasts until ${dayRange(ends.latest, ends.latest, today)}.`;
  return `Lasts until ${dayRange(ends.earliest, ends.latest, today)}${likely}.`;
}

const isActive = (key) => !key.revoked && !isExpired(key);
const isExpired = (key) => key.expires_at !== null && Date.parse(key.expires_at) <= now();
const now = () => (known.activity ? Date.parse(known.activity.as_of) : Date.now());

function showKeys() {
  const keys = known.keys.keys.filter(isActive);
  keys.sort((one, other) => (nano(one.spent_this_month_inr) < nano(other.spent_this_month_inr) ? 1 : -1));
  at("keys-none").hidden = keys.length > 0;
  put(at("keys-note"), keys.length ? `Spent this month. Budgets turn on ${longDay(nextMonth(known.today))}, 00:00 IST.` : "");
  putAll(at("keys"), keys.map(keyLine));
}

function keyLine(key) {
  const name = made("span", "name", linkTo(`/activity?${new URLSearchParams({ key_id: key.key_id })}`, key.name));
  const spent = made("span", "number", brief(key.spent_this_month_inr));
  spent.title = shown(key.spent_this_month_inr);
  const line = made("li", "", name, spent);
  line.dataset.keyId = key.key_id;
  const { drawn, words } = budgetOf(key);
  line.append(...(drawn ? [drawn] : []), made("span", "small", words + reached(key)));
  return line;
}

/** Say when a key's budget will likely be spent, where it is not yet and will be before the month ends. */
function reached(key) {
  if (isBudgetSpent(key)) return "";
  const told = known.forecast?.keys.find((each) => each.key_id === key.key_id);
  return told?.reached_on ? `, likely spent on ${day(dayOf(told.reached_on))}` : "";
}

function showRefused() {
  const refused = [];
  const keys = known.keys.keys.filter((key) => !key.revoked);
  if (isSpent(known.billing.balance_inr)) {
    refused.push(refusal("All standard keys", "402 insufficient_credits", "The balance is used up. Trial keys and your own provider keys go on.", "Top up", "/billing"));
  }
  for (const key of keys) {
    const today = known.usage?.keys.find((each) => each.key_id === key.key_id)?.today.requests || 0;
    if (isExpired(key)) {
      refused.push(refusal(key.name, "401 invalid_api_key", `This key expired on ${longDay(dayOf(key.expires_at))}. Make a new one.`, "Keys", "/keys"));
    } else if (isBudgetSpent(key) && key.tier !== "trial") {
      refused.push(refusal(key.name, "429 budget_exceeded", `Its budget of ${brief(key.budget_inr)} is spent. Raise it, or wait for ${day(nextMonth(known.today))}.`, "Keys", "/keys"));
    } else if (key.daily_limit !== null && today >= key.daily_limit) {
      refused.push(refusal(key.name, "429 daily_limit_reached", `Its ${count(key.daily_limit)} requests of today are used. It goes on at 00:00 IST, or with a higher limit.`, "Keys", "/keys"));
    }
  }
  putAll(at("refused"), refused);
  const none = known.usage
    ? "Nothing. Every key that is in force is served."
    : "Nothing by balance, budget or expiry. Whether a daily limit is reached is not known now.";
  put(at("refused-none"), refused.length ? "" : none);
}

function refusal(who, code, words, action, address) {
  const line = made("li", "", made("strong", "", who), " ", made("code", "", code), made("p", "", words));
  if (action) {
    const link = made("a", "", action);
    link.href = address;
    line.append(link);
  }
  return line;
}

follow(look, EVERY_MS);
