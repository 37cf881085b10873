// Planes on a page that holds all their cells, and what is said of each.

import { Cells, decoded } from "./cells.js";
import { make, nameFeatures, tile, told } from "./draw.js";

for (const root of document.querySelectorAll(".plane")) {
  const it = JSON.parse(root.querySelector("script").textContent);
  const [canvas, aside] = [root.querySelector("canvas"), root.querySelector("aside")];
  const picture = decoded(it.picture);
  nameFeatures(it.features ?? []);
  const bytes = it.templates && Uint8Array.from(atob(it.templates.data), (letter) => letter.charCodeAt(0));
  const cells = new Cells(canvas, { choose, name: (number) => it.names[number] });

  function choose(cell) {
    if (root.dataset.cell === String(cell)) return;
    root.dataset.cell = cell;
    cells.outline(cells.sides(cell));
    tell(cell);
  }

  function tell(cell) {
    const { outputs, area, codes } = it.cells[cell];
    const depth = picture.depths[cell];
    const line = (name, value) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, value));
    const facts = [
      ...outputs.map(([name, value]) => line(name, String(value).replace("-", "−"))),
      line("share of the area", `${told(100 * area, 2)}%`),
      line("deepest cut", depth < 0 ? "none" : it.plane.operators[depth]),
    ];
    const units = it.coded.map(([name, total], place) => line(name, `${codes[place]} of ${total}`));
    aside.replaceChildren(
      make("h4", {}, `cell ${cell}: ${it.names[picture.groups[cell]]}`),
      make("table", {}, ...facts),
      bytes ? template(cell) : "",
      make("details", { open: it.coded.length <= 8 },
        make("summary", {}, "Its codes: units not on their first piece (ReLUs that are on)"), make("table", {}, ...units)),
    );
  }

  function template(cell) {
    const { of, kind, width, height, square, ends } = it.templates, count = width * height;
    const values = Float64Array.from(bytes.subarray(cell * count, (cell + 1) * count), (byte) => ((byte - 128) / 127) * ends[cell]);
    const means = square > 1 ? `, means over ${square} × ${square} pixels` : "";
    const shape = height === 1 ? [count] : [height, width];
    return tile({ shape, values }, kind, { title: `template of ${of}${means}` });
  }

  const key = root.querySelector(".key");
  const coloring = root.querySelector("select");
  coloring.addEventListener("change", () => {
    cells.color(coloring.value);
    key.replaceChildren(...cells.legend());
  });
  const [closer, farther, whole] = root.querySelectorAll("button");
  closer.addEventListener("click", () => cells.zoom(1.5));
  farther.addEventListener("click", () => cells.zoom(1 / 1.5));
  whole.addEventListener("click", () => cells.whole());
  cells.show(it.plane, it.inputs, picture);
  key.replaceChildren(...cells.legend());
  cells.point(it.cells[it.start].center);
}
