// One pixel through all days: asked for in parts, the days around the shown one first.
"use strict";
/* global uPlot */

const DAYS_AT_ONCE = 32;
const LINES = ["#0b62a8", "#c2410c", "#15803d", "#7c3aed"];
const STRIP_PX = 8;
const DAY_S = 86400;
const TICKS_DAYS = [1, 2, 5, 10, 20, 30, 61, 91, 182, 365, 730];

export class Chart {
  constructor(section, { ask, onDay, onClose, onGroup }) {
    Object.assign(this, { section, ask, onDay, onClose, onGroup, series: new Map(), asked: 0, plot: null });
    this.find = (id) => section.querySelector(`#${id}`);
    this.find("close").addEventListener("click", onClose);
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.find("plot"));
  }

  get open() { return !this.section.hidden; }

  close() {
    this.asked += 1;
    this.section.hidden = true;
  }

  // Read and draw; a later call takes the place of an earlier one.
  async show({ place, days, day, groups, group, classes }) {
    const turn = ++this.asked;
    Object.assign(this, { days, day, groups, classes });
    this.group = groups.some((each) => each.name === group) ? group : groups[0].name;
    this.section.hidden = false;
    this.drawGroups();
    this.series = new Map();
    const { variables } = this.groups.find((each) => each.name === this.group);
    const wanted = classes.length ? [...variables, "quality"] : variables;
    this.find("readout").textContent = "Reading…";
    this.draw();
    for (const [first, last] of parts(days, days.indexOf(day))) {
      const told = await this.ask(place, wanted, first, last);
      if (turn !== this.asked) return;
      if (told === null) { this.onClose(); return; }
      this.pixel = `row ${told.row}, column ${told.column}`;
      told.days.forEach((each, at) => this.series.set(each,
        Object.fromEntries(wanted.map((name) => [name, told.values[name][at]]))));
      this.draw();
      this.tell();
    }
  }

  mark(day) {
    this.day = day;
    if (!this.open) return;
    this.plot?.redraw();
    this.tell();
  }

  drawGroups() {
    this.find("groups").replaceChildren(...this.groups.map(({ name }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-pressed", name === this.group);
      button.addEventListener("click", () => this.onGroup(name));
      return button;
    }));
  }

  tell() {
    const values = this.series.get(this.day);
    const { variables } = this.groups.find((each) => each.name === this.group);
    const said = values === undefined ? ["nothing of this day"] : variables.map((name) =>
      `${label(name)} ${values[name] === null ? "–" : number(values[name])}`);
    const became = this.classes.find((each) => each.value === values?.quality)?.meaning;
    this.find("readout").textContent =
      [this.day, ...said, became, this.pixel].filter(Boolean).join(" · ");
  }

  size() {
    const box = this.find("plot").getBoundingClientRect();
    return { width: Math.max(200, Math.floor(box.width)), height: window.innerHeight < 760 ? 150 : 190 };
  }

  draw() {
    const { variables, unit } = this.groups.find((each) => each.name === this.group);
    const days = this.days.filter((day) => this.series.has(day));
    const times = days.map((day) => Date.parse(`${day}T00:00Z`) / 1000);
    const data = [times, ...variables.map((name) => days.map((day) => this.series.get(day)[name]))];
    const colours = new Map(this.classes.map((each) => [each.value, each.colour]));
    const marks = (plot) => {
      const draw = plot.ctx, { left, top, width, height } = plot.bbox, scale = uPlot.pxRatio;
      draw.save();
      const at = plot.valToPos(Date.parse(`${this.day}T00:00Z`) / 1000, "x", true);
      if (at >= left && at <= left + width) {
        draw.fillStyle = "#1c273355";
        draw.fillRect(at - scale, top, 2 * scale, height);
      }
      const side = Math.max(3 * scale, Math.min(10 * scale, width / Math.max(1, days.length)));
      days.forEach((day, index) => {
        draw.fillStyle = colours.get(this.series.get(day).quality) ?? "transparent";
        draw.fillRect(plot.valToPos(times[index], "x", true) - side / 2,
          top + height - STRIP_PX * scale, side, STRIP_PX * scale);
      });
      draw.restore();
    };
    this.plot?.destroy();
    const all = this.days.map((day) => Date.parse(`${day}T00:00Z`) / 1000);
    const edge = Math.max(2 * DAY_S, 0.02 * (all.at(-1) - all[0]));
    this.plot = new uPlot({
      ...this.size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { x: { range: [all[0] - edge, all.at(-1) + edge] },
        y: { range: (_plot, low, high) => uPlot.rangeNum(low ?? 0, high ?? 1, 0.1, true) } },
      axes: [{ grid: { stroke: "#e8edf1" }, values: dateTicks, space: 64,
        incrs: TICKS_DAYS.map((each) => each * DAY_S) },
        { grid: { stroke: "#e8edf1" }, size: 62, label: unit, labelSize: 20 }],
      series: [{ label: "day", value: (_plot, seconds) => seconds === null ? "–" : isoDay(seconds) },
        ...variables.map((name, at) => ({ label: label(name), stroke: LINES[at % LINES.length], width: 1.5,
          spanGaps: false, points: { show: true, size: 5, fill: LINES[at % LINES.length] },
          value: (_plot, value) => value === null ? "–" : number(value) }))],
      legend: { show: true, live: true },
      hooks: { draw: [marks] },
    }, data, this.find("plot"));
    this.find("plot").replaceChildren(this.plot.root);
    this.plot.over.addEventListener("click", () => {
      const index = this.plot.cursor.idx;
      if (index !== null && days[index]) this.onDay(days[index]);
    });
  }
}

// Spans of days, the one with the shown day first, then those nearest to it.
function parts(days, shown) {
  const spans = [];
  for (let at = 0; at < days.length; at += DAYS_AT_ONCE) {
    const last = Math.min(at + DAYS_AT_ONCE, days.length) - 1;
    spans.push({ span: [days[at], days[last]], off: Math.abs((at + last) / 2 - shown) });
  }
  return spans.sort((one, other) => one.off - other.off).map((each) => each.span);
}

function dateTicks(plot, seconds) {
  const years = new Set(seconds.map((each) => isoDay(each).slice(0, 4)));
  return seconds.map((each) => years.size > 1 ? isoDay(each).slice(0, 7) : isoDay(each).slice(5));
}

const isoDay = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
export const number = (value) => Number(value.toPrecision(3)).toString();
const label = (name) => ({ dx: "dx (right)", dy: "dy (down)", expected_error: "expected error" })[name]
  ?? (name.length === 2 ? name.toUpperCase() : name);
