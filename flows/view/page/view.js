// The page: what is shown, kept in the address, so that a link leads back to it.
"use strict";
/* global L */
import { Chart } from "./chart.js";
import { legendsOf, make } from "./legend.js";
import { createMap, Place, Swipe } from "./map.js";

const SAID_MS = 10000;
const PASSED_MS = 120; // days that are only passed on the way to another are not asked for
const find = (id) => document.getElementById(id);
const state = { region: "", day: "", left: "", right: "", opacity: 70, swipe: 50, at: null, chart: "",
  view: null, ...fromAddress() };
let regions = [], shown = null, asked = 0, marker = null, saving = 0, saying = 0;

const map = createMap(find("map"), { onMove: save, onClick: (latlng) => choosePixel([latlng.lat, latlng.lng]) });
const places = Object.fromEntries(["under", "left", "right"].map((pane) => [pane, new Place(map, pane, renew)]));
const swipe = new Swipe(map, find("edge"), find("handle"), () => { state.swipe = swipe.percent; save(); });
const chart = new Chart(find("chart"), {
  ask: askPixel, onDay: showDay, onClose: () => choosePixel(null),
  onGroup: (name) => { state.chart = name; showPixel(); },
});

start();

async function start() {
  swipe.set(state.swipe);
  find("opacity").value = state.opacity;
  showOpacity();
  const store = await ask("api/store");
  if (store === null) return;
  regions = store.regions;
  find("region").replaceChildren(...regions.map(({ name }) => new Option(name, name)));
  find("region").disabled = regions.length < 2;
  if (!regions.some(({ name }) => name === state.region)) Object.assign(state, { region: regions[0]?.name, at: null });
  if (regions.length === 0) { say("There is no published day in this store."); return; }
  await showRegion(state.region);
}

async function showRegion(name) {
  const moved = shown !== null && name !== state.region;
  if (moved) { Object.assign(state, { view: null, day: "" }); choosePixel(null); }
  state.region = name;
  find("region").value = name;
  const days = daysOf();
  find("day").max = days.length - 1;
  find("day").disabled = days.length < 2;
  find("first").textContent = days[0];
  find("last").textContent = days.length > 1 ? days.at(-1) : "";
  find("count").textContent = days.length > 1 ? `${days.length} days` : "";
  await showDay(days.includes(state.day) ? state.day : days.at(-1));
}

async function showDay(day, again = false) {
  const turn = ++asked;
  state.day = day;
  find("day").value = daysOf().indexOf(day);
  find("day").setAttribute("aria-valuetext", day);
  find("date").textContent = new Date(`${day}T00:00Z`).toLocaleDateString("en-GB",
    { timeZone: "UTC", day: "numeric", month: "long", year: "numeric" });
  find("before").disabled = day === daysOf()[0];
  find("after").disabled = day === daysOf().at(-1);
  document.title = `${state.region}, ${day}`;
  chart.mark(day);
  if (shown) await new Promise((go) => setTimeout(go, PASSED_MS));
  if (turn !== asked) return;
  const told = await ask(`api/regions/${part(state.region)}/days/${part(day)}`);
  if (turn !== asked || told === null) return;
  const [west, south, east, north] = told.bounds;
  const first = shown === null || shown.region !== told.region;
  shown = { ...told, area: L.latLngBounds([south, west], [north, east]), again };
  if (first) frame();
  showScenes();
  offerLayers();
  showLayers();
  save();
  if (first && state.at) choosePixel(state.at);
}

function frame() {
  if (state.view) map.setView(state.view.slice(1), state.view[0], { animate: false });
  else map.fitBounds(shown.area, { animate: false, padding: [8, 8] });
}

// A tile that fails may be of a day that was made again: ask once more what the store has.
function renew() {
  if (shown.again) say("Some of this day cannot be read; the terminal says why.");
  else { shown.again = true; showDay(state.day, true); }
}

function offerLayers() {
  const names = shown.layers.map(({ name }) => name);
  const first = (start) => names.find((name) => name.startsWith(start)) ?? names[0];
  if (!names.includes(state.left)) state.left = first("delivered-");
  if (!names.includes(state.right)) state.right = first("sar-");
  for (const side of ["left", "right"]) {
    find(side).replaceChildren(...shown.layers.map(({ name, title }) => new Option(title, name)));
    find(side).value = state[side];
  }
}

function showLayers() {
  const address = (name) => ["api/regions", part(shown.region), "days", part(shown.day), part(shown.generation),
    part(name)].join("/");
  const optical = named("optical") !== undefined;
  places.under.show(optical ? address("optical") : null, shown.area);
  for (const side of ["left", "right"]) {
    places[side].show(address(state[side]), shown.area);
    find(`tag-${side}`).textContent = named(state[side]).title;
  }
  find("legends").replaceChildren(...legendsOf(named(state.left), named(state.right)));
}

function showScenes() {
  const told = ["optical", "sar"].flatMap((sensor) => shown.scenes[sensor].map(({ id, time }) =>
    make("li", "", `${sensor === "sar" ? "SAR" : "optical"}, ${time.slice(0, 16).replace("T", " ")} UTC: ${id}`)));
  find("scenes").hidden = told.length === 0;
  find("scenes").querySelector("ul").replaceChildren(...told);
}

function choosePixel(at) {
  state.at = at;
  marker?.remove();
  marker = null;
  save();
  if (at === null) { chart.close(); return; }
  marker = L.circleMarker(at, { radius: 7, color: "#fff", weight: 3, fillColor: "#0b62a8", fillOpacity: 1,
    interactive: false }).addTo(map);
  showPixel();
}

function showPixel() {
  if (!state.at || !shown) return;
  const sar = shown.layers.filter(({ name }) => name.startsWith("sar-"));
  const groups = [
    ["SAR", sar.map(({ variables }) => variables[0]), sar[0]?.unit],
    ["Displacement", ["dx", "dy", "expected_error"].filter((name) => named(name)), "pixels"],
    ["Optical", named("optical")?.variables ?? [], named("optical")?.unit],
  ].filter(([, variables]) => variables.length).map(([name, variables, unit]) => ({ name, variables, unit }));
  if (!groups.length) return;
  save();
  chart.show({ place: state.at, days: daysOf(), day: state.day, groups, group: state.chart,
    classes: named("quality")?.classes ?? [] });
  if (shown.area.contains(state.at)) map.panInside(state.at, { paddingTopLeft: [40, 60], paddingBottomRight: [40, find("chart").offsetHeight + 40] });
}

async function askPixel(place, variables, first, last) {
  const { lat, lng } = L.latLng(place).wrap(); // a region may lie across the antimeridian
  const query = new URLSearchParams({ lon: lng.toFixed(7), lat: lat.toFixed(7), variables, first, last });
  return ask(`api/regions/${part(shown.region)}/days/${part(shown.day)}/pixel?${query}`);
}

async function ask(address) {
  try {
    const answer = await fetch(address), told = await answer.json();
    if (answer.ok) { say(""); return told; }
    say(told.error ?? "The server could not answer; its terminal says why.");
  } catch {
    say("The server does not answer. Is tar-pipeline view still running?");
  }
  return null;
}

function say(text) {
  find("status").textContent = text;
  find("status").hidden = text === "";
  clearTimeout(saying);
  if (text) saying = setTimeout(() => say(""), SAID_MS);
}

function showOpacity() {
  const value = find("opacity").value;
  find("opacity-told").textContent = `${value} %`;
  for (const side of ["left", "right"]) map.getPane(side).style.opacity = value / 100;
}

function step(by, far = false) {
  const days = daysOf(), at = far ? (by < 0 ? 0 : days.length - 1) : days.indexOf(state.day) + by;
  if (days[at] !== undefined && days[at] !== state.day) showDay(days[at]);
}

function swap() {
  [state.left, state.right] = [state.right, state.left];
  offerLayers();
  showLayers();
  save();
}

function named(name) { return shown.layers.find((layer) => layer.name === name); }
function daysOf() { return regions.find(({ name }) => name === state.region)?.days ?? []; }
function part(text) { return encodeURIComponent(text); }

// The address remembers where one is; it is written a moment later, for a drag is many moves.
function save() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    if (!shown) return;
    const centre = map.getCenter();
    state.view = [map.getZoom(), Number(centre.lat.toFixed(5)), Number(centre.lng.toFixed(5))];
    const { region, day, left, right, opacity, swipe: line, at, chart: group, view } = state;
    const kept = { region, day, left, right, opacity, swipe: line, view: view.join(",") };
    if (at) Object.assign(kept, { at: at.map((each) => each.toFixed(6)).join(","), chart: group });
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  }, 200);
}

function fromAddress() {
  const kept = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const numbers = (text, count) => {
    const found = (text ?? "").split(",").map(Number);
    return found.length === count && found.every(Number.isFinite) ? found : null;
  };
  const percent = (text, otherwise) => text && Number(text) >= 0 && Number(text) <= 100 ? Number(text) : otherwise;
  const { region = "", day = "", left = "", right = "", chart: group = "" } = kept;
  return { region, day, left, right, chart: group, opacity: percent(kept.opacity, 70),
    swipe: percent(kept.swipe, 50), at: numbers(kept.at, 2), view: numbers(kept.view, 3) };
}

find("region").addEventListener("change", (event) => showRegion(event.target.value));
find("day").addEventListener("input", (event) => showDay(daysOf()[event.target.value]));
find("before").addEventListener("click", () => step(-1));
find("after").addEventListener("click", () => step(1));
find("swap").addEventListener("click", swap);
find("opacity").addEventListener("input", (event) => { state.opacity = Number(event.target.value); showOpacity(); save(); });
find("more").addEventListener("click", () => {
  const open = find("panel").classList.toggle("open");
  find("more").setAttribute("aria-expanded", open);
  map.invalidateSize();
});
for (const side of ["left", "right"])
  find(side).addEventListener("change", (event) => { state[side] = event.target.value; showLayers(); save(); });
new ResizeObserver(() => map.invalidateSize()).observe(find("stage"));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
  const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-1, true),
    End: () => step(1, true), "+": () => map.zoomIn(), "-": () => map.zoomOut(), s: swap, S: swap,
    Escape: () => choosePixel(null) }[event.key];
  if (!act || !shown) return;
  event.preventDefault();
  act();
});
