// The map itself: coasts and a grid without any network, the layers of both sides, and the swipe.
"use strict";
/* global L, topojson */

const TILE_PX = 512;
const STEPS = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const LINE_EVERY_PX = 110;

export function createMap(element, { onMove, onClick }) {
  const map = L.map(element, {
    keyboard: false, zoomSnap: 0.5, minZoom: 2, maxZoom: 19, attributionControl: true,
    zoomControl: true,
  }).setView([20, 0], 2);
  map.attributionControl.setPrefix("Leaflet");
  for (const [name, order] of [["coast", 150], ["under", 210], ["left", 220], ["right", 221], ["lines", 350]])
    map.createPane(name).style.zIndex = order;
  map.getPane("lines").style.pointerEvents = "none";
  new Graticule({ pane: "lines", tileSize: 256 }).addTo(map);
  L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
  map.on("moveend", onMove);
  map.on("click", (event) => onClick(event.latlng));
  drawCoasts(map);
  return map;
}

async function drawCoasts(map) {
  const world = await (await fetch("lib/world-atlas/land-50m.json")).json();
  L.geoJSON(topojson.feature(world, world.objects.land), {
    pane: "coast", renderer: L.canvas({ pane: "coast" }), interactive: false,
    attribution: "Coasts: Natural Earth 1:50 million",
    style: { color: "#a9b8b0", weight: 1, fillColor: "#f3f2ea", fillOpacity: 1 },
  }).addTo(map);
}

const Graticule = L.GridLayer.extend({
  createTile(coords) {
    const tile = L.DomUtil.create("canvas"), side = this.getTileSize().x;
    const scale = window.devicePixelRatio || 1;
    tile.width = tile.height = side * scale;
    const draw = tile.getContext("2d");
    draw.scale(scale, scale);
    const origin = coords.scaleBy(this.getTileSize());
    const at = (x, y) => this._map.unproject(origin.add([x, y]), coords.z);
    const [northWest, southEast] = [at(0, 0), at(side, side)];
    const step = STEPS.findLast((each) => this._map.project([0, each], coords.z).x
      - this._map.project([0, 0], coords.z).x >= LINE_EVERY_PX) ?? STEPS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    draw.strokeStyle = "#33475833";
    draw.fillStyle = "#334758cc";
    draw.font = "11px system-ui, sans-serif";
    draw.shadowColor = "#fff";
    draw.beginPath();
    const labels = [];
    for (let i = Math.ceil(northWest.lng / step); i * step < southEast.lng; i++) {
      const x = this._map.project([0, i * step], coords.z).x - origin.x;
      draw.moveTo(x, 0);
      draw.lineTo(x, side);
      if (coords.y % 2 === 0) labels.push([degrees(i * step, "E", "W", digits), x + 3, 12]);
    }
    for (let i = Math.ceil(southEast.lat / step); i * step < northWest.lat; i++) {
      const y = this._map.project([i * step, 0], coords.z).y - origin.y;
      draw.moveTo(0, y);
      draw.lineTo(side, y);
      if (coords.x % 2 === 0) labels.push([degrees(i * step, "N", "S", digits), 3, y - 3]);
    }
    draw.stroke();
    draw.shadowBlur = 3;
    for (const [text, x, y] of labels) draw.fillText(text, x, y);
    return tile;
  },
});

function degrees(value, positive, negative, digits) {
  const wrapped = ((value + 180) % 360 + 360) % 360 - 180;
  const number = positive === "E" ? wrapped : value;
  return `${Math.abs(number).toFixed(digits)}° ${number < 0 ? negative : positive}`;
}

// One layer of tiles at a place ("under", "left", "right"), replaced without a moment of nothing.
export class Place {
  constructor(map, pane, onError) {
    Object.assign(this, { map, pane, onError, address: null, shown: null, coming: null });
  }

  show(address, bounds) {
    if (address === this.address) return;
    this.address = address;
    this.coming?.remove();
    this.coming = null;
    if (address === null) {
      this.shown?.remove();
      this.shown = null;
      return;
    }
    const layer = L.tileLayer(`${address}/{z}/{x}/{y}.png`, {
      pane: this.pane, tileSize: TILE_PX, zoomOffset: -1, bounds, minZoom: 1, maxZoom: 19,
      updateWhenZooming: false, keepBuffer: 1,
    });
    layer.on("tileerror", () => { if (this.address === address) this.onError(); });
    layer.on("load", () => {
      if (this.coming !== layer) return;
      this.shown?.remove();
      this.shown = layer;
      this.coming = null;
    });
    this.coming = layer.addTo(this.map);
  }
}

// The line between both sides, and what of each is seen.
export class Swipe {
  constructor(map, edge, handle, onChange) {
    Object.assign(this, { map, edge, handle, onChange, percent: 50 });
    map.on("move zoom viewreset resize", () => this.clip());
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = map.getContainer().getBoundingClientRect();
      this.set(100 * (event.clientX - box.left) / box.width);
    });
    handle.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.percent - 2, ArrowRight: this.percent + 2, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.set(to);
    });
  }

  set(percent) {
    this.percent = Math.round(10 * Math.min(100, Math.max(0, percent))) / 10;
    this.edge.style.left = `${this.percent}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(this.percent));
    this.clip();
    this.onChange();
  }

  clip() {
    const size = this.map.getSize(), corner = this.map.containerPointToLayerPoint([0, 0]);
    const end = this.map.containerPointToLayerPoint(size);
    const at = corner.x + size.x * this.percent / 100;
    const cut = (from, to) => `rect(${corner.y}px, ${to}px, ${end.y}px, ${from}px)`;
    this.map.getPane("left").style.clip = cut(corner.x, at);
    this.map.getPane("right").style.clip = cut(at, end.x);
  }
}
