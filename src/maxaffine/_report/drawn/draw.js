// Arrays as pictures, lines or bars on a canvas, and small pieces of a page.

// ColorBrewer's RdBu, blue for negative numbers: told apart by readers with any common color blindness.
const SIGNED = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d",
  "#b2182b", "#67001f"].map(rgb);
// Paul Tol's muted colors, made for the same readers.
const CLASSES = ["#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499",
  "#bbbbbb"].map(rgb);
const DEPTHS = ["#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154"].map(rgb);
const LIGHTER = 0.35, LIGHTER_BANDS = 0.15;
const LINES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"];
const SHARE = 0.995; // of the numbers of a template that lie within its colors
const PLOT = 168; // height of lines and bars, in pixels

function rgb(color) {
  return [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
}
const css = (parts) => `rgb(${parts.map(Math.round).join(" ")})`;
const mixed = (a, b, share) => a.map((part, place) => part + (b[place] - part) * share);

function along(stops, share) {
  const place = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  return mixed(stops[low], stops[low + 1], place - low);
}

export const classColor = (number) => css(mixed(CLASSES[number % CLASSES.length], [255, 255, 255], LIGHTER));
export const bandColor = (share) => css(mixed(along([...DEPTHS].reverse(), share), [255, 255, 255], LIGHTER_BANDS));
export const depthColor = (share) => css(mixed(along(DEPTHS, share), [255, 255, 255], 0.4));

// Numbers as people read them, with a true minus sign.
export function told(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : Number(value.toPrecision(digits));
  return String(text).replace("-", "−");
}

// The numbers of an array that Python wrote: {shape, values}.
export function numbers({ shape, type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const kinds = { f4: Float32Array, f8: Float64Array, i2: Int16Array, i4: Int32Array };
  return { shape, values: new kinds[type](bytes.buffer) };
}

// An element: tag, attributes (functions are listeners), children.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// What the entries of an input are called: columns of a table, moments of a signal with a sampling rate.
let features = [], rate = null;
export function nameFeatures(names, samples = null) {
  [features, rate] = [names, samples];
}
const entry = (place) => features[place] ?? (rate ? `${told(place / rate, 4)} s` : `number ${place}`);

// A canvas of {shape, values} with its words; signed ones get the scale of their colors below. kind: picture, lines or
// bars; named: what to call an entry of lines or bars; ends: what stands below the first and the last.
export function tile(found, kind, { signed = true, title = "", small = false, named = entry, ends = null } = {}) {
  const canvas = make("canvas", { role: "img" });
  const end = signed ? (kind === "picture" ? quantile(flat(found).values) : largest(found.values)) || 1 : 1;
  canvas.setAttribute("aria-label", signed ? `${title}, from ${told(-end)} to ${told(end)}` : title);
  const show = { picture, lines, bars }[kind];
  show(canvas, found, signed, end, named);
  const parts = [canvas, make("figcaption", {}, title)];
  if (signed && kind === "picture") {
    parts.push(make("div", { class: "scale", "aria-hidden": "true" }, make("span", {}, told(-end, 2)),
      make("i"), make("span", {}, `+${told(end, 2)}`)));
  }
  if (kind === "lines" && !ends && rate) ends = ["0 s", `${told(length(found) / rate)} s`];
  if (ends) parts.splice(1, 0, make("div", { class: "ends", "aria-hidden": "true" }, ...ends.map((words) => make("span", {}, words))));
  return make("figure", { class: small ? "tile small" : "tile" }, ...parts);
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

function quantile(values) {
  const sizes = Float64Array.from(values, Math.abs).sort();
  return sizes[Math.min(sizes.length - 1, Math.floor(SHARE * sizes.length))] || sizes[sizes.length - 1];
}

// (C, H, W) summed over its channels: the response to a gray change.
function flat({ shape, values }) {
  if (shape.length === 2) return { height: shape[0], width: shape[1], values };
  const [channels, height, width] = shape;
  const sum = new Float64Array(height * width);
  for (let place = 0; place < channels * sum.length; place++) sum[place % sum.length] += values[place];
  return { height, width, values: sum };
}

function picture(canvas, found, signed, end) {
  const { height, width, values } = flat(found);
  const channels = found.shape.length === 3 ? found.shape[0] : 1;
  const count = height * width;
  const low = Math.min(0, ...range(found.values)), high = Math.max(1, ...range(found.values));
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let place = 0; place < count; place++) {
    let color;
    if (signed) color = along(SIGNED, 0.5 + values[place] / (2 * end));
    else if (channels === 3) color = [0, 1, 2].map((part) => gray(found.values[place + part * count], low, high));
    else color = Array(3).fill(gray(values[place] / channels, low, high));
    image.data.set([...color, 255], 4 * place);
  }
  context.putImageData(image, 0, 0);
  canvas.classList.add("pixels");
  tips(canvas, (x, y) => {
    const column = Math.floor(x * width), row = Math.floor(y * height);
    return `row ${row}, column ${column}: ${told(values[row * width + column] / (signed ? 1 : channels), 4)}`;
  });
}

const gray = (value, low, high) => (255 * (value - low)) / (high - low);

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

const length = ({ shape }) => shape[shape.length - 1];

function plot(canvas, found, signed, end, named) {
  const channels = found.shape.length === 2 ? found.shape[0] : 1;
  const count = length(found);
  const [width, height] = [PLOT * 2, PLOT];
  [canvas.width, canvas.height] = [width, height];
  const size = signed ? end : largest(found.values) || 1;
  const low = signed || range(found.values)[0] < 0 ? -size : 0;
  const at = (value) => 4 + ((height - 8) * (size - value)) / (size - low);
  const context = canvas.getContext("2d");
  context.strokeStyle = "#7a8794";
  context.strokeRect(0, at(0), width, 0);
  tips(canvas, (x) => {
    const place = Math.min(count - 1, Math.floor(x * count));
    const here = Array.from({ length: channels }, (_, channel) => told(found.values[channel * count + place], 4));
    return `${named(place)}: ${here.join(", ")}`;
  });
  return { context, at, channels, count, width };
}

function bars(canvas, found, signed, end, named) {
  const { context, at, count, width } = plot(canvas, found, signed, end, named);
  found.values.forEach((value, place) => {
    context.fillStyle = signed ? css(SIGNED[value > 0 ? 9 : 1]) : "#7a8794";
    const [top, bottom] = [Math.min(at(0), at(value)), Math.max(at(0), at(value))];
    context.fillRect((place + 0.1) * (width / count), top, (0.8 * width) / count, bottom - top);
  });
}

function lines(canvas, found, signed, end, named) {
  const { context, at, channels, count, width } = plot(canvas, found, signed, end, named);
  for (let channel = 0; channel < channels; channel++) {
    context.beginPath();
    for (let place = 0; place < count; place++) {
      context.lineTo(((place + 0.5) * width) / count, at(found.values[channel * count + place]));
    }
    context.strokeStyle = LINES[channel % LINES.length];
    context.lineWidth = 1.5;
    context.stroke();
  }
}

// What stands beside the pointer over an element; words(x, y) takes shares of its sides.
export function tips(element, words) {
  let tip = document.querySelector(".tip");
  if (tip === null) document.body.append((tip = make("output", { class: "tip", hidden: true })));
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect();
    const text = words((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    tip.hidden = !text;
    tip.textContent = text ?? "";
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  });
  element.addEventListener("pointerleave", () => (tip.hidden = true));
}
