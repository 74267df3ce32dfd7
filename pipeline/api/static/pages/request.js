// One request: its tokens, its cost line by line with the sum done again here, its route, and its times.

import { Failure, read } from "./api.js";
import { at } from "./form.js";
import { amount, nano, shown } from "./money.js";
import { status } from "./requests.js";
import { count, longWhen, linkTo, made, put, putCount } from "./show.js";

const CLASSES = {
  input: "Prompt", cached_input: "Prompt, cached", cache_write: "Prompt, written to the cache", audio_input: "Audio in",
  output: "Completion", audio_output: "Audio out", request: "Fee for the request",
};
const FREE = {
  trial: "It was free: requests with a trial key cost nothing.",
  byok: "It was free: it was paid at the provider, with a key of your own there.",
  failed: "It was free: failed requests, of status 400 and above, cost nothing.",
};
const PER_MILLION = 1_000_000;

const page = at("request");

async function show() {
  try {
    showRequest(await read(`/me/activity/events/${page.dataset.id}`));
    at("page-result").replaceChildren();
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    const isOver = failure.status === 401;
    const way = isOver ? linkTo("/login", "Sign in") : made("button", "quiet", "Try again");
    if (!isOver) way.addEventListener("click", show);
    at("page-result").className = "result bad";
    at("page-result").replaceChildren(`${failure.words} `, way);
  }
}

function showRequest(found) {
  at("when").replaceChildren(`${longWhen(found.at)} `, status(found.status));
  const cost = page.querySelector('[data-metric="cost_inr"]');
  put(cost, shown(found.cost_inr));
  cost.dataset.value = found.cost_inr;
  showCost(found);
  showTokens(found);
  const key = linkTo(`/activity?${new URLSearchParams({ key_id: found.key_id })}`, found.key_name ?? found.key_id);
  facts("route", [
    ["Model asked for", found.model],
    ["Served by", found.provider ?? "no provider: it failed before one was asked"],
    ["Key", key],
    ["Its tier", found.tier],
    ["Own provider key", found.byok ? "yes" : "no"],
    ["Status", found.error_code ? `${found.status} ${found.error_code}` : String(found.status)],
  ]);
  facts("time", [
    ["Finished", longWhen(found.at)],
    ["Posted to the account", `${longWhen(found.posted_at)}${late(found)}`],
    ["Took", `${count(found.latency_ms)} ms`],
    ["First token after", found.ttft_ms === null ? "not told" : `${count(found.ttft_ms)} ms`],
    ["Streamed", found.stream ? "yes" : "no"],
  ]);
  facts("event", [["Event id", found.event_id], ["Source", found.source], ["Request id", String(found.id)]]);
}

/** Say how long after its end a request was posted. */
function late({ at: finished, posted_at: posted }) {
  const ms = Date.parse(posted) - Date.parse(finished);
  if (ms < 0) return "";
  if (ms < 1000) return `, ${ms} ms later`;
  if (ms < 120_000) return `, ${(ms / 1000).toFixed(1)} s later`;
  return `, ${count(Math.round(ms / 60_000))} min later`;
}

function showCost(found) {
  const { free, lines, rate_from, tier_above, total_inr } = found.cost;
  page.querySelector(".scrolled").hidden = lines.length === 0;
  at("by-hand").hidden = free !== null;
  if (free !== null) return put(at("why"), FREE[free]);
  const tier = tier_above === null ? "" : ` It had more than ${count(tier_above)} prompt tokens, so the prices of that tier hold for all of it.`;
  put(at("why"), `By the rate of ${found.model} at ${found.provider} that holds since ${longWhen(rate_from)}.${tier}`);
  const table = at("lines");
  table.tBodies[0].replaceChildren(...lines.map((line) => row(CLASSES[line.class] ?? line.class,
    line.inr === undefined ? count(line.quantity) : "", line.inr_per_mtok === undefined ? "" : shown(line.inr_per_mtok), shown(line.amount_inr))));
  table.tFoot.replaceChildren(row("All together", "", "", shown(total_inr)));
  put(at("hand-words"), "A price of ₹1 per million tokens is 1,000 billionths of a rupee a token, so every line is exact and nothing is rounded.");
  at("hand").replaceChildren(...lines.map(byHand));
  const sum = lines.reduce((all, line) => all + nano(line.amount_inr), 0n);
  const parts = lines.map((line) => shown(line.amount_inr)).join(" + ");
  const verdict = sum === nano(found.cost_inr) ? "exactly what was charged." : `but ${shown(found.cost_inr)} was charged: please tell us.`;
  put(at("hand-sum"), lines.length ? `Together ${parts}${lines.length > 1 ? ` = ${shown(amount(sum))}` : ""}, ${verdict}` : "It had no tokens, so there is nothing to add up.");
}

function byHand(line) {
  const name = `${CLASSES[line.class] ?? line.class}: `;
  if (line.inr !== undefined) return made("li", "", `${name}${shown(line.amount_inr)}`);
  return made("li", "", `${name}${count(line.quantity)} × ${shown(line.inr_per_mtok)} ÷ ${count(PER_MILLION)} = ${shown(line.amount_inr)}`);
}

function showTokens(found) {
  const { usage } = found;
  const isBeside = found.tokens > usage.prompt_tokens + usage.completion_tokens;
  putCount(page.querySelector('[data-metric="tokens"]'), found.tokens);
  const parts = [
    ["Prompt", usage.prompt_tokens], ["cached", usage.cached_tokens, true], ["written to the cache", usage.cache_write_tokens, true],
    ["audio in", usage.audio_input_tokens, true],
    ["Completion", usage.completion_tokens], ["reasoning", usage.reasoning_tokens, true], ["audio out", usage.audio_output_tokens, true],
  ];
  const words = (name) => (name === "reasoning" && isBeside ? "reasoning, beside it" : `of it ${name}`);
  facts("tokens", parts.map(([name, number, isPart]) => [isPart ? words(name) : name, count(number), isPart]));
  at("irregular").hidden = !found.irregular;
}

function facts(id, rows) {
  at(id).replaceChildren(...rows.map(([name, value, isPart]) => made("div", isPart ? "part" : "", made("dt", "", name), made("dd", "", value))));
}

function row(name, ...numbers) {
  const head = made("th", "", name);
  head.scope = "row";
  return made("tr", "", head, ...numbers.map((number) => made("td", "number", number)));
}

await show();
