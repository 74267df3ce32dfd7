// What people read: counts, days and times in IST, and numbers that carry their exact value with them.

import { brief, shown } from "./money.js";

const ZONE = { timeZone: "Asia/Kolkata" };
const COUNT = new Intl.NumberFormat("en-IN");
const SHARE = new Intl.NumberFormat("en-IN", { style: "percent", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-IN", { ...ZONE, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const WHEN = new Intl.DateTimeFormat("en-IN", {
  ...ZONE, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const DAY = new Intl.DateTimeFormat("en-IN", { timeZone: "UTC", day: "numeric", month: "short" });
const DAY_AND_YEAR = new Intl.DateTimeFormat("en-IN", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
const LONG_DAY = new Intl.DateTimeFormat("en-IN", { timeZone: "UTC", weekday: "short", day: "numeric", month: "short", year: "numeric" });
const LONG_WHEN = new Intl.DateTimeFormat("en-IN", {
  ...ZONE, day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const DATE = new Intl.DateTimeFormat("en-CA", ZONE);
const AGO = new Intl.RelativeTimeFormat("en-IN", { numeric: "auto" });
const DAY_MS = 86_400_000;

/** Write a whole number in Indian grouping: 1,23,456. */
export const count = (number) => COUNT.format(number);

/** Write a part of a whole in percent. */
export const share = (part, whole) => (whole ? SHARE.format(part / whole) : "0%");

/** Write an instant as its IST time of day, to the second. */
export const clock = (instant) => CLOCK.format(new Date(instant));

/** Write an instant as IST day and time. */
export const when = (instant) => WHEN.format(new Date(instant));

/** Write an instant as IST day, year included, and time. */
export const longWhen = (instant) => `${LONG_WHEN.format(new Date(instant))} IST`;

/** Write how long before another an instant was, in the largest whole unit. */
export function ago(instant, now) {
  const seconds = Math.max(0, Math.round((Date.parse(now) - Date.parse(instant)) / 1000));
  for (const [size, unit] of [[86_400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= size) return AGO.format(-Math.floor(seconds / size), unit);
  }
  return "less than a minute ago";
}

/** Write a day YYYY-MM-DD short. */
export const day = (date) => DAY.format(new Date(`${date}T00:00:00Z`));

/** Write a day YYYY-MM-DD with its weekday and year. */
export const longDay = (date) => LONG_DAY.format(new Date(`${date}T00:00:00Z`));

/** Write the days from one to another, or one day, short; with the year where it is not that of `today`. */
export function dayRange(first, last, today) {
  const format = [first, last].every((each) => each.slice(0, 4) === today.slice(0, 4)) ? DAY : DAY_AND_YEAR;
  return format.formatRange(new Date(`${first}T00:00:00Z`), new Date(`${last}T00:00:00Z`));
}

/** Return the IST day of an instant, as YYYY-MM-DD. */
export const dayOf = (instant) => DATE.format(new Date(instant));

/** Return the day so many days after one. */
export function plusDays(date, days) {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);
}

/** Return the first day of the month after a day: budgets turn on it. */
export function nextMonth(date) {
  const [year, month] = date.split("-").map(Number);
  return new Date(Date.UTC(year, month, 1)).toISOString().slice(0, 10);
}

/** Return how many days there are from one day to another. */
export function daysBetween(first, last) {
  return (Date.parse(`${last}T00:00:00Z`) - Date.parse(`${first}T00:00:00Z`)) / DAY_MS;
}

/** Write a large number short, for an axis: lakh and crore as people in India count. */
export function compact(number) {
  for (const [size, name] of [[1e7, " Cr"], [1e5, " L"], [1e3, "k"]]) {
    if (number >= size) return `${Number((number / size).toFixed(2))}${name}`;
  }
  return String(Number(number.toPrecision(3)));
}

/** Put text into an element, only where it is another one: what does not change must not flicker. */
export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Show a count with its exact value beside it. */
export function putCount(element, number) {
  put(element, count(number));
  element.dataset.value = String(number);
}

/** Show an amount short, with all its digits on hover and in `data-value`. */
export function putMoney(element, text) {
  put(element, brief(text));
  element.title = shown(text);
  element.dataset.value = text;
}

/** Say by how much a number, a BigInt, is more or less than the one before; nothing where that was none. */
export function delta(now, before) {
  if (before === 0n) return "";
  const percent = Number(((now - before) * 100n) / before);
  return `${percent < 0 ? "▼" : "▲"} ${count(Math.abs(percent))} %`;
}

/** Return a new link. */
export function linkTo(address, ...content) {
  const link = made("a", "", ...content);
  link.href = address;
  return link;
}

/** Return a new element with a class and content. */
export function made(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

/** Return a bar that is filled so far, from 0 to 1; a picture of numbers that stand beside it. */
export function bar(part, className = "") {
  const SVG = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(SVG, "svg");
  drawn.setAttribute("class", `bar ${className}`.trim());
  drawn.setAttribute("viewBox", "0 0 100 6");
  drawn.setAttribute("preserveAspectRatio", "none");
  drawn.setAttribute("aria-hidden", "true");
  const filled = document.createElementNS(SVG, "rect");
  filled.setAttribute("height", "6");
  filled.setAttribute("width", String(Math.max(0, Math.min(100, part * 100))));
  drawn.append(filled);
  return drawn;
}

/** Put elements in the place of those there, only where they are not the same already. */
export function putAll(parent, elements) {
  const fresh = made("div", "", ...elements);
  if (parent.innerHTML !== fresh.innerHTML) parent.replaceChildren(...fresh.childNodes);
}
