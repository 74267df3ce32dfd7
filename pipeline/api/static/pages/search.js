// The search: Ctrl-K or Cmd-K opens it, over pages, models, keys, and requests by id.

import { read } from "./api.js";
import { brief } from "./money.js";
import { made, put, when } from "./show.js";

const IS_APPLE = /Mac|iPhone|iPad/.test(navigator.platform);
const LATER_MS = 250;
const EACH_MAX = 6;
// Shorter words are no id of a request.
const ID = /^(?:\d{1,16}|[\w:.\-/]{8,200})$/;

const pages = Array.from(document.querySelectorAll(".top nav a"), (link) => ({ name: link.textContent.trim(), words: "", address: link.getAttribute("href") }));
const known = { Pages: pages, Models: [], Keys: [], Requests: [] };
let askedFor = "";
let timer = 0;
let options = [];
let chosen = -1;

const input = made("input");
const list = made("div", "results");
const said = made("p", "small");
const dialog = made("dialog", "search");

function build() {
  Object.assign(input, { type: "text", placeholder: "A page, a model, a key, or the id of a request", autocomplete: "off", spellcheck: false, maxLength: 200 });
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-label": "Search", "aria-expanded": "true", "aria-controls": "search-results", "aria-autocomplete": "list",
  })) input.setAttribute(name, value);
  list.id = "search-results";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "What was found");
  said.setAttribute("role", "status");
  dialog.setAttribute("aria-label", "Search");
  const close = made("button", "quiet", "Close");
  close.type = "button";
  close.addEventListener("click", () => dialog.close());
  dialog.append(made("div", "joined", input, close), list, said);
  document.body.append(dialog);

  const opener = made("button", "quiet opener", "Search ", made("kbd", "", IS_APPLE ? "⌘K" : "Ctrl K"));
  opener.type = "button";
  opener.setAttribute("aria-keyshortcuts", IS_APPLE ? "Meta+K" : "Control+K");
  opener.addEventListener("click", open);
  document.querySelector(".who").before(opener);

  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || event.altKey || event.shiftKey || !(event.ctrlKey !== event.metaKey)) return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else open();
  });
  // Its own box is filled by what is in it, so a press on the dialog itself is one beside it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  input.addEventListener("input", changed);
  input.addEventListener("keydown", moved);
}

function open() {
  input.value = "";
  dialog.showModal();
  changed();
  fetchLists();
}

/** Ask for models and keys, each by itself: where one is away the other is searched all the same. */
async function fetchLists() {
  await Promise.all([
    fill("Models", "/v1/models", ({ models }) => models.map(({ model, providers }) => ({
      name: model, words: providers.map((each) => each.provider).join(" "), address: `/activity?model=${encodeURIComponent(model)}`,
    }))),
    fill("Keys", "/me/keys", ({ keys }) => keys.map((key) => ({
      name: key.name, words: `${key.key_id} ${key.prefix}${key.revoked ? " revoked" : ""}`, address: `/activity?key_id=${encodeURIComponent(key.key_id)}`,
    }))),
  ]);
}

async function fill(kind, path, listed) {
  try {
    known[kind] = listed(await read(path));
    show();
  } catch (failure) {
    if (failure.words === undefined) throw failure;
    put(said, failure.code === "no_session" ? failure.words : `${kind} are not searched: ${failure.words}`);
  }
}

function changed() {
  clearTimeout(timer);
  put(said, "");
  const id = input.value.trim();
  if (id !== askedFor) known.Requests = [];
  if (ID.test(id) && id !== askedFor) timer = setTimeout(findRequest, LATER_MS, id);
  chosen = 0;
  show();
}

async function findRequest(id) {
  askedFor = id;
  try {
    const { events } = await read(`/me/search?q=${encodeURIComponent(id)}`);
    if (id !== input.value.trim()) return;
    known.Requests = events.map((event) => ({
      name: `Request ${event.id}`, words: `${when(event.at)} IST · ${event.model} · ${event.status} · ${brief(event.cost_inr)}`, address: `/activity/${event.id}`, isFound: true,
    }));
    show();
  } catch (failure) {
    if (failure.words === undefined) throw failure;
    askedFor = "";
    put(said, failure.words);
  }
}

function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = ({ name, words: more, isFound }) => isFound || words.every((word) => `${name} ${more}`.toLowerCase().includes(word));
  options = [];
  const groups = Object.entries(known).map(([kind, entries]) => {
    const found = (words.length || kind === "Pages" ? entries.filter(fits) : []).slice(0, EACH_MAX);
    if (found.length === 0) return null;
    const group = made("div", "", made("p", "kind", kind), ...found.map(option));
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", kind);
    return group;
  });
  list.replaceChildren(...groups.filter(Boolean));
  if (options.length === 0) put(said, "Nothing has this name or id.");
  else if (said.textContent.startsWith("Nothing")) put(said, "");
  choose(Math.min(Math.max(chosen, 0), options.length - 1));
}

function option(entry) {
  const place = options.length;
  const line = made("div", "option", made("span", "name", entry.name), made("span", "small", entry.words));
  line.id = `search-option-${place}`;
  line.setAttribute("role", "option");
  line.addEventListener("click", () => location.assign(entry.address));
  line.addEventListener("mousemove", () => choose(place));
  options.push({ ...entry, line });
  return line;
}

function choose(place) {
  chosen = place;
  options.forEach(({ line }, index) => line.setAttribute("aria-selected", String(index === place)));
  if (place < 0) {
    input.removeAttribute("aria-activedescendant");
    return;
  }
  input.setAttribute("aria-activedescendant", options[place].line.id);
  options[place].line.scrollIntoView({ block: "nearest" });
}

function moved(event) {
  const last = options.length - 1;
  const to = { ArrowDown: chosen < last ? chosen + 1 : 0, ArrowUp: chosen > 0 ? chosen - 1 : last }[event.key];
  if (to !== undefined && last >= 0) {
    event.preventDefault();
    choose(to);
  } else if (event.key === "Enter" && options[chosen]) {
    event.preventDefault();
    location.assign(options[chosen].address);
  }
}

build();
