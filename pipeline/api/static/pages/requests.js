// The requests of a view, newest first: more of them on demand, and those that have arrived since, announced.

import { read } from "./api.js";
import { at, doing, say } from "./form.js";
import { brief, shown } from "./money.js";
import { count, longWhen, linkTo, made, put, when } from "./show.js";

const PAGE = 50;
const PAGE_MAX = 200;
// What Back brings back at most; beyond it «more» goes on.
const RESTORED_MAX = 1000;
const FAILED_FROM = 400;

/** The list. Ids only rise, so what is newer than its first row has arrived since, and what is older than its last is still to come. */
export class RequestList {
  constructor() {
    this.view = null;
    this.rows = 0;
    doing(at("older"), "click", "requests-result", () => this.more());
    at("arrived").addEventListener("click", () => this.take());
    at("rows").addEventListener("click", (event) => {
      // Whoever comes back from a request finds the list as long, and where it was.
      if (event.target.closest("a")) history.replaceState({ rows: this.rows, top: scrollY }, "");
    });
  }

  /** Show the newest requests of a view in place of those there. */
  async start(view) {
    this.view = null;
    const wanted = Math.min(history.state?.rows || PAGE, RESTORED_MAX);
    const events = [];
    let page = null;
    do {
      page = await this.page(view, Math.min(wanted - events.length, PAGE_MAX), page?.next_before);
      events.push(...page.events);
    } while (events.length < wanted && page.next_before !== null);
    this.replace(view, events, page.next_before);
    if (history.state?.top) scrollTo(0, history.state.top);
  }

  /** Look for requests that are newer than those shown, and announce them. */
  async look() {
    const view = this.view;
    if (view === null) return;
    const page = await this.page(view, PAGE_MAX);
    if (this.view !== view) return;
    const fresh = page.events.filter(({ id }) => id > this.newest);
    // Where not even the oldest of them is known, others lie between: then the list starts anew.
    this.fresh = { events: fresh, isAll: fresh.length < page.events.length || page.next_before === null, next: page.next_before };
    if (this.rows === 0 && fresh.length) return this.take();
    this.announce();
  }

  announce() {
    const { events, isAll } = this.fresh;
    const words = `${isAll ? "" : "More than "}${count(events.length)} new ${events.length === 1 ? "request" : "requests"} – show`;
    put(at("arrived"), events.length ? words : "");
    at("arrived").hidden = events.length === 0;
  }

  /** Put the requests that have arrived before the others. */
  take() {
    const { events, isAll, next } = this.fresh;
    if (!isAll) {
      this.replace(this.view, events, next);
    } else {
      at("rows").prepend(...events.map(row));
      this.newest = events[0].id;
      this.grew(events.length);
      this.settle();
    }
    at("rows").querySelector("a")?.focus();
  }

  async more() {
    const { view, next } = this;
    const page = await this.page(view, PAGE, next);
    // Meanwhile the list may have started anew.
    if (this.view !== view || this.next !== next) return;
    const rows = page.events.map(row);
    at("rows").append(...rows);
    this.next = page.next_before;
    this.grew(rows.length);
    say("requests-result", `${count(rows.length)} more, ${count(this.rows)} in all${this.next === null ? ", and that is every one" : ""}.`);
    // The button may be gone: whoever pressed it goes on reading where the new rows begin.
    rows[0]?.querySelector("a").focus();
  }

  replace(view, events, next) {
    at("rows").replaceChildren(...events.map(row));
    Object.assign(this, { view, next, rows: 0, newest: events[0]?.id ?? -1 });
    this.grew(events.length);
    this.settle();
    say("requests-result", "");
  }

  grew(rows) {
    this.rows += rows;
    at("older").hidden = this.next === null;
    put(at("requests-none"), this.rows ? "" : "No request is in this view.");
  }

  settle() {
    this.fresh = { events: [], isAll: true, next: null };
    this.announce();
  }

  page(view, limit, before = null) {
    return read(`/me/activity/events?${view.query}&limit=${limit}${before === null ? "" : `&before=${before}`}`);
  }
}

function row(event) {
  const time = made("time", "", when(event.at));
  time.dateTime = event.at;
  time.title = longWhen(event.at);
  const link = linkTo(`/activity/${event.id}`, time);
  const cost = cell("number amount", brief(event.cost_inr));
  cost.title = shown(event.cost_inr);
  const line = made(
    "tr", "",
    cell("when", link),
    cell("model name", event.model),
    cell("provider name", event.provider ?? "none"),
    cell("key name", event.key_name ?? event.key_id),
    cell("", status(event.status)),
    cell("number latency", `${count(event.latency_ms)} ms`),
    cell("number tokens", count(event.tokens)),
    cost,
  );
  line.setAttribute("role", "row");
  line.dataset.eventId = event.id;
  return line;
}

/** Return a request's HTTP status as a mark that shows whether it failed. */
export function status(code) {
  return made("span", code >= FAILED_FROM ? "mark failed" : "mark", String(code));
}

function cell(name, ...content) {
  const data = made("td", name, ...content);
  data.setAttribute("role", "cell");
  return data;
}
