// The activity of an org over a range of days: what it cost, by whom it was used, how it went, and the requests.

import { Failure, read } from "./api.js";
import { DayChart } from "./daychart.js";
import { FilterForm } from "./filters.js";
import { at } from "./form.js";
import { follow } from "./live.js";
import { amount, brief, nano, shown } from "./money.js";
import { RequestList } from "./requests.js";
import { bar, count, day, dayOf, delta, linkTo, longDay, made, put, putAll, putCount, putMoney, share } from "./show.js";

const EVERY_MS = 4000;
// Latency is read from every request of the range, so it follows less closely.
const LATENCY_EVERY_MS = 60_000;
const COUNTS = ["requests", "tokens", "errors"];

const page = at("activity");
const filters = new FilterForm(at("filters"), () => moved());
let moved = () => {};

/** What is shown: of which view, up to which totals, and which parts of it are still to be asked. */
const known = { view: null, activity: null, latency: null, due: new Set(), latencyAt: 0, upTo: null };

const PARTS = {
  numbers: { place: "numbers-result", ask: async (view) => of(view, await read(`/me/activity?${view.query}`), showNumbers) },
  latency: { place: "latency-result", ask: async (view) => of(view, await read(`/me/activity/latency?${view.query}`), showLatency) },
  requests: { place: "requests-result", ask: (view) => list.start(view) },
  arrived: { place: "requests-result", ask: () => list.look() },
};

const chart = page && new DayChart(page.querySelector('[data-chart="days"]'), (measure) => filters.keep(measure));
const list = page && new RequestList();

/** Show an answer, unless another view is wanted by now. */
async function of(view, answer, show) {
  if (view.query === filters.view().query) await show(view, answer);
}

/** Ask for one part; where it fails say so in its own place, ask again next time, and leave the rest alone. */
async function part(name, view) {
  const { place, ask } = PARTS[name];
  known.due.delete(name);
  try {
    await ask(view);
    if (at(place).classList.contains("bad")) put(at(place), "");
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401) throw failure;
    known.due.add(name);
    at(place).className = "result bad";
    put(at(place), failure.words);
  }
}

async function look() {
  const view = filters.view();
  const isFirst = known.view?.query !== view.query;
  if (isFirst) begin(view);
  const answers = await Promise.allSettled([
    read(`/me/activity/totals?${view.query}`),
    ...Array.from(known.due).filter((name) => name !== "latency").map((name) => part(name, view)),
  ]);
  for (const { status, reason } of answers) if (status === "rejected") throw reason;
  const totals = answers[0].value;
  filters.turn(dayOf(totals.as_of));
  if (filters.view().query !== view.query) return totals.as_of;
  showBefore(view, totals);
  const upTo = JSON.stringify(totals.totals);
  // What was asked beside the first totals may be older than they are: it is asked once more.
  if (!isFirst && known.activity && known.upTo !== upTo) {
    known.upTo = upTo;
    const moving = ["numbers", "arrived"];
    if (performance.now() - known.latencyAt > LATENCY_EVERY_MS) moving.push("latency");
    await Promise.all(moving.filter((name) => !known.due.has(name)).map((name) => part(name, view)));
  }
  // It reads every request of the range: what is read sooner is shown first.
  if (known.due.has("latency")) await part("latency", view);
  page.removeAttribute("aria-busy");
  return totals.as_of;
}

function begin(view) {
  known.view = view;
  known.upTo = null;
  known.due = new Set(["numbers", "latency", "requests"]);
  known.latency = null;
  page.setAttribute("aria-busy", "true");
  chart.choose(filters.measure);
  at("events-csv").href = `/me/activity/events.csv?${view.query}`;
  at("days-csv").href = `/me/activity.csv?${view.query}`;
}

const metric = (name) => page.querySelector(`[data-metric="${name}"]`);
const days = (number) => (number === 1 ? "day" : `${count(number)} days`);

function showNumbers(view, activity) {
  known.activity = activity;
  const { totals } = activity;
  for (const name of COUNTS) putCount(metric(name), totals[name]);
  putMoney(metric("cost_inr"), totals.cost_inr);
  const byok = made("span", "", count(totals.byok_requests));
  byok.dataset.metric = "byok_requests";
  byok.dataset.value = totals.byok_requests;
  putAll(note("requests"), [byok, " by your own provider keys, free"]);
  put(note("errors"), `${share(totals.errors, totals.requests)} of requests`);
  put(note("cost_inr"), totals.requests ? `${brief(amount(nano(totals.cost_inr) / BigInt(totals.requests)))} a request` : "");
  put(note("tokens"), totals.requests ? `${count(Math.round(totals.tokens / totals.requests))} a request` : "");
  filters.fill(activity);
  const drawn = chart.show(activity.days, view.from, view.to);
  showTop("top-models", activity.top_models, (row) => [row.model, { model: row.model }]);
  showTop("top-keys", activity.top_keys, (row) => [row.key_name ?? row.key_id, { key_id: row.key_id }]);
  showProviders(activity.model_providers);
  showSpeed();
  showNothing(view, activity);
  return drawn;
}

const note = (name) => page.querySelector(`[data-note="${name}"]`);

/** Say what the same number of days before came to, and by how much this is more or less. */
function showBefore(view, { totals, previous }) {
  for (const name of [...COUNTS, "cost_inr"]) {
    const place = page.querySelector(`[data-before="${name}"]`);
    const isMoney = name === "cost_inr";
    const earlier = previous && previous.totals.requests > 0 ? previous.totals[name] : null;
    const words = earlier === null ? "nothing" : isMoney ? brief(earlier) : count(earlier);
    put(place, previous ? `${words} in the ${days(view.days)} before` : "");
    place.title = isMoney && earlier !== null ? shown(earlier) : "";
    const [now, before] = [totals, previous?.totals].map((each) => each && (isMoney ? nano(each[name]) : BigInt(each[name])));
    put(page.querySelector(`[data-delta="${name}"]`), previous && name !== "errors" ? delta(now, before) : "");
  }
}

/** Show rows with a bar for the part that each has of the cost, or of the tokens where nothing cost anything. */
function showTop(id, rows, named) {
  const isFree = rows.every((row) => nano(row.cost_inr) === 0n);
  const size = (row) => (isFree ? BigInt(row.tokens) : nano(row.cost_inr));
  const largest = rows.reduce((most, row) => (size(row) > most ? size(row) : most), 0n);
  const lines = rows.map((row) => {
    const [name, filter] = named(row);
    const part = largest ? Number((size(row) * 1000n) / largest) / 1000 : 0;
    return line(
      [linkTo(filters.address(filter), name), bar(part)],
      money(row.cost_inr), [count(row.requests)], [count(row.tokens)],
    );
  });
  putAll(at(id), lines);
}

function showProviders(rows) {
  const ofModel = new Map();
  for (const row of rows) ofModel.set(row.model, [...(ofModel.get(row.model) || []), row]);
  const cost = (served) => served.reduce((sum, row) => sum + nano(row.cost_inr), 0n);
  const requests = (served) => served.reduce((sum, row) => sum + row.requests, 0);
  const models = Array.from(ofModel.values());
  models.sort((one, other) => (cost(one) < cost(other) ? 1 : cost(one) > cost(other) ? -1 : requests(other) - requests(one)));
  const lines = models.flatMap((served) => {
    const all = requests(served);
    served.sort((one, other) => other.requests - one.requests);
    return served.map((row, index) => {
      const model = made("span", index ? "unseen" : "name", row.model);
      const provider = row.provider === null
        ? made("span", "small", "none: failed before one was asked")
        : linkTo(filters.address({ model: row.model, provider: row.provider }), row.provider);
      const shown = line(
        [model, made("span", "served", provider, bar(row.requests / all))],
        money(row.cost_inr), [count(row.requests)], [share(row.requests, all)],
      );
      shown.className = index ? "" : "first";
      return shown;
    });
  });
  putAll(at("providers"), lines);
}

function showLatency(view, answer) {
  known.latency = new Map(answer.models.map((each) => [each.model, each]));
  known.latencyAt = performance.now();
  showSpeed();
}

/** Show how each model's requests went, most requests first; latency is another answer, and comes when it comes. */
function showSpeed() {
  if (!known.activity) return;
  const models = new Map();
  for (const row of known.activity.model_providers) {
    const sums = models.get(row.model) || { requests: 0, errors: 0 };
    models.set(row.model, { requests: sums.requests + row.requests, errors: sums.errors + row.errors });
  }
  const rows = Array.from(models).sort(([, one], [, other]) => other.requests - one.requests);
  const lines = rows.map(([name, { requests, errors }]) => {
    const times = known.latency?.get(name);
    const took = (time) => [times ? `${count(times[time])} ms` : "–"];
    return line([made("span", "name", name)], took("p50_ms"), took("p95_ms"), [count(errors)], [share(errors, requests)]);
  });
  putAll(at("speed"), lines);
}

/** Where there is nothing to see, say which nothing it is, and what to do next. */
function showNothing(view, activity) {
  at("nothing").hidden = activity.totals.requests > 0;
  if (activity.totals.requests > 0) return;
  const range = view.days === 1 ? `On ${longDay(view.from)}` : `From ${day(view.from)} to ${longDay(view.to)}`;
  if (filters.narrows) {
    put(at("nothing-title"), "No request matches these filters");
    putAll(at("nothing-words"), [
      `${range} there were ${activity.models.length ? "others. " : "no requests at all. "}`,
      linkTo(filters.address({ model: "", key_id: "", provider: "" }), "Clear the filters"),
    ]);
  } else {
    put(at("nothing-title"), "No requests in these days");
    putAll(at("nothing-words"), [
      `${range} none arrived. Choose other days, or `,
      linkTo("/keys", "make a key"),
      " and send the first request with it: it shows here a moment later.",
    ]);
  }
}

function money(text) {
  const span = made("span", "", brief(text));
  span.title = shown(text);
  return [span];
}

/** Return a row of a table: what it is about, then numbers. */
function line(first, ...numbers) {
  const head = made("th", "", ...first);
  head.scope = "row";
  return made("tr", "", head, ...numbers.map((content) => made("td", "number", ...content)));
}

if (page) {
  moved = follow(look, EVERY_MS);
} else {
  // The address says nothing that can be shown: the menus are those of the last 30 days.
  filters.fill(await read("/me/activity"));
}
