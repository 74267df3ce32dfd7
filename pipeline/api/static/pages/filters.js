// The filters of a view: in the address, in the form, and in the links that keep them.

import { at } from "./form.js";
import { daysBetween, linkTo, made, plusDays, putAll } from "./show.js";

const NAMES = ["from", "to", "model", "key_id", "provider"];
const TABS = ["/overview", "/activity"];
const DAYS_MAX = 366;
const DAYS_DEFAULT = 30;

/** Return those parameters of an address that are filters and say something, with what the chart shows. */
export function keptIn(search, names = [...NAMES, "show"]) {
  const given = new URLSearchParams(search);
  return new URLSearchParams(names.flatMap((name) => (given.get(name) ? [[name, given.get(name)]] : [])));
}

/** Have the links to the other tabs, and those back to the list, keep the filters. */
export function keepInTabs(kept) {
  for (const link of document.querySelectorAll("header nav a, [data-keeps-filters]")) {
    if (TABS.includes(link.pathname)) link.search = kept;
  }
}

/** The form of the filters; `moved` is called when another view is wanted. */
export class FilterForm {
  constructor(form, moved) {
    this.form = form;
    this.moved = moved;
    this.today = form.dataset.today;
    this.isShown = at("activity") !== null;
    this.measure = keptIn(location.search, ["show"]).get("show");
    this.show();
    form.addEventListener("submit", (event) => {
      // What is wrong with a range is for the server to say, on a page with that address.
      if (!this.isGood()) return;
      event.preventDefault();
      this.go(this.given());
    });
    form.addEventListener("change", (event) => {
      if (event.target.tagName === "SELECT" && this.isGood()) this.go(this.given());
    });
    window.addEventListener("popstate", () => {
      this.measure = keptIn(location.search, ["show"]).get("show");
      this.show();
      moved();
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("main a[href]");
      const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
      if (!this.isShown || !isPlain || !link || link.pathname !== "/activity") return;
      event.preventDefault();
      this.go(link.search);
      // Links in tables may be gone with the view that they were in: who used one goes on at the top.
      if (!at("presets").contains(link)) at("title").focus();
    });
  }

  /** Go to another view: the address has it, and Back leads to the one before. */
  go(filters) {
    const kept = keptIn(filters, NAMES);
    if (this.measure) kept.set("show", this.measure);
    if (String(kept) === String(keptIn(location.search))) return;
    history.pushState(null, "", `/activity${String(kept) && "?"}${kept}`);
    this.show();
    this.moved();
  }

  /** Keep in the address what the chart shows: no view of its own, so that Back leads past it. */
  keep(measure) {
    this.measure = measure;
    const kept = keptIn(location.search);
    kept.set("show", measure);
    history.replaceState(history.state, "", `/activity?${kept}`);
    this.show();
  }

  /** Return the view of the address: its days, and the query of the API for it. */
  view() {
    const filters = keptIn(location.search, NAMES);
    const to = filters.get("to") || this.today;
    const from = filters.get("from") || plusDays(to, 1 - DAYS_DEFAULT);
    const query = new URLSearchParams({ from, to });
    for (const name of ["model", "key_id", "provider"]) if (filters.get(name)) query.set(name, filters.get(name));
    return { from, to, days: daysBetween(from, to) + 1, filters: query, query: String(query) };
  }

  /** Whether any filter but the days leaves something out. */
  get narrows() {
    return ["model", "key_id", "provider"].some((name) => this.view().filters.get(name));
  }

  /** Return the address of a view that differs from this one by some filters; an empty one is left out. */
  address(changes) {
    const { filters } = this.view();
    for (const [name, value] of Object.entries(changes)) filters.set(name, value);
    return `/activity?${keptIn(String(filters))}`;
  }

  /** Take a day as today's: the ranges that are counted from today move with it. */
  turn(today) {
    if (today === this.today) return;
    this.today = today;
    this.show();
  }

  /** Fill the menus with what the range has; what is chosen stays in them although it has none. */
  fill({ models, keys, providers }) {
    this.menu("model", models.map((name) => [name, name]));
    this.menu("key_id", keys.map(({ key_id, key_name }) => [key_id, key_name || key_id]));
    this.menu("provider", providers.map((name) => [name, name]));
  }

  menu(name, choices) {
    const select = this.form.elements.namedItem(name);
    const chosen = select.value;
    if (chosen && !choices.some(([value]) => value === chosen)) choices.push([chosen, `${chosen} (not in these days)`]);
    const options = choices.map(([value, shown]) => {
      const option = made("option", "", shown);
      option.value = value;
      option.toggleAttribute("selected", value === chosen);
      return option;
    });
    putAll(select, [select.options[0].cloneNode(true), ...options]);
    select.value = chosen;
  }

  given() {
    return String(new URLSearchParams(new FormData(this.form)));
  }

  isGood() {
    const { from, to } = this.form.elements;
    if (from.type !== "date" || to.type !== "date" || !this.isShown) return false;
    if (!from.value || !to.value) return true;
    const days = daysBetween(from.value, to.value) + 1;
    return days >= 1 && days <= DAYS_MAX;
  }

  /** Have form and links be as the address is. */
  show() {
    this.presets();
    if (!this.isShown) return;
    keepInTabs(keptIn(location.search));
    const view = this.view();
    for (const name of ["from", "to"]) this.form.elements.namedItem(name).value = view[name];
    for (const name of ["model", "key_id", "provider"]) {
      const [select, value] = [this.form.elements.namedItem(name), view.filters.get(name) || ""];
      if (!Array.from(select.options).some((each) => each.value === value)) {
        select.append(Object.assign(made("option", "", value), { value }));
      }
      select.value = value;
    }
    at("clear").hidden = !this.narrows;
    at("clear").href = this.address({ model: "", key_id: "", provider: "" });
  }

  presets() {
    const { today } = this;
    const first = `${today.slice(0, 8)}01`;
    const lastMonth = plusDays(first, -1);
    const ranges = [
      ["Today", today, today],
      ["7 days", plusDays(today, -6), today],
      ["30 days", plusDays(today, -29), today],
      ["This month", first, today],
      ["Last month", `${lastMonth.slice(0, 8)}01`, lastMonth],
    ];
    const chosen = keptIn(location.search, ["model", "key_id", "provider"]);
    const view = this.isShown ? this.view() : null;
    const place = at("presets");
    // The links stay the same ones, so that the one just used keeps the focus.
    if (!place.children.length) place.append(...ranges.map(([name]) => linkTo("/activity", name)));
    ranges.forEach(([, from, to], index) => {
      const link = place.children[index];
      link.href = `/activity?${new URLSearchParams([["from", from], ["to", to], ...chosen])}`;
      if (view?.from === from && view.to === to) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }
}
