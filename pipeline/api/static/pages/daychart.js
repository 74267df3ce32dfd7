// The chart of days and models: stacked bars, a legend with sums, and a table of the same numbers.

import { amount, brief, nano, shown } from "./money.js";
import { compact, count, day, daysBetween, longDay, made, plusDays, put } from "./show.js";

const COLOURS = 7;
const WEEKLY_FROM_DAYS = 92;
const OTHERS = "other models";
const DARK = matchMedia("(prefers-color-scheme: dark)");

// Money is summed in nano-rupees; what is drawn is a height on the screen, no amount.
const MEASURES = {
  cost: { name: "Cost", of: (row) => nano(row.cost_inr), brief: (sum) => brief(amount(sum)), exact: (sum) => shown(amount(sum)), height: (sum) => Number(sum) / 1e9, axis: (value) => `₹${compact(value)}` },
  tokens: { name: "Tokens", of: (row) => BigInt(row.tokens), brief: count, exact: count, height: Number, axis: compact },
  requests: { name: "Requests", of: (row) => BigInt(row.requests), brief: count, exact: count, height: Number, axis: compact },
};

/** One chart, in its section of the page. */
export class DayChart {
  /** Take over a section; `switched` is told when another measure is chosen. */
  constructor(section, switched = () => {}) {
    this.section = section;
    this.measure = section.dataset.show in MEASURES ? section.dataset.show : "cost";
    this.slots = new Map();
    this.chart = null;
    this.drawn = "";
    for (const button of section.querySelectorAll("[data-measure]")) {
      button.addEventListener("click", () => {
        this.choose(button.dataset.measure);
        switched(this.measure);
      });
    }
    DARK.addEventListener("change", () => this.draw());
  }

  /** Show another measure, or the first where the name is of none. */
  choose(measure) {
    this.measure = measure in MEASURES ? measure : "cost";
    for (const each of this.section.querySelectorAll("[data-measure]")) {
      each.setAttribute("aria-pressed", String(each.dataset.measure === this.measure));
    }
    this.draw();
  }

  /**
   * Show the rows of a range, { day, model, requests, tokens, cost_inr } each. The first time it waits until the numbers
   * beside it are painted: the library that draws, and its first drawing, take longest.
   */
  async show(rows, from, to) {
    const given = JSON.stringify([rows, from, to]);
    if (given === this.given) return;
    Object.assign(this, { given, rows, from, to });
    if (!this.chart) {
      await painted();
      // Without the library the numbers are there all the same, and it is asked for again with the next.
      await import("./chart.umd.min.js").catch(() => {});
    }
    this.draw();
    if (window.Chart) this.section.querySelector(".canvas p")?.remove();
  }

  draw() {
    if (!this.rows) return;
    const measure = MEASURES[this.measure];
    const { bins, weekly } = binsOf(this.from, this.to);
    const models = this.summed(bins, measure);
    this.section.querySelector("[data-empty]").hidden = this.rows.length > 0;
    this.section.querySelector(".canvas").hidden = this.rows.length === 0;
    const label = (bin) => (weekly ? `week of ${day(bin)}` : day(bin));
    this.legend(models, measure);
    this.table(models, bins, weekly ? "Week" : "Day", label, measure);
    this.bars(models, bins, weekly, measure);
  }

  /** Return the models to draw, largest first and the rest as one: { name, colour, sums: one a bin, total }. */
  summed(bins, measure) {
    const place = new Map(bins.flatMap(({ days }, index) => days.map((each) => [each, index])));
    const found = new Map();
    for (const row of this.rows) {
      const sums = found.get(row.model) || found.set(row.model, bins.map(() => 0n)).get(row.model);
      sums[place.get(row.day)] += measure.of(row);
    }
    const total = (sums) => sums.reduce((one, other) => one + other, 0n);
    const models = Array.from(found, ([name, sums]) => ({ name, sums, total: total(sums) }));
    models.sort((one, other) => (one.total < other.total ? 1 : one.total > other.total ? -1 : one.name < other.name ? -1 : 1));
    for (const { name } of models) if (!this.slots.has(name)) this.slots.set(name, this.slots.size);
    const few = models.length <= COLOURS;
    const kept = few ? models : models.slice(0, COLOURS - 1);
    const rest = few ? [] : models.slice(COLOURS - 1);
    // A model keeps its colour when another measure puts it elsewhere, where two do not meet by it.
    const taken = new Set();
    for (const model of kept) {
      let slot = this.slots.get(model.name) % COLOURS;
      while (taken.has(slot)) slot = (slot + 1) % COLOURS;
      taken.add(slot);
      model.slot = slot + 1;
    }
    if (rest.length) {
      const sums = bins.map((_, index) => total(rest.map((model) => model.sums[index])));
      kept.push({ name: `${rest.length} ${OTHERS}`, sums, total: total(sums), slot: 0 });
    }
    return kept;
  }

  legend(models, measure) {
    const rows = models.map(({ name, total, slot }) => {
      const value = made("span", "number", measure.brief(total));
      value.title = measure.exact(total);
      return made("li", "", made("span", `swatch c${slot}`), made("span", "name", name), value);
    });
    this.section.querySelector(".legend").replaceChildren(...rows);
  }

  table(models, bins, unit, label, measure) {
    const head = made("tr", "", made("th", "", unit), ...models.map(({ name }) => made("th", "number", name)), made("th", "number", "All"));
    const rows = bins.map((bin, index) => {
      const all = models.reduce((sum, model) => sum + model.sums[index], 0n);
      const first = made("th", "", label(bin.first));
      first.scope = "row";
      const cells = [...models.map((model) => model.sums[index]), all].map((sum) => made("td", "number", measure.exact(sum)));
      return made("tr", "", first, ...cells);
    });
    for (const cell of head.children) cell.scope = "col";
    const table = this.section.querySelector("table");
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...rows.reverse());
  }

  bars(models, bins, weekly, measure) {
    const style = getComputedStyle(document.documentElement);
    const token = (name) => style.getPropertyValue(name).trim();
    const total = measure.brief(models.reduce((sum, model) => sum + model.total, 0n));
    const canvas = this.section.querySelector("canvas");
    canvas.setAttribute("aria-label", `${measure.name} by ${weekly ? "week" : "day"} and model, ${longDay(this.from)} to ${longDay(this.to)}, ${total} in all. The numbers are in the table below.`);
    const data = {
      labels: bins.map(({ first }) => day(first)),
      datasets: models.map((model) => ({
        label: model.name,
        data: model.sums.map(measure.height),
        backgroundColor: token(`--c${model.slot}`),
        borderColor: token("--card"),
        borderWidth: { top: 1 },
        maxBarThickness: 44,
        categoryPercentage: 0.86,
        barPercentage: 1,
      })),
    };
    const texts = { color: token("--soft"), font: { family: getComputedStyle(document.body).fontFamily, size: 12 } };
    const options = {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked: true, grid: { display: false }, border: { color: token("--line") }, ticks: { ...texts, maxRotation: 0, autoSkipPadding: 18 } },
        y: { stacked: true, beginAtZero: true, grid: { color: token("--line") }, border: { display: false }, ticks: { ...texts, maxTicksLimit: 6, callback: measure.axis } },
      },
      plugins: {
        legend: { display: false },
        tooltip: {
          backgroundColor: token("--ink"), titleColor: token("--card"), bodyColor: token("--card"), footerColor: token("--card"),
          padding: 10, boxPadding: 4, cornerRadius: 8, itemSort: (one, other) => other.raw - one.raw,
          filter: (item) => item.raw !== 0,
          callbacks: {
            title: ([item]) => item && (weekly ? `Week of ${longDay(bins[item.dataIndex].first)}` : longDay(bins[item.dataIndex].first)),
            label: (item) => ` ${item.dataset.label}  ${measure.brief(models[item.datasetIndex].sums[item.dataIndex])}`,
            footer: (items) => items.length > 1 ? `All  ${measure.brief(models.reduce((sum, model) => sum + model.sums[items[0].dataIndex], 0n))}` : "",
          },
        },
      },
    };
    if (this.chart) {
      Object.assign(this.chart, { data, options });
      this.chart.update("none");
    } else if (models.length && window.Chart) {
      this.chart = new window.Chart(canvas, { type: "bar", data, options });
    }
    put(this.section.querySelector("summary"), `The numbers of this chart, by ${weekly ? "week" : "day"}`);
  }
}

/** Wait until what was just shown is on the screen. */
function painted() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}

/** Return the days of a range in bins: one a day, or one a week from Monday where the range is long. */
function binsOf(from, to) {
  const weekly = daysBetween(from, to) + 1 > WEEKLY_FROM_DAYS;
  const bins = [];
  for (let each = from; each <= to; each = plusDays(each, 1)) {
    const isMonday = new Date(`${each}T00:00:00Z`).getUTCDay() === 1;
    if (!weekly || isMonday || bins.length === 0) bins.push({ first: each, days: [] });
    bins.at(-1).days.push(each);
  }
  return { bins, weekly };
}
