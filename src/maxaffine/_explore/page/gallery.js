// The inputs to pick from, page by page, and uploads. A pick is the part of the address after #, so that "back" works.

import { get, post, thumbnail } from "./api.js";
import { make } from "./drawn/draw.js";

const COUNT = 48;
const MOST_BYTES = 16 * 2 ** 20; // the server cuts off what is larger
const $ = (id) => document.getElementById(id);
let about, fail, start = 0, asked = 0;

export const picked = () => decodeURIComponent(location.hash.slice(1));

// A small picture of an input that can be clicked and dragged.
export function card({ image, label, name }, words = "") {
  const title = [name, label === null ? "" : `class ${about.labels[label]}`].filter(Boolean).join(", ");
  const link = make("a", { href: `#${image}`, title, draggable: "true", class: "card" },
    make("img", { src: thumbnail(image), alt: title, loading: "lazy", draggable: "false" }),
    words && make("span", {}, words));
  link.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", image));
  return link;
}

// Which input a drop brings, or null.
export function dropped(event) {
  const text = event.dataTransfer.getData("text/plain");
  return /^(test|train|own)\/\d+$/.test(text) ? text : null;
}

export async function show() {
  const number = ++asked;
  const part = $("part").value;
  const found = await get("images", { part, label: $("label").value, start, count: COUNT });
  if (number !== asked) return;
  $("thumbs").replaceChildren(...found.images.map((item) => card(item)));
  if (!found.images.length) $("thumbs").append(make("p", { class: "hint" }, "None yet."));
  $("page-name").textContent = found.total ? `${start}–${Math.min(start + COUNT, found.total) - 1} of ${found.total}` : "";
  $("page-before").disabled = start === 0;
  $("page-after").disabled = start + COUNT >= found.total;
  mark();
}

export function mark() {
  for (const link of $("thumbs").children) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

async function upload(file) {
  try {
    if (file.size > MOST_BYTES) throw new Error(`${file.name}: more than 16 MiB; make the file smaller.`);
    const found = await post("upload", { name: file.name }, file);
    $("message").hidden = true; // what was wrong with the file before it
    $("part").value = "own";
    start = 0;
    await show();
    location.hash = found.image;
  } catch (error) {
    fail(error);
  }
  $("file").value = "";
}

export function begin(subject, failed) {
  [about, fail] = [subject, failed];
  const parts = { test: `test (${about.sizes.test})`, train: `training (${about.sizes.train})`, own: "your own" };
  $("part").append(...Object.entries(parts).map(([value, words]) => make("option", { value }, words)));
  $("label").append(make("option", { value: "" }, "any"),
    ...about.labels.map((name, value) => make("option", { value }, name)));
  if (about.kind === "lines") {
    $("upload-words").textContent = about.rate ? `Upload a WAV at ${about.rate} Hz or .npy` : "Upload a WAV or .npy";
    $("file").accept = ".wav,.wave,.npy";
  }
  $("label-choice").hidden = !about.labels.length;
  const again = (to) => {
    start = Math.max(0, to);
    show().catch(fail);
  };
  for (const id of ["part", "label"]) $(id).addEventListener("change", () => again(0));
  $("page-before").addEventListener("click", () => again(start - COUNT));
  $("page-after").addEventListener("click", () => again(start + COUNT));
  $("file").addEventListener("change", () => $("file").files.length && upload($("file").files[0]));
  $("gallery").addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  $("gallery").addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    upload(event.dataTransfer.files[0]);
  });
}
