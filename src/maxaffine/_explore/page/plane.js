// The plane through three inputs: asked for, followed while it is divided, and what is said about the cell that is clicked.

import { get, post, remove, sleep, thumbnail } from "./api.js";
import { Cells } from "./drawn/cells.js";
import { make, numbers, tile, told } from "./drawn/draw.js";
import { dropped, picked, show as showGallery } from "./gallery.js";
import { made, operatorName } from "./why.js";

const $ = (id) => document.getElementById(id);
const slots = [null, null, null];
let about, fail, cells, checkpoint = 0, now = null, asked = 0, cellAsked = 0;

export function begin(subject, failed) {
  [about, fail] = [subject, failed];
  cells = new Cells($("cells"), { choose, name: groupName, ask, failed: fail, seen: count });
  $("slots").append(...slots.map((_, place) => slot(place)));
  $("to-plane").addEventListener("click", () => put(Math.max(0, slots.indexOf(null)), picked()));
  $("cancel").addEventListener("click", () => now && remove("plane", { key: now.key }).catch(fail));
  $("coloring").addEventListener("change", () => {
    cells.color($("coloring").value);
    legend();
  });
  $("zoom-in").addEventListener("click", () => cells.zoom(1.5));
  $("zoom-out").addEventListener("click", () => cells.zoom(1 / 1.5));
  if (!classes()) $("coloring").options[0].textContent = about.pictured ? "by steepness" : `by ${about.outputs[0]}`;
  $("whole").addEventListener("click", () => cells.whole());
  $("window").addEventListener("click", () => divide(cells.view()));
}

const ask = (left, right, bottom, top, width, height) => get("plane/view", { key: now.key, left, right, bottom, top, width, height });

function slot(place) {
  const button = make("button", { type: "button", class: "slot", click: () => toggle(place) });
  button.addEventListener("dragover", (event) => event.preventDefault());
  button.addEventListener("drop", (event) => {
    event.preventDefault();
    if (dropped(event)) put(place, dropped(event));
  });
  queueMicrotask(fill);
  return button;
}

function toggle(place) {
  put(place, slots[place] === null ? picked() : null);
}

function put(place, image) {
  if (image && slots.includes(image)) {
    fail(new Error("This input is in the plane already; three different ones span it."));
    return;
  }
  slots[place] = image || null;
  fill();
  if (slots.every((item) => item !== null)) {
    $("plane").scrollIntoView({ behavior: "smooth", block: "start" });
    divide();
  }
}

function fill() {
  [...$("slots").children].forEach((button, place) => {
    const image = slots[place];
    button.classList.toggle("full", image !== null);
    button.setAttribute("aria-label", image === null ? `Place ${place + 1} of the plane, empty: put the current input here`
      : `Place ${place + 1} of the plane: ${image}; take it out`);
    button.replaceChildren(image === null ? "+" : make("img", { src: thumbnail(image), alt: image, draggable: "false" }));
  });
}

// The plane of a field's coordinates is there without any input.
const field = () => about.task === "field" && slots.every((item) => item === null);

// Another moment of the training: the same window of the same plane, once more.
export async function moment(number) {
  checkpoint = number;
  const open = now !== null && !$("drawn").hidden;
  const same = open && now.images.length === (field() ? 0 : slots.length);
  if (field() || (open && slots.every((item) => item !== null))) await divide(same ? now.window : null);
}

async function divide(window = null) {
  const number = ++asked;
  const images = field() ? [] : [...slots];
  try {
    const begun = await post("plane", {}, JSON.stringify({ images, checkpoint, window }));
    if (number !== asked) return;
    now = { ...begun, images };
    $("plane-hint").hidden = true;
    for (let state = begun; ; state = await get("plane", { key: begun.key })) {
      if (number !== asked) return;
      follow(state);
      if (state.state === "done" || state.cells) return await draw(state);
      if (state.state === "cancelled") return narrower("The division was cancelled.");
      if (state.state === "failed" && state.words.startsWith("there are more than")) return narrower(state.words);
      if (state.state === "failed") throw new Error(state.words);
      await sleep(120);
    }
  } catch (error) {
    if (number === asked) {
      $("progress").hidden = true;
      fail(error);
    }
  }
}

function follow({ state, share, words }) {
  $("progress").hidden = state !== "running";
  $("progress").firstElementChild.value = share;
  $("progress").querySelector("output").textContent = `${Math.round(100 * share)}%, ${words || "starting"}`;
}

// A quarter of the area, about the middle, is the way on from a plane with too many regions.
function narrower(words) {
  const [left, right, bottom, top] = now.window;
  const [x, y] = [(right - left) / 4, (top - bottom) / 4];
  fail(new Error(words), "Try the middle of it", () => divide([left + x, right - x, bottom + y, top - y]));
}

async function draw(state) {
  $("drawn").hidden = false;
  Object.assign(now, state);
  if (now.note) fail(new Error(now.note));
  $("cell").replaceChildren(make("p", { class: "hint" }, "Click a cell to see what the network is on it."));
  delete $("cell").dataset.cell;
  const shown = cells.show(now, now.images.map(thumbnail));
  legend();
  await shown;
  document.body.dataset.plane = now.key;
}

function count({ kind, seen }) {
  const whole = (number) => number.toLocaleString("en");
  const more = now.cells > now.regions ? `, which ${classes() ? "the decision boundary divides" : "level sets divide"} into ${whole(now.cells)} cells` : "";
  const shown = kind === "cells" ? `${whole(seen)} cells are in view.`
    : `${whole(seen)} cells are in view: every pixel has the color of the cell at its middle; zoom in to see them.`;
  $("count").textContent = `${whole(now.regions)} regions${more}. ${shown}`;
}

const classes = () => about.classes.length > 0;
const groupName = (number) => classes() ? about.classes[number] : now.bands[number].map((end) => told(end)).join(" to ");
const legend = () => $("legend").replaceChildren(...cells.legend(operatorName));

async function choose(number) {
  const turn = ++cellAsked;
  try {
    const found = await get("plane/cell", { key: now.key, cell: number });
    if (turn === cellAsked) tell(found);
  } catch (error) {
    fail(error);
  }
}

function tell(found) {
  const keep = make("button", { type: "button", click: () => keepCenter(found.cell) }, "Explain this point");
  const output = about.outputs[found.unit];
  const said = about.pictured ? "" : classes() ? groupName(found.group) : `${output} ${told(found.outputs[0].value, 4)}`;
  // The entries of a picture say nothing alone: in place of the template of one, all of them.
  const [right, words] = about.pictured ? [made(found, "what it gives there"), stretch(found)]
    : [tile(numbers(found.template), about.kind, { title: `template of ${output}, the same all over the cell`, small: true }), sum(found)];
  $("cell").replaceChildren(
    make("div", { class: "head" }, make("h3", {}, `Cell ${found.cell}${said && ": "}`, make("strong", {}, said)), keep),
    make("div", { class: "pair" },
      tile(numbers(found.input), about.kind, { signed: false, title: "at its center", small: true }), right),
    words,
    make("h4", {}, "Codes: units on each piece"), codes(found.codes),
    make("h4", {}, "Its sides are boundaries of"), sides(found.sides),
  );
  $("cell").dataset.cell = found.cell;
  cells.outline(found.sides.map(({ ends }) => ends), found.center);
}

const sum = (found) => make("p", {}, `⟨A, x⟩ + b = ${told(found.inner, 5)} ${found.offset < 0 ? "−" : "+"} ${told(Math.abs(found.offset), 4)} = `,
  make("b", {}, told(found.inner + found.offset, 5)), " at the center");

const stretch = (found) => found.log_volume === null ? "" : make("p", {}, "A small volume of inputs becomes one ",
  make("b", {}, told(Math.exp(found.log_volume), 4)), ` times as large${about.ending && `, before its ${about.ending}`}, the same all over the cell`);

function codes(rows) {
  return make("table", {}, ...rows.map(({ operator, units, pieces, counts }) => {
    const words = counts === null ? `${pieces} pieces` : pieces === 2 ? `${counts[1]} of ${units} active` : counts.join(" · ");
    const bar = make("i", { class: "bar" });
    bar.style.width = counts !== null && pieces === 2 ? `${(100 * counts[1]) / units}%` : "0";
    return make("tr", {}, make("th", {}, operatorName(operator)), make("td", {}, bar), make("td", { class: "number" }, words));
  }));
}

function sides(rows) {
  return make("ol", { class: "sides" }, ...rows.map(({ operator, unit, across, ends, group: beyond }, place) => {
    const words = operator === null ? "the rim of this view"
      : unit === null ? (classes() ? "the decision boundary" : "a level set") : `${operatorName(operator)}, unit ${unit.length > 1 ? `(${unit.join(", ")})` : unit[0]}`;
    const length = Math.hypot(ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]);
    const button = make("button", { type: "button", disabled: across === null,
      title: across === null ? "" : `go to cell ${across}`, click: () => choose(across) },
      words, make("small", {}, across === null ? "" : ` → ${groupName(beyond)}`));
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => cells.mark(ends));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => cells.mark(null));
    return make("li", { value: place + 1 }, button, make("small", {}, `length ${told(length, 2)}`));
  }));
}

async function keepCenter(cell) {
  try {
    const found = await post("plane/cell", { key: now.key, cell });
    $("part").value = "own";
    await showGallery();
    location.hash = found.image;
  } catch (error) {
    fail(error);
  }
}
