// A layer's activations as pictures: a grid of small maps, or a row of bars.

import { canvasOf } from "./drawing.js";

const WARM = ramp([[11, 13, 18], [84, 35, 124], [194, 64, 63], [248, 166, 49], [253, 246, 200]]);
const BOTH = ramp([[143, 208, 255], [42, 111, 184], [11, 13, 18], [208, 97, 42], [255, 224, 168]]);
const GAP = 3;
const BAR_HEIGHT = 42;

// 256 colours between the given ones.
function ramp(stops) {
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
    return stops[k].map((c, j) => Math.round(c + (stops[k + 1][j] - c) * (at - k)));
  });
}

// For each of the 256 levels between low and high its colour; 0 is dark, whichever side of it the others are on.
function colours(low, high) {
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return Array.from({ length: 256 }, (_, level) => {
    const value = low + (level / 255) * (high - low);
    return low < 0 ? BOTH[Math.round(127.5 + (value / most) * 127.5)] : WARM[Math.round((value / most) * 255)];
  });
}

function number(v) {
  return Number(v.toPrecision(3)).toString();
}

// The element for a layer of the service's answer, in `width` CSS pixels.
export function layerElement(layer, width) {
  const element = document.createElement("div");
  element.className = "layer";
  element.dataset.layer = layer.name;
  const title = document.createElement("h3");
  const about = document.createElement("span");
  const size = layer.shape.join("×");
  const shown = layer.maps ? layer.maps[0] : layer.values.length;
  const all = layer.maps ? layer.shape[2] : layer.shape.reduce((a, b) => a * b);
  const [low, high] = layer.maps ? [layer.low, layer.high] : [Math.min(...layer.values), Math.max(...layer.values)];
  const range = `${number(low)} to ${number(high)}`;
  about.textContent = `${layer.type === layer.name ? "" : layer.type + " "}${size}, ${range}` + (shown < all ? `, the first ${shown}` : "");
  title.append(layer.name, about);
  const canvas = layer.maps ? grid(layer, width) : bars(layer.values, width);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${layer.name}: ${layer.maps ? `${shown} maps of ${layer.maps[1]} by ${layer.maps[2]}` : `${shown} values`}`);
  element.append(title, canvas);
  return element;
}

function grid(layer, width) {
  const [count, h, w] = layer.maps;
  const rgb = layer.type === "input" && count === 3;
  const bytes = Uint8Array.from(atob(layer.data), (c) => c.charCodeAt(0));
  const dense = Math.max(1, window.devicePixelRatio || 1);
  const target = Math.max(40, Math.min(84, 3 * Math.max(h, w))) * dense;
  const scale = Math.max(1, Math.round(target / Math.max(h, w)));
  const tiles = rgb ? 1 : count;
  const columns = Math.max(1, Math.min(tiles, Math.floor((width * dense + GAP) / (w * scale + GAP))));
  const rows = Math.ceil(tiles / columns);
  const canvas = canvasOf(columns * (w * scale + GAP) - GAP, rows * (h * scale + GAP) - GAP);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const small = canvasOf(w, h), picture = new ImageData(w, h), colour = colours(layer.low, layer.high);
  for (let tile = 0; tile < tiles; tile++) {
    for (let i = 0; i < h * w; i++) {
      const from = rgb ? [0, 1, 2].map((c) => bytes[c * h * w + i]) : colour[bytes[tile * h * w + i]];
      picture.data.set([...from, 255], 4 * i);
    }
    small.getContext("2d").putImageData(picture, 0, 0);
    const x = (tile % columns) * (w * scale + GAP), y = Math.floor(tile / columns) * (h * scale + GAP);
    context.drawImage(small, x, y, w * scale, h * scale);
  }
  canvas.style.width = `${canvas.width / dense}px`;
  canvas.style.background = "transparent";
  canvas.addEventListener("mousemove", (event) => {
    const column = Math.floor((event.offsetX * dense) / (w * scale + GAP));
    const tile = Math.floor((event.offsetY * dense) / (h * scale + GAP)) * columns + column;
    canvas.title = tile < tiles && !rgb ? `map ${tile}` : "";
  });
  return canvas;
}

function bars(values, width) {
  const dense = Math.max(1, window.devicePixelRatio || 1);
  const each = Math.max(1, Math.min(22 * dense, Math.floor((width * dense) / values.length)));
  const canvas = canvasOf(each * values.length, BAR_HEIGHT * dense);
  const context = canvas.getContext("2d");
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1;
  const y = (v) => ((high - v) / span) * canvas.height;
  const gap = each > 3 * dense ? Math.round(dense) : 0;
  values.forEach((v, i) => {
    context.fillStyle = v < 0 ? "#5aa2e6" : "#f2953a";
    const top = Math.min(y(v), y(0)), tall = Math.max(1, Math.abs(y(v) - y(0)));
    context.fillRect(i * each, top, each - gap, tall);
  });
  canvas.style.width = `${canvas.width / dense}px`;
  canvas.style.height = `${BAR_HEIGHT}px`;
  canvas.addEventListener("mousemove", (event) => {
    const i = Math.floor((event.offsetX * dense) / each);
    canvas.title = i < values.length ? `${i}: ${number(values[i])}` : "";
  });
  return canvas;
}
