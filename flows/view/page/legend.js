// What the colours of a layer mean, with units.
"use strict";
import { number } from "./chart.js";

// Of both sides; one where they share their colours, as SAR does before and after.
export function legendsOf(left, right) {
  if (left === right) return [legend(left)];
  const same = left.kind === "grey" && right.kind === "grey" && left.variables[0] === right.variables[0];
  if (!same) return [legend(left), legend(right)];
  const title = left.title.replace(/ (as delivered|registered)$/, "");
  return [legend({ ...left, title, note: left.note || right.note })];
}

function legend(layer) {
  const section = make("section", "legend");
  section.append(make("h2", "", layer.title));
  if (layer.kind === "classes") section.append(classes(layer));
  else section.append(...scale(layer));
  if (layer.note) section.append(make("p", "note", layer.note));
  return section;
}

function classes(layer) {
  const list = make("ul", "classes");
  for (const each of layer.classes.filter(({ share }) => share > 0)) {
    const item = make("li"), swatch = make("i");
    swatch.style.background = each.colour;
    const share = each.share < 0.001 ? "< 0.1 %" : `${(100 * each.share).toFixed(1)} %`;
    item.append(swatch, make("span", "", each.meaning), make("span", "quiet", share));
    list.append(item);
  }
  return list;
}

function scale(layer) {
  const bar = make("div", "bar"), ends = make("div", "scale");
  const colours = layer.kind === "ramp" ? layer.colours
    : layer.kind === "grey" ? ["#000", "#fff"] : ["#000", "#7a6a52", "#8fa36b", "#9fc0d8", "#fff"];
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  const middle = number((layer.low + layer.high) / 2);
  ends.append(make("span", "", number(layer.low)), make("span", "", `${middle} ${layer.unit}`),
    make("span", "", number(layer.high)));
  return [bar, ends];
}

export function make(tag, kind = "", text = "") {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}
