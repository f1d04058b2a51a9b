// The page: draw or open a picture, ask the service, show what it says.

import { boxOf, drawStrokes, framed, note } from "./drawing.js";
import { layerElement } from "./maps.js";

const $ = (id) => document.getElementById(id);
const paper = $("paper"), pen = paper.getContext("2d");
const WAIT_MS = 60;      // after the last movement
const BARS = 12;         // classes that are shown in their own order; of more, the likeliest

let model = null;        // what /model says
let strokes = [];        // lists of [x, y] from 0 to 1
let file = null;         // instead of strokes
let drawing = false;
let timer = 0;
let asking = false, again = false;
let last = null;         // the last answer
let turn = 0;            // counts pictures: an answer to one that is gone is not shown

start();

async function start() {
  try {
    model = await (await fetch("/model")).json();
  } catch {
    return say("The service does not answer.", true);
  }
  const [h, w, c] = model.input;
  document.title = `${model.model}: cnnforge`;
  $("model").textContent = model.model;
  const layers = `${model.parameters.toLocaleString("en")} parameters, input ${h}×${w}×${c}`;
  $("about").textContent = layers + (model.data ? `, trained on ${model.data} (run ${model.run})` : `, from ${model.run}`);
  const draws = model.pictures !== null && model.pictures.channels === 1;
  $("framing").value = { mnist: "mnist", digits: "digits" }[model.data] || "drawn";
  $("seen").hidden = !draws;
  $("undo").hidden = !draws;
  $("pad").classList.toggle("files", !draws);
  if (model.pictures === null) {
    $("hint").textContent = "This model was trained on arrays, not on pictures: send arrays to /predict.";
    $("file").disabled = true;
    return;
  }
  $("hint").textContent = draws
    ? `Draw a ${["mnist", "digits"].includes(model.data) ? "digit" : "shape"}, or drop a picture here`
    : "Drop a picture here";
  listen(draws);
  showClasses([]);
  $("framing-note").textContent = note($("framing").value);
  $("given-size").textContent = sizeText();
}

function size() {
  return model.pictures.size || model.input.slice(0, 2);
}

function sizeText() {
  const [h, w] = size();
  return `${h}×${w}`;
}

function listen(draws) {
  if (draws) {
    paper.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      if (file) clear();
      drawing = true;
      paper.setPointerCapture(event.pointerId);
      strokes.push([at(event), at(event)]);
      redraw();
    });
    paper.addEventListener("pointermove", (event) => {
      if (!drawing) return;
      for (const moved of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event])
        strokes[strokes.length - 1].push(at(moved));
      redraw();
    });
    for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => { drawing = false; });
    $("framing").addEventListener("change", () => {
      $("framing-note").textContent = note($("framing").value);
      redraw();
    });
    $("undo").addEventListener("click", () => { strokes.pop(); redraw(); });
  } else {
    paper.addEventListener("click", () => $("file").click());
  }
  $("clear").addEventListener("click", clear);
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) open($("file").files[0]);
    $("file").value = "";
  });
  const pad = document.body;
  pad.addEventListener("dragover", (event) => { event.preventDefault(); $("pad").classList.add("over"); });
  pad.addEventListener("dragleave", () => $("pad").classList.remove("over"));
  pad.addEventListener("drop", (event) => {
    event.preventDefault();
    $("pad").classList.remove("over");
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;  // a phone's bars come and go
    width = window.innerWidth;
    if (last) showLayers(last);
  });
}

function at(event) {
  const box = paper.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function clear() {
  strokes = [];
  file = null;
  redraw();
}

async function open(chosen) {
  strokes = [];
  file = chosen;
  $("seen").hidden = true;  // a file is sent as it is
  try {
    const bitmap = await createImageBitmap(chosen);
    blacken(pen);
    fit(pen, bitmap);
  } catch {
    blacken(pen);  // the service may know the format all the same
  }
  $("hint").hidden = true;
  turn++;
  later();
}

function blacken(context) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

function fit(context, picture) {
  const { width, height } = context.canvas;
  const scale = Math.min(width / picture.width, height / picture.height);
  const w = picture.width * scale, h = picture.height * scale;
  context.imageSmoothingEnabled = scale < 4;
  context.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
}

function redraw() {
  const side = paper.width;
  blacken(pen);
  drawStrokes(pen, strokes, { scale: side, x: 0, y: 0 }, side * 0.075);
  $("hint").hidden = strokes.length > 0;
  $("seen").hidden = model.pictures.channels !== 1;
  turn++;
  if (!strokes.length) {
    clearTimeout(timer);
    last = null;
    $("given").getContext("2d").clearRect(0, 0, $("given").width, $("given").height);
    $("layers").innerHTML = '<p class="empty">Nothing yet.</p>';
    showClasses([]);
    return say("");
  }
  later();
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT_MS);
}

async function body() {
  if (file) return file;
  const [h, w] = size();
  const picture = framed(strokes, $("framing").value, w, h);
  showGiven(picture, boxOf($("framing").value));
  return new Promise((done) => picture.toBlob(done, "image/png"));
}

// The picture enlarged, with the box and the middle that a framing has.
function showGiven(picture, box) {
  const given = $("given"), k = Math.max(1, Math.round(368 / Math.max(picture.width, picture.height)));
  given.width = picture.width * k;
  given.height = picture.height * k;
  const context = given.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, given.width, given.height);
  if (box === undefined || box === 1) return;
  const side = Math.min(given.width, given.height) * box, x = given.width / 2, y = given.height / 2;
  context.strokeStyle = "#ff9a3d";
  context.lineWidth = 4;
  context.strokeRect(x - side / 2, y - side / 2, side, side);
  context.beginPath();
  context.moveTo(x - 16, y); context.lineTo(x + 16, y);
  context.moveTo(x, y - 16); context.lineTo(x, y + 16);
  context.stroke();
}

// One question at a time; what changed meanwhile is asked after it.
async function ask() {
  if (!file && !strokes.length) return;
  if (asking) { again = true; return; }
  asking = true;
  const mine = turn;
  try {
    const content = await body();
    const answer = await fetch("/activations", {
      method: "POST", body: content, headers: { "Content-Type": content.type.startsWith("image/") ? content.type : "application/octet-stream" },
    });
    const said = await answer.json();
    if (mine !== turn) again = strokes.length > 0 || file !== null;
    if (mine === turn || drawing) answer.ok ? show(said) : refuse(said);
  } catch {
    say("The service does not answer.", true);
  }
  asking = false;
  if (again) { again = false; ask(); }
}

function refuse(error) {
  last = null;
  showClasses([]);
  $("layers").innerHTML = '<p class="empty">Nothing yet.</p>';
  say([error.what, error.why, error.fix].filter(Boolean).join("\n"), true);
}

function show(answer) {
  last = answer;
  if (answer.predictions) {
    showClasses(answer.predictions);
    const [first] = answer.predictions;
    say(`${first.class}, ${percent(first.probability)}`);
  } else {
    say(`output ${[answer.values].flat(Infinity).slice(0, 8).map((v) => Number(v.toPrecision(4))).join(", ")}`);
  }
  showLayers(answer);
}

function say(text, wrong = false) {
  const status = $("status");
  status.classList.toggle("wrong", wrong);
  if (status.textContent !== text) status.textContent = text;
}

function percent(p) {
  return `${(100 * p).toFixed(1)}%`;
}

function showClasses(predictions) {
  const few = model.classes.length <= BARS;
  const known = new Map(predictions.map((p) => [p.class, p.probability]));
  const names = few ? model.classes : predictions.slice(0, BARS).map((p) => p.class);
  const best = predictions.length ? predictions[0].class : null;
  $("classes").classList.toggle("wide", model.classes.some((name) => name.length > 3));
  $("classes").replaceChildren(...names.map((name) => {
    const row = document.createElement("li");
    const [label, track, bar, share] = ["span", "span", "div", "span"].map((tag) => document.createElement(tag));
    label.className = "name";
    label.textContent = label.title = name;
    track.className = "track";
    track.setAttribute("aria-hidden", "true");
    bar.className = "bar";
    bar.style.width = percent(known.get(name) || 0);
    share.className = "share";
    share.textContent = known.has(name) ? percent(known.get(name)) : "";
    track.append(bar);
    row.append(label, track, share);
    row.classList.toggle("first", name === best);
    return row;
  }));
}

function showLayers(answer) {
  const width = $("layers").clientWidth;
  $("layers").replaceChildren(...[answer.input, ...answer.layers].map((layer) => layerElement(layer, width)));
}
