// What one input is answered, and why: outputs, templates, the split of the offset, and its neighbors by depth.

import { get, sleep } from "./api.js";
import { make, nameFeatures, numbers, tile, told } from "./drawn/draw.js";
import { card } from "./gallery.js";

const $ = (id) => document.getElementById(id);
const MOST_OPERATORS = 12;
let about, asked = 0;

// The output, where it is a picture.
export const made = (found, title) => tile(numbers(found.picture), "picture", { signed: false, title, small: true });

// An operator's name with its kind: "relu layer1.0.relu".
export function operatorName(name) {
  const kind = about.operators.find((record) => record.name === name)?.kind;
  return kind && !name.replace(/#\d+$/, "").endsWith(kind) ? `${kind} ${name}` : name;
}

export function begin(subject) {
  about = subject;
  nameFeatures(about.features, about.rate);
  if (!about.classes.length) $("why-title").textContent = about.outputs.length > 1 ? "Why these values?" : "Why this value?";
}

// Resolves once everything of the input is on the page.
export async function show(image, checkpoint) {
  const number = ++asked;
  const found = await get("explain", { image, checkpoint });
  if (number !== asked) return;
  $("verdict").replaceChildren(tile(numbers(found.input), about.kind, { signed: false, title: found.name }),
    found.picture ? made(found, "what it gives") : verdict(found));
  $("templates").replaceChildren(...templates(found), ...byFrequency(found));
  $("sums").replaceChildren(sums(found));
  $("bias").lastElementChild.replaceChildren(...bias(found));
  document.body.dataset.explained = `${image} ${checkpoint}`;
  await neighbors(image, checkpoint, found.predicted, number);
}

function verdict(found) {
  const said = about.classes[found.predicted]; // values say nothing
  const right = about.classifies && found.label === found.predicted;
  const words = found.label === null || !about.classifies ? "" : right ? "✓ as its label" : `✗ its label is ${about.labels[found.label]}`;
  const sizes = found.outputs.map(({ value }) => Math.abs(value));
  const most = Math.max(...sizes) || 1;
  const rows = found.outputs.map(({ name, value }) => {
    const bar = make("i", { class: value < 0 ? "bar negative" : "bar" });
    bar.style.width = `${(100 * Math.abs(value)) / most}%`;
    return make("tr", {}, make("th", {}, name), make("td", {}, bar), make("td", { class: "number" }, told(value, 4)));
  });
  const rest = found.count - found.outputs.length;
  return make("div", { class: "outputs" },
    make("p", { class: "said" }, said ?? (about.outputs.length > 1 ? "" : told(found.outputs[0].value, 4)),
      make("small", { class: right ? "good" : "" }, words)),
    make("table", {}, ...rows),
    rest > 0 ? make("p", { class: "hint" }, `and ${rest} ${said ? "smaller" : "more"} outputs`) : "");
}

function templates({ templates: [first, second], difference }) {
  const tiles = [tile(numbers(first.slopes), about.kind, { title: `template of ${first.name}` })];
  if (second && !difference) tiles.push(tile(numbers(second.slopes), about.kind, { title: `template of ${second.name}` }));
  if (difference) {
    tiles.push(
      tile(numbers(second.slopes), about.kind, { title: `of the runner-up, ${second.name}` }),
      tile(numbers(difference.slopes), about.kind, { title: `${first.name} minus ${second.name}` }),
      tile(numbers(difference.shares), about.kind, { title: `what each ${about.kind === "picture" ? "pixel" : "number"} adds to the lead` }),
    );
  }
  return tiles;
}

// A signal and its templates by frequency, and what each frequency adds, which adds up to the match.
function byFrequency({ spectra, templates: [first, second], difference }) {
  if (!spectra) return [];
  const { unit, highest } = spectra;
  const steps = numbers(spectra.input).values.length - 1;
  const named = (place) => `${told((highest * place) / steps, 4)} ${unit}`;
  const ends = [`0 ${unit}`, `${told(highest, 4)} ${unit}`];
  const names = second ? `${first.name} (blue) and ${second.name} (orange)` : first.name;
  const adds = difference ? `the match by which ${first.name} leads ${second.name}` : `the match of ${first.name}`;
  return [
    tile(numbers(spectra.input), "lines", { signed: false, title: "the input by frequency, in amplitudes", named, ends }),
    tile(numbers(spectra.templates), "lines", { signed: false, title: `templates by frequency, of ${names}`, named, ends }),
    tile(numbers(spectra.shares), "lines", { title: `what each frequency adds to ${adds}`, named, ends }),
  ];
}

function sums({ templates: found, difference }) {
  const rows = found.map((item) => [item.name, item.inner, item.offset, item.value]);
  if (difference) rows.push([`${difference.winner} − ${difference.loser}`, difference.inner, difference.offset, difference.margin]);
  const head = ["", "match ⟨A, x⟩", "", "offset b", "", "output"].map((words) => make("th", {}, words));
  const body = rows.map(([name, inner, offset, value]) => make("tr", {}, make("th", {}, name),
    ...[told(inner, 5), "+", told(offset, 4), "=", told(value, 5)].map((text) => make("td", { class: "number" }, text))));
  const table = make("table", { class: difference ? "sums led" : "sums" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  const away = difference && difference.distance !== null
    ? make("p", { class: "hint" }, `${difference.loser} would win at a distance of ${told(difference.distance)} from here,`
      + " if the region reaches that far.") : "";
  return make("div", {}, table, away);
}

function bias({ bias: parts, templates: found }) {
  const sorted = [...parts].sort((a, b) => size(b) - size(a)).slice(0, MOST_OPERATORS);
  const shown = parts.filter((part) => sorted.includes(part));
  if (!shown.length) return [make("p", { class: "hint" }, "No operator has an offset here: f(x) = A x.")];
  const most = Math.max(...shown.map(size)) || 1;
  const head = found.map(({ name }) => make("th", { colspan: 2 }, `for ${name}`));
  const rows = shown.map(({ operator, values }) => make("tr", {}, make("th", {}, operatorName(operator)),
    ...values.flatMap((value) => [make("td", {}, signedBar(value, most)), make("td", { class: "number" }, told(value))])));
  const rest = parts.length - shown.length;
  return [make("table", { class: "bias" }, make("thead", {}, make("tr", {}, make("th"), ...head)), make("tbody", {}, ...rows)),
    rest ? make("p", { class: "hint" }, `and ${rest} operators that add less`) : ""];
}

const size = ({ values }) => Math.max(...values.map(Math.abs));

function signedBar(value, most) {
  const bar = make("i", { class: value < 0 ? "negative" : "" });
  bar.style.width = `${(50 * Math.abs(value)) / most}%`;
  if (value < 0) bar.style.right = "50%";
  else bar.style.left = "50%";
  return make("div", { class: "signed" }, bar);
}

async function neighbors(image, checkpoint, predicted, number) {
  for (;;) {
    const found = await get("neighbors", { image, checkpoint });
    if (number !== asked) return;
    if (found.state === "failed") throw new Error(found.words);
    const searched = found.searched < found.available ? `${found.searched} of ${found.available}` : `all ${found.searched}`;
    if (found.rows) {
      $("near-hint").textContent = `The nearest of ${searched} training inputs; below each, how far it is: the share of `
        + `units with another code.${about.classifies ? " Filled: of the class that the network chose." : ""}`;
      if (found.left_out.length) {
        const names = found.left_out.map((name) => operatorName(name)).join(", ");
        $("near-hint").textContent += ` Left out, as nothing there ever switches on these inputs: ${names}.`;
      }
      $("near-rows").replaceChildren(...found.rows.map((row) => depth(row, predicted)));
      $("near-rows").dataset.shown = `${image} ${checkpoint}`;
      return;
    }
    $("near-hint").textContent = `Encoding ${searched} training inputs: ${Math.round(100 * found.share)}%`;
    await sleep(250);
  }
}

function depth({ operator, near }, predicted) {
  const same = near.filter(({ label }) => label === predicted).length;
  const title = operator === null ? "the inputs themselves" : operatorName(operator);
  const cards = near.map(({ image, label, targets, distance }) => {
    const link = card({ image, label, name: image.replace("train/", "training ") }, told(distance, 2));
    if (label !== null && label === predicted && about.classifies) link.classList.add("same");
    if (targets || label !== null) link.prepend(make("b", {}, targets || about.labels[label]));
    return link;
  });
  const share = about.classifies
    ? make("small", {}, `${same} of ${near.length} of class ${about.classes[predicted]}`) : "";
  return make("div", { class: "depth" }, make("p", {}, make("b", {}, title), share),
    make("div", { class: "cards" }, ...cards));
}
