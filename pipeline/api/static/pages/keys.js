// The page of keys and access tokens: what there is, what each has spent, and when it was used last.

import { Failure, read } from "./api.js";
import { budgetOf, isBudgetSpent } from "./budget.js";
import { at, say } from "./form.js";
import { start as startForms } from "./keyforms.js";
import { follow } from "./live.js";
import { ago, count, day, dayOf, daysBetween, linkTo, longDay, made, nextMonth, put, putAll, putMoney, when } from "./show.js";

const EVERY_MS = 10_000;
// From so many days before its end on it is told how many are left.
const SOON_DAYS = 14;

const page = at("keys-page");
const manages = page.dataset.manages === "yes";
const known = { keys: null, tokens: null, use: null, usage: null, now: null };

/** Ask for one part; where it fails say so in its own place, if it has one, and leave the rest alone. */
async function part(name, path, place) {
  try {
    known[name] = await read(path);
    if (place) put(at(place), "");
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401) throw failure;
    known[name] = place ? known[name] : null;
    if (place) put(at(place), failure.words);
  }
}

const askKeys = () => part("keys", "/me/keys", "keys-part");
const askTokens = () => part("tokens", "/me/tokens", "tokens-part");

async function look() {
  await Promise.all([askKeys(), askTokens(), part("use", "/me/keys/use"), part("usage", "/me/usage")]);
  known.now = known.use?.as_of ?? known.usage?.as_of ?? new Date().toISOString();
  showKeys();
  showTokens();
  return known.now;
}

const isExpired = (each) => each.expires_at !== null && Date.parse(each.expires_at) <= Date.parse(known.now);
const isInForce = (each) => !each.revoked && !isExpired(each);

function showKeys() {
  if (known.keys === null) return clear("keys");
  const keys = known.keys.keys;
  const inForce = keys.filter(isInForce);
  put(at("keys-count"), `${inForce.length} of ${page.dataset.keysMax} in force.`);
  at("keys-none").hidden = inForce.length > 0;
  putLines(at("keys"), inForce.map(keyLine));
  showPast("keys", keys.filter((key) => !isInForce(key)).reverse());
}

function showTokens() {
  if (known.tokens === null) return clear("tokens");
  const tokens = known.tokens.tokens;
  const inForce = tokens.filter(isInForce);
  put(at("tokens-count"), `${inForce.length} of ${page.dataset.tokensMax} in force.`);
  at("tokens-none").hidden = inForce.length > 0;
  putLines(at("tokens"), inForce.map(tokenLine));
  showPast("tokens", tokens.filter((token) => !isInForce(token)).reverse());
}

/** Take the word for loading away where nothing came: the part says why. */
function clear(list) {
  at(list).replaceChildren();
}

/** Put the lines of a list in place, and the focus back on the button that had it. */
function putLines(list, lines) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const line = focused?.closest("li")?.dataset;
  putAll(list, lines);
  if (!line || list.contains(focused)) return;
  const same = [...list.children].find((each) => each.dataset.id === line.id);
  same?.querySelector(`[data-do="${focused.dataset.do}"]`)?.focus();
}

function keyLine(key) {
  const spent = made("div", "spent");
  const figure = made("strong", "money");
  putMoney(figure, key.spent_this_month_inr);
  const { drawn, words } = budgetOf(key);
  const turns = key.budget_inr === null ? "" : ` A new one starts on ${day(nextMonth(dayOf(known.now)))}.`;
  const told = made("p", "small", key.budget_inr === null ? words : `${words}.${turns}`);
  spent.append(made("p", "", figure, made("span", "small", " spent this month")), ...(drawn ? [drawn] : []), told);
  const today = known.usage?.keys.find((each) => each.key_id === key.key_id)?.today.requests ?? 0;
  const facts = made("dl", "facts");
  facts.append(
    fact("Today", dayWords(key, today)),
    fact("A minute", key.rpm_limit === null ? "No limit" : `${count(key.rpm_limit)} at most`),
    expiry(key.expires_at),
    fact("Last used", ...lastUse(key)),
  );
  const line = made("li", "", title(key, refusedNow(key, today)), spent, facts);
  line.dataset.id = line.dataset.keyId = key.key_id;
  if (manages) line.append(actions(["change", "Change"], ["revoke", "Revoke"]));
  return line;
}

function dayWords(key, today) {
  if (known.usage === null) return "Not known now";
  const used = `${count(today)} ${today === 1 ? "request" : "requests"}`;
  return key.daily_limit === null ? used : `${count(today)} of ${count(key.daily_limit)} requests`;
}

/** Say why gateways refuse a key now, or nothing. */
function refusedNow(key, today) {
  if (key.tier !== "trial" && isBudgetSpent(key)) return "Refused: budget spent";
  if (key.daily_limit !== null && today >= key.daily_limit) return "Refused: daily limit reached";
  return "";
}

function lastUse(key) {
  if (known.use === null) return ["Not known now"];
  const last = known.use.keys.find((each) => each.key_id === key.key_id);
  if (!last) return ["Not in the last year"];
  return [ago(last.last_used_at, known.now), `${when(last.last_used_at)} IST`];
}

function tokenLine(token) {
  const facts = made("dl", "facts");
  facts.append(fact("Made", longDay(dayOf(token.created_at))), expiry(token.expires_at), fact("Scope", "Only reads"));
  const line = made("li", "", title(token, ""), facts);
  line.dataset.id = line.dataset.tokenId = token.id;
  if (manages) line.append(actions(["revoke", "Revoke"]));
  return line;
}

function title(each, refused) {
  const name = each.key_id ? linkTo(`/activity?${new URLSearchParams({ key_id: each.key_id })}`, each.name) : each.name;
  const block = made("div", "who-it-is", made("strong", "name", name), " ", made("code", "", `${each.prefix}…`));
  if (each.tier === "trial") block.append(" ", made("span", "badge", "Trial"));
  if (refused) block.append(" ", made("span", "badge warns", refused));
  return block;
}

function fact(name, words, hint = "") {
  const value = made("dd", "", words);
  if (hint) value.title = hint;
  return made("div", "", made("dt", "", name), value);
}

function expiry(instant) {
  if (instant === null) return fact("Expires", "Never");
  const left = daysBetween(dayOf(known.now), dayOf(instant));
  const line = fact("Expires", longDay(dayOf(instant)), `${when(instant)} IST`);
  if (left <= SOON_DAYS) {
    line.classList.add("soon");
    const words = left === 0 ? "today" : `in ${count(left)} ${left === 1 ? "day" : "days"}`;
    line.lastChild.append(" ", made("span", "left-of-it", words));
  }
  return line;
}

function actions(...all) {
  const buttons = all.map(([does, words]) => {
    const button = made("button", "quiet", words);
    button.type = "button";
    button.dataset.do = does;
    return button;
  });
  return made("div", "does", ...buttons);
}

function showPast(kind, past) {
  const block = at(`${kind}-past`);
  block.hidden = past.length === 0;
  putAll(block.querySelector("ul"), past.map((each) => {
    const end = each.revoked ? "revoked" : `expired on ${longDay(dayOf(each.expires_at))}`;
    return made("li", "", made("span", "name", each.name), " ", made("code", "", `${each.prefix}…`), " ", made("span", "small", end));
  }));
}

/** Say what was done, where it was done, and show the list as it is now. */
async function done(kind, words) {
  await (kind === "keys" ? askKeys() : askTokens());
  (kind === "keys" ? showKeys : showTokens)();
  say(`${kind}-result`, words, "good");
  if (document.activeElement === document.body) at(`${kind}-title`).focus();
}

if (manages) {
  const forms = startForms({ gateway: page.dataset.gateway, done });
  at("new-key").addEventListener("click", () => forms.makeKey());
  at("new-token").addEventListener("click", () => forms.makeToken());
  for (const kind of ["keys", "tokens"]) {
    at(kind).addEventListener("click", (event) => {
      const does = event.target.dataset.do;
      if (!does) return;
      const { id } = event.target.closest("li").dataset;
      const each = kind === "keys" ? known.keys.keys.find((key) => key.key_id === id) : known.tokens.tokens.find((token) => token.id === id);
      if (does === "change") forms.changeKey(each);
      else forms.askToRevoke(kind, each);
    });
  }
}

follow(look, EVERY_MS);
