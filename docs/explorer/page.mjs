// The page: what the reader has chosen, what is asked of the helpers, and what is drawn of their answers.

import { readSafetensors, readSlice, readTensors, bytesOf } from "./files.mjs";
import { Helper } from "./helpers.mjs";
import { heaviestWindow, touches, withHole } from "./hole.mjs";
import { frame, greyRange, greys, heat, outline, paint, trace } from "./picture.mjs";
import { METHODS } from "./saliency.mjs";
import { UNet } from "./unet.mjs";

const DATA = JSON.parse(document.getElementById("data").textContent);
const SLICES = DATA.slices.map(readSlice);
const SIDE = Math.sqrt(SLICES[0].image.length);
const VIEWS = { whole: { first: 0, span: SIDE }, cord: { first: SIDE / 5, span: (3 * SIDE) / 5 } };
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const SIZES = { "+": 1, "=": 1, "-": -1, _: -1 };
const REMARKS = {
  lifted: "The square is lifted: the network sees the whole slice.",
  far: "No grey matter lies in the square, so the rules do the same. Move it onto the butterfly.",
  keep:
    "With keep, the hole spares the grey matter and so draws its outline: " +
    "what the network is to find shows as an island in it.",
  forbid: "With forbid, the square may not touch the grey matter. It does here, so nothing is hidden; move it away.",
  none: "With none, the grey matter in the square is hidden as well; what the network finds there it has to guess.",
};

const element = (id) => document.getElementById(id);
const stage = element("stage");
const state = {
  slice: 0, network: "baseline", row: 0, column: 0, size: 10, protect: "keep", hides: true, view: VIEWS.cord,
};
const ranges = SLICES.map(({ image }) => greyRange(image));
const targetOutlines = SLICES.map(({ target }) => outline(target));
const latest = { outline: null, maps: null };

// The worker runs the very script that this page has loaded to answer questions.
const workerCode = element("answers").textContent + element("worker").textContent;
const helpers = {
  outline: new Helper(workerCode, (answer) => take("outline", answer)),
  maps: new Helper(workerCode, (answer) => take("maps", answer)),
};

function tellBoth(message) {
  Object.values(helpers).forEach((helper) => helper.tell(message));
}

// Asking

function square() {
  return { row: state.row, column: state.column, size: state.size };
}

// Whether the square hides anything: under `forbid` not what holds grey matter.
function isRefused() {
  return state.protect === "forbid" && touches(square(), SLICES[state.slice].target);
}

function question(kind) {
  const { slice, network, size, protect, hides } = state;
  return { kind, slice, network, size, protect, square: hides ? square() : null };
}

function isCurrent(kind) {
  return latest[kind] !== null && JSON.stringify(latest[kind].question) === JSON.stringify(question(kind));
}

// An answer about another slice or network says nothing about what is on screen; one about a square that has since
// moved on is good enough to be shown until the next.
function take(kind, answer) {
  if (answer.question.slice !== state.slice || answer.question.network !== state.network) return;
  latest[kind] = answer;
  if (kind === "outline") draw();
  else drawMaps();
  if (isCurrent("outline") && isCurrent("maps")) settle();
}

// The square stays in what is on screen.
function inView(corner) {
  const { first, span } = state.view;
  return Math.min(Math.max(corner, first), first + span - state.size);
}

let speaking;
function changed() {
  clearTimeout(speaking);
  state.row = inView(state.row);
  state.column = inView(state.column);
  element("results").setAttribute("aria-busy", "true");
  helpers.outline.ask(question("outline"));
  helpers.maps.ask(question("maps"));
  draw();
}

// Nothing is under way any more. What changed is spoken once, not at every pixel of a drag.
function settle() {
  element("results").setAttribute("aria-busy", "false");
  speaking = setTimeout(() => {
    const { row, column, size } = state;
    element("spoken").textContent =
      `Dice ${shown(latest.outline.dice)}, untouched ${shown(latest.outline.untouched)}. ` +
      `Square of ${size} pixels, row ${row}, column ${column}.`;
  }, 500);
}

// Drawing

function shown(value) {
  return Number.isNaN(value) ? "–" : value.toFixed(1);
}

function draw() {
  const { image, target } = SLICES[state.slice];
  const seen = withHole(image, state.hides ? square() : null, target, state.protect);
  const context = paint(stage, greys(seen, ranges[state.slice]), state.view);
  trace(context, targetOutlines[state.slice], "target", 0.4);
  if (latest.outline) trace(context, outline(latest.outline.found), "found", 0.25);
  frame(context, square(), 0.25, state.hides && !isRefused() ? [] : [1, 1]);
  drawNumbers();
}

function remark() {
  const isTouching = touches(square(), SLICES[state.slice].target);
  if (!state.hides) return REMARKS.lifted;
  return isTouching ? REMARKS[state.protect] : REMARKS.far;
}

function drawNumbers() {
  element("remark").textContent = remark();
  element("side").textContent = `${state.size} px (${state.size / 2} mm)`;
  if (!latest.outline) return;
  const { dice, untouched } = latest.outline;
  const change = dice - untouched;
  element("dice").textContent = shown(dice);
  const sign = change > 0 ? "+" : "−";
  element("change").textContent = change ? `${sign}${shown(Math.abs(change))} to untouched` : "as untouched";
  drawBar("untouched", untouched);
}

// The bar of what is on screen; a square that forbid does not refuse hides no grey matter, as with keep.
function currentBar() {
  if (!state.hides || isRefused()) return "untouched";
  return state.protect === "none" ? "none" : "keep";
}

function drawBar(name, value) {
  const row = element(`bar-${name}`);
  row.querySelector(".value").textContent = shown(value);
  row.querySelector(".bar").style.width = `${value || 0}%`;
  row.classList.toggle("current", name === currentBar());
}

function drawMaps() {
  drawBar("keep", latest.maps.spared);
  drawBar("none", latest.maps.hidden);
  const { question: asked, maps, windows } = latest.maps;
  element("seen").textContent = asked.square && !isRefused() ? "the slice with the hole" : "the untouched slice";
  for (const method of METHODS) drawMap(method, maps[method], windows[method], asked.size);
}

function drawMap(method, map, corner, size) {
  const button = element(`map-${method}`);
  const context = paint(button.querySelector("canvas"), heat(map), state.view);
  trace(context, targetOutlines[state.slice], "#fffc", 0.25);
  if (corner) frame(context, { ...corner, size }, 0.7);
  button.disabled = corner === null;
  button.dataset.corner = corner ? `${corner.row} ${corner.column}` : "";
  button.querySelector(".where").textContent = corner ? `row ${corner.row}, column ${corner.column}` : "no window";
}

// Choosing

function chooseSlice(slice) {
  state.slice = slice;
  latest.outline = latest.maps = null;
  element("about-slice").textContent = SLICES[slice].name;
  changed();
}

function addNetwork(name, tensors) {
  tellBoth({ kind: "addNetwork", name, tensors });
}

const known = new Set();
function chooseNetwork(name) {
  const published = DATA.networks.find((network) => network.name === name);
  if (published && !known.has(name)) addNetwork(name, readTensors(DATA.header, bytesOf(published.bytes)));
  known.add(name);
  state.network = name;
  latest.outline = latest.maps = null;
  element("about-network").textContent = published
    ? `Validation Dice ${published.DSC.toFixed(1)}, epoch ${published.epoch}.`
    : "From your file; it stays in this page.";
  changed();
}

async function openFile(file) {
  element("fault").textContent = "";
  try {
    const tensors = readSafetensors(await file.arrayBuffer());
    new UNet(tensors).forward(SLICES[0].image);
    addNetwork(file.name, tensors);
  } catch {
    element("fault").textContent =
      `${file.name} does not hold the weights of a U-Net of ada_repro: ` +
      "choose a file like weights/vanilla.safetensors.";
    return;
  }
  const select = element("network");
  const old = [...select.options].find((option) => option.value === file.name);
  if (!old) select.add(new Option(file.name, file.name));
  select.value = file.name;
  chooseNetwork(file.name);
}

// The choice is taken back at once, so that the same file, changed meanwhile, can be chosen again.
function openChosen({ target: input }) {
  const [file] = input.files;
  if (file) openFile(file);
  input.value = "";
}

function move(rows, columns) {
  state.row += rows;
  state.column += columns;
  changed();
}

function resize(by) {
  const range = element("size");
  const before = state.size;
  state.size = Math.min(Math.max(before + by, Number(range.min)), Number(range.max));
  range.value = state.size;
  // The square grows and shrinks around its middle.
  const shift = Math.floor(before / 2) - Math.floor(state.size / 2);
  move(shift, shift);
}

function hide(hides) {
  state.hides = element("hides").checked = hides;
  changed();
}

function look(view) {
  state.view = VIEWS[view];
  element("zooms").checked = view === "cord";
  changed();
  if (latest.maps) drawMaps();
}

function goTo(button) {
  const corner = button.dataset.corner.split(" ").map(Number);
  if (corner.some((at) => inView(at) !== at)) look("whole");
  [state.row, state.column] = corner;
  hide(true);
}

// Pointer and keyboard

let grip = null;
function placeUnder(event) {
  const box = stage.getBoundingClientRect();
  return {
    row: state.view.first + ((event.clientY - box.top) / box.height) * state.view.span,
    column: state.view.first + ((event.clientX - box.left) / box.width) * state.view.span,
  };
}

function isInSquare({ row, column }) {
  const down = row - state.row;
  const right = column - state.column;
  return down >= 0 && right >= 0 && down < state.size && right < state.size;
}

// A square taken at a corner keeps that corner under the finger; one called from elsewhere comes with its middle.
function grab(event) {
  const at = placeUnder(event);
  const middle = { row: state.size / 2, column: state.size / 2 };
  grip = isInSquare(at) ? { row: at.row - state.row, column: at.column - state.column } : middle;
  stage.setPointerCapture(event.pointerId);
  drag(event);
}

function drag(event) {
  if (!grip) return;
  const at = placeUnder(event);
  state.row = Math.round(at.row - grip.row);
  state.column = Math.round(at.column - grip.column);
  changed();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const pixels = event.shiftKey ? 5 : 1;
  if (event.key in STEPS) move(...STEPS[event.key].map((step) => step * pixels));
  else if (event.key in SIZES) resize(SIZES[event.key]);
  else if (event.key === " ") hide(!state.hides);
  else return;
  event.preventDefault();
}

// Starting

function addThumbnail(slice, index) {
  const label = element("thumbnail").content.cloneNode(true).querySelector("label");
  const input = label.querySelector("input");
  input.value = index;
  input.checked = index === state.slice;
  input.setAttribute("aria-label", slice.name);
  label.title = slice.name;
  input.onchange = () => chooseSlice(index);
  paint(label.querySelector("canvas"), greys(slice.image, ranges[index]), VIEWS.whole);
  element(`slices-${slice.kind}`).append(label);
}

function listen() {
  stage.onpointerdown = grab;
  stage.onpointermove = drag;
  stage.onpointerup = stage.onpointercancel = () => (grip = null);
  stage.onkeydown = press;
  element("size").oninput = (event) => resize(Number(event.target.value) - state.size);
  element("hides").onchange = (event) => hide(event.target.checked);
  element("zooms").onchange = (event) => look(event.target.checked ? "cord" : "whole");
  element("network").onchange = (event) => chooseNetwork(event.target.value);
  element("file").onchange = openChosen;
  for (const radio of document.querySelectorAll("[name=protect]")) {
    radio.onchange = () => {
      state.protect = radio.value;
      changed();
    };
  }
  for (const method of METHODS) {
    const button = element(`map-${method}`);
    button.onclick = () => goTo(button);
  }
}

// The square begins in the middle of the grey matter.
function begin() {
  SLICES.forEach(addThumbnail);
  listen();
  Object.assign(state, heaviestWindow(SLICES[0].target, state.size, null, "keep"));
  tellBoth({ kind: "addSlices", slices: SLICES });
  element("about-slice").textContent = SLICES[0].name;
  chooseNetwork(state.network);
}

begin();
