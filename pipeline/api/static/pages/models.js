// The price list: what is typed filters it, a column sorts it, and the address bar keeps both.

import { at } from "./form.js";
import { count, put } from "./show.js";

const form = at("find");
if (form) start(document.querySelector("table.prices"));

function start(table) {
  const { q, sort } = form.elements;
  const heads = Array.from(table.tHead.querySelectorAll("[data-sort]"));
  const groups = Array.from(table.tBodies);

  function show() {
    const words = q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = groups.filter((group) => {
      const text = `${group.dataset.model} ${group.dataset.provider}`.toLowerCase();
      group.hidden = !words.every((word) => text.includes(word));
      return !group.hidden;
    });
    const ordered = groups.toSorted(before(sort.value));
    table.append(...ordered);
    const shown = ordered.filter((group) => !group.hidden);
    shown.forEach((group, index) => group.classList.toggle("again", group.dataset.model === shown[index - 1]?.dataset.model));
    for (const head of heads) {
      if (head.dataset.sort === sort.value) head.setAttribute("aria-sort", "ascending");
      else head.removeAttribute("aria-sort");
    }
    const models = new Set(found.map((group) => group.dataset.model)).size;
    const providers = new Set(found.map((group) => group.dataset.provider)).size;
    put(at("found"), `${numbered(models, "model")} at ${numbered(providers, "provider")}`);
    at("none").hidden = found.length > 0;
    table.hidden = found.length === 0;
  }

  function changed() {
    const chosen = new URLSearchParams();
    if (q.value.trim()) chosen.set("q", q.value.trim());
    if (sort.value !== "model") chosen.set("sort", sort.value);
    history.replaceState(null, "", chosen.size ? `?${chosen}` : location.pathname);
    show();
  }

  function take() {
    const asked = new URLSearchParams(location.search);
    q.value = asked.get("q") || "";
    sort.value = asked.get("sort");
    if (!sort.value) sort.value = "model";
    show();
  }

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sort.value = head.dataset.sort;
      changed();
    });
    head.append(button);
  }
  q.addEventListener("input", changed);
  sort.addEventListener("change", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  take();
}

/** Return how two groups of rows are ordered: by a name or a price, then by model and provider. */
function before(name) {
  const compared = (one, other, key) => one.dataset[key].localeCompare(other.dataset[key], "en");
  return (one, other) => {
    // Prices are compared to order rows, nothing is computed with them.
    const first = name === "model" || name === "provider" ? compared(one, other, name) : one.dataset[name] - other.dataset[name];
    return first || compared(one, other, "model") || one.dataset.input - other.dataset.input || compared(one, other, "provider");
  };
}

function numbered(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}
