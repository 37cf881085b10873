// A divided plane on a canvas, zoomed, moved and pointed at, also with the keys. What is seen is there from the start, or
// is asked for at every view: the cells themselves, or of very many the one at each pixel.

import { bandColor, classColor, depthColor, make, numbers, tips } from "./draw.js";

const SIDE = 640; // of the canvas, in pixels of the page
const MANY = 3000; // from this many cells on, edges are hairlines
const THUMBNAIL = 44;
const MOST_ZOOM = 1e6;
const PAUSE = 120;
const DARKER = 0.8; // pixels between two cells

// What Python wrote of a view, its arrays decoded.
export const decoded = (sent) => Object.fromEntries(
  Object.entries(sent).map(([name, value]) => [name, value?.data === undefined ? value : numbers(value).values]),
);

export class Cells {
  // choose(cell) is called when a cell is clicked, or pointed at where nothing is asked for; name(number) is that of a class
  // or band. ask(left, right, bottom, top, width, height) promises a view; then seen(view) or failed(error) is called.
  constructor(canvas, { choose, name, ask = null, failed = null, seen = null }) {
    Object.assign(this, { canvas, choose, name, ask, failed, seen });
    this.coloring = "answer";
    this.picture = null;
    this.turn = 0;
    this.listen();
  }

  // pictures: sources of the images of the inputs that span the plane; picture: all of it, where nothing is asked for.
  show({ window, anchors, labels = [], operators, bands, shares }, pictures, picture = null) {
    Object.assign(this, { window, anchors, labels, operators, bands, shares, picture });
    this.deepest = Math.max(1, operators.length - 1);
    this.outlined = this.marked = this.hovered = this.cross = this.pointed = null;
    if (picture !== null) this.measure();
    const [width, height] = [window[1] - window[0], window[3] - window[2]];
    const scale = SIDE / Math.max(width, height);
    [this.width, this.height] = [Math.round(width * scale), Math.round(height * scale)];
    const dots = devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [this.width * dots, this.height * dots];
    this.canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    this.pictures = pictures.map((source) => {
      const image = new Image();
      image.onload = () => this.draw();
      image.src = source;
      return image;
    });
    return this.whole();
  }

  whole() {
    this.center = [(this.window[0] + this.window[1]) / 2, (this.window[2] + this.window[3]) / 2];
    this.scale = this.least = this.width / (this.window[1] - this.window[0]);
    return this.look(0);
  }

  // Left, right, bottom, top of what is seen.
  view() {
    const [x, y] = [this.width / this.scale / 2, this.height / this.scale / 2];
    return [this.center[0] - x, this.center[0] + x, this.center[1] - y, this.center[1] + y];
  }

  zoom(factor, about = this.center) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), this.least * MOST_ZOOM);
    const share = this.scale / scale;
    this.center = this.center.map((part, place) => about[place] + (part - about[place]) * share);
    this.scale = scale;
    this.keepInside();
    this.look();
  }

  keepInside() {
    const half = [this.width / this.scale / 2, this.height / this.scale / 2];
    for (const axis of [0, 1]) {
      const [low, high] = [this.window[2 * axis] + half[axis], this.window[2 * axis + 1] - half[axis]];
      this.center[axis] = low > high ? (low + high) / 2 : Math.min(Math.max(this.center[axis], low), high);
    }
  }

  // Ask for what is seen now; meanwhile what was seen is drawn where it belongs.
  async look(pause = PAUSE) {
    const turn = ++this.turn;
    this.draw();
    if (this.ask === null) return;
    await new Promise((done) => setTimeout(done, pause));
    if (turn !== this.turn) return;
    const view = this.view();
    try {
      const found = await this.ask(...view, this.width, this.height);
      if (turn !== this.turn) return;
      this.picture = { ...decoded(found), view };
      this.hovered = null;
      if (found.kind === "cells") this.measure();
      this.seen(this.picture);
      this.draw();
    } catch (error) {
      this.failed(error);
    }
  }

  // The boxes of the cells, which are searched for the one under the pointer.
  measure() {
    const { starts, corners, points } = this.picture;
    const boxes = (this.picture.boxes = new Float64Array(4 * (starts.length - 1)));
    for (let cell = 0; cell < starts.length - 1; cell++) {
      const box = [Infinity, -Infinity, Infinity, -Infinity];
      for (let side = starts[cell]; side < starts[cell + 1]; side++) {
        const [x, y] = [points[2 * corners[side]], points[2 * corners[side] + 1]];
        box[0] = Math.min(box[0], x), box[1] = Math.max(box[1], x);
        box[2] = Math.min(box[2], y), box[3] = Math.max(box[3], y);
      }
      boxes.set(box, 4 * cell);
    }
  }

  // Where, in what was sent, the cell at a point of the plane is; or null.
  at([x, y]) {
    if (this.picture === null) return null;
    if (this.picture.kind === "pixels") {
      const [left, right, bottom, top] = this.picture.view;
      const column = Math.floor(((x - left) / (right - left)) * this.width);
      const row = Math.floor(((top - y) / (top - bottom)) * this.height);
      const inside = column >= 0 && column < this.width && row >= 0 && row < this.height;
      const place = row * this.width + column;
      return inside && this.picture.numbers[place] >= 0 ? place : null;
    }
    const { boxes, starts, corners, points } = this.picture;
    for (let cell = 0; cell < starts.length - 1; cell++) {
      const box = 4 * cell;
      if (x < boxes[box] || x > boxes[box + 1] || y < boxes[box + 2] || y > boxes[box + 3]) continue;
      let inside = true;
      let before = 2 * corners[starts[cell + 1] - 1];
      for (let side = starts[cell]; inside && side < starts[cell + 1]; side++) {
        const here = 2 * corners[side];
        const [acrossX, acrossY] = [points[here] - points[before], points[here + 1] - points[before + 1]];
        inside = acrossX * (y - points[before + 1]) - acrossY * (x - points[before]) >= 0;
        before = here;
      }
      if (inside) return cell;
    }
    return null;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const [left, right, bottom, top] = this.view();
    return [left + across * (right - left), top - down * (top - bottom)];
  }

  open(point) {
    const place = this.at(point);
    if (place !== null) this.choose(this.picture.numbers[place]);
  }

  // The ends of the sides of a cell, by its place in what was sent.
  sides(place) {
    const { starts, corners, points } = this.picture;
    const ring = Array.from(corners.subarray(starts[place], starts[place + 1]), (corner) => [points[2 * corner], points[2 * corner + 1]]);
    return ring.map((point, side) => [point, ring[(side + 1) % ring.length]]);
  }

  // Outline a cell, given the ends of its sides; bring it into view, given its center.
  outline(sides, center = null) {
    this.outlined = sides;
    const [left, right, bottom, top] = this.view();
    if (center !== null && (center[0] < left || center[0] > right || center[1] < bottom || center[1] > top)) {
      this.center = [...center];
      this.keepInside();
      this.look();
    } else this.draw(false);
  }

  mark(ends) {
    this.marked = ends;
    this.draw(false);
  }

  listen() {
    const canvas = this.canvas;
    let held = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      [held, moved] = [[event.clientX, event.clientY], 0];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.picture === null) return;
      if (held !== null && this.scale > this.least) {
        const units = this.width / canvas.getBoundingClientRect().width / this.scale;
        const [x, y] = [event.clientX - held[0], event.clientY - held[1]];
        moved += Math.hypot(x, y);
        this.center = [this.center[0] - x * units, this.center[1] + y * units];
        held = [event.clientX, event.clientY];
        this.keepInside();
        this.look();
      }
      this.point(this.place(event));
    });
    canvas.addEventListener("pointerup", (event) => {
      held = null;
      if (moved < 5) this.open(this.place(event));
    });
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("wheel", (event) => {
      if (this.ask === null && !event.ctrlKey) return; // a long page scrolls
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.place(event));
    }, { passive: false });
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("keydown", (event) => this.pressed(event));
    canvas.addEventListener("blur", () => {
      this.cross = null;
      this.hover(null);
    });
    tips(canvas, () => this.words(this.hovered));
  }

  words(place) {
    if (place === null || this.picture === null) return null;
    return `cell ${this.picture.numbers[place]}: ${this.name(this.picture.groups[place])}`;
  }

  hover(place) {
    this.hovered = place;
    this.draw(false);
  }

  // Hover over a point; where nothing has to be asked for, its cell is told at once.
  point(where) {
    this.pointed = where;
    this.hover(this.at(where));
    if (this.ask === null) this.open(where);
  }

  pressed(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const [left, right, bottom, top] = this.view();
    const from = this.cross ?? this.pointed ?? this.center;
    if (event.key in ways) {
      const step = (event.shiftKey ? 0.1 : 0.02) * (right - left);
      const low = [Math.max(left, this.window[0]), Math.max(bottom, this.window[2])];
      const high = [Math.min(right, this.window[1]), Math.min(top, this.window[3])];
      this.cross = from.map((part, axis) => Math.min(Math.max(part + step * ways[event.key][axis], low[axis]), high[axis]));
      this.point(this.cross);
    } else if (event.key === "Enter" || event.key === " ") this.open(from);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5, from);
    else if (event.key === "-") this.zoom(1 / 1.5, from);
    else if (event.key === "0") this.whole();
    else return;
    event.preventDefault();
  }

  color(kind) {
    this.coloring = kind;
    this.draw();
  }

  colorOf(group) {
    if (this.coloring === "answer") return this.bands.length ? bandColor(group / Math.max(1, this.bands.length - 1)) : classColor(group);
    return group < 0 ? "rgb(238 238 238)" : depthColor(group / this.deepest);
  }

  // What the colors mean: an element each, with the share of the area of an answer.
  legend(operatorName = (name) => name) {
    const rows = this.coloring === "answer"
      ? this.shares.map(([number, share]) => [this.colorOf(number), this.name(number), `${Number((100 * share).toPrecision(2))}%`])
      : this.operators.map((name, place) => [this.colorOf(place), operatorName(name), ""]);
    return rows.map(([color, name, words]) => {
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = color;
      return make("li", {}, swatch, words ? `${name}: ` : name, make("small", {}, words));
    });
  }

  // Painting tens of thousands of cells takes a while, so what lies beneath the outlines is kept until it changes.
  draw(changed = true) {
    if (changed) this.beneath = null;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.picture !== null) this.paint();
    });
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const dots = this.canvas.width / this.width;
    const [left, , , top] = this.view();
    this.onPage = (x, y) => [(x - left) * this.scale, (top - y) * this.scale];
    // On a small screen the canvas is shown smaller than it is, and words must be as large as elsewhere.
    this.enlarged = Math.max(1, this.width / (this.canvas.clientWidth || this.width));
    if (this.beneath === null) {
      this.beneath = new OffscreenCanvas(this.canvas.width, this.canvas.height);
      const below = this.beneath.getContext("2d");
      below.scale(dots, dots);
      if (this.picture.kind === "cells") this.paintCells(below);
      else this.paintPixels(below);
      this.stroke(below, this.picture.boundary, "#111", this.bands.length ? 1.2 : 2.2);
      this.stroke(below, this.picture.surface, "#111", 2.6);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.beneath, 0, 0);
    context.scale(dots, dots);
    if (this.hovered !== null && this.picture.kind === "cells") {
      const path = new Path2D();
      this.trace(path, this.hovered);
      [context.strokeStyle, context.lineWidth] = ["#000", 1.6];
      context.stroke(path);
    }
    if (this.outlined) {
      this.stroke(context, this.outlined.flat(2), "#fff", 5);
      this.stroke(context, this.outlined.flat(2), "#000", 2.2);
    }
    if (this.marked) this.stroke(context, this.marked.flat(), "#d55e00", 5);
    if (this.coloring === "answer") this.paintNames(context);
    this.paintInputs(context);
    if (this.cross) this.paintCross(context);
  }

  paintCells(context) {
    const { groups: answers, depths, ends, points } = this.picture;
    const groups = new Map();
    (this.coloring === "answer" ? answers : depths).forEach((group, cell) => {
      if (!groups.has(group)) groups.set(group, new Path2D());
      this.trace(groups.get(group), cell);
    });
    for (const [group, path] of groups) {
      context.fillStyle = context.strokeStyle = this.colorOf(group);
      context.lineWidth = 0.7; // or the page would shine through between neighbors
      context.fill(path);
      context.stroke(path);
    }
    const path = new Path2D();
    for (let edge = 0; edge < ends.length; edge += 2) {
      path.moveTo(...this.onPage(points[2 * ends[edge]], points[2 * ends[edge] + 1]));
      path.lineTo(...this.onPage(points[2 * ends[edge + 1]], points[2 * ends[edge + 1] + 1]));
    }
    context.strokeStyle = "rgb(20 20 30 / 0.6)";
    context.lineWidth = answers.length < MANY ? 0.7 : 0.25;
    context.stroke(path);
  }

  trace(path, cell) {
    const { starts, corners, points } = this.picture;
    for (let side = starts[cell]; side < starts[cell + 1]; side++) {
      const [x, y] = this.onPage(points[2 * corners[side]], points[2 * corners[side] + 1]);
      if (side === starts[cell]) path.moveTo(x, y);
      else path.lineTo(x, y);
    }
    path.closePath();
  }

  paintPixels(context) {
    const { groups: answers, depths, numbers } = this.picture;
    const groups = this.coloring === "answer" ? answers : depths;
    if (this.picture.drawn !== this.coloring) {
      const image = new ImageData(this.width, this.height);
      const colors = new Map();
      groups.forEach((group, place) => {
        if (!colors.has(group)) colors.set(group, this.colorOf(group).match(/\d+/g).map(Number));
        const edge = numbers[place] !== numbers[place + 1] || numbers[place] !== numbers[place + this.width];
        image.data.set([...colors.get(group).map((part) => (edge ? DARKER : 1) * part), 255], 4 * place);
      });
      this.picture.canvas = new OffscreenCanvas(this.width, this.height);
      this.picture.canvas.getContext("2d").putImageData(image, 0, 0);
      this.picture.drawn = this.coloring;
    }
    const [left, right, bottom, top] = this.picture.view;
    const [x, y] = this.onPage(left, top);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture.canvas, x, y, (right - left) * this.scale, (top - bottom) * this.scale);
  }

  // Segments, four numbers each.
  stroke(context, ends, color, width) {
    const path = new Path2D();
    for (let place = 0; place < ends.length; place += 4) {
      path.moveTo(...this.onPage(ends[place], ends[place + 1]));
      path.lineTo(...this.onPage(ends[place + 2], ends[place + 3]));
    }
    Object.assign(context, { strokeStyle: color, lineWidth: width, lineCap: "round", lineJoin: "round" });
    context.stroke(path);
  }

  // Nobody needs the colors to read the classes or bands.
  paintNames(context) {
    for (const [number, x, y] of this.picture.names) this.write(context, this.name(number), 15, ...this.onPage(x, y));
  }

  paintInputs(context) {
    const middle = [0, 1].map((axis) => this.anchors.reduce((sum, point) => sum + point[axis] / 3, 0));
    const side = THUMBNAIL * this.enlarged;
    context.imageSmoothingEnabled = false;
    this.anchors.forEach((point, place) => {
      const [x, y] = this.onPage(...point);
      if (x < -4 || y < -4 || x > this.width + 4 || y > this.height + 4) return;
      const away = [point[0] - middle[0], middle[1] - point[1]];
      const size = Math.hypot(...away) || 1;
      const corner = [x, y].map((part, axis) => part + (38 * this.enlarged * away[axis]) / size - side / 2)
        .map((part, axis) => Math.min(Math.max(part, 2), [this.width, this.height][axis] - side - 2));
      const image = this.pictures[place];
      if (image?.complete && image.naturalWidth) {
        context.drawImage(image, ...corner, side, side);
        [context.strokeStyle, context.lineWidth] = ["#fff", 2];
        context.strokeRect(...corner, side, side);
      }
      context.beginPath();
      context.arc(x, y, 5 * this.enlarged, 0, 7);
      [context.fillStyle, context.strokeStyle, context.lineWidth] = ["#fff", "#111", 2];
      context.fill();
      context.stroke();
      if (!this.labels[place]) return;
      const [middleX, high, low] = image ? [corner[0] + side / 2, corner[1], corner[1] + side] : [x, y, y + 6 * this.enlarged];
      const line = 14 * this.enlarged;
      this.write(context, this.labels[place], 12, middleX, low + line < this.height ? low : high - line, true);
    });
  }

  // Words about the middle of a place, or below it.
  write(context, words, size, x, y, below = false) {
    context.font = `600 ${size * this.enlarged}px system-ui, sans-serif`;
    [context.textAlign, context.textBaseline, context.lineJoin] = ["center", below ? "top" : "middle", "round"];
    [context.strokeStyle, context.lineWidth, context.fillStyle] = ["rgb(255 255 255 / 0.9)", 4 * this.enlarged, "#111"];
    const half = context.measureText(words).width / 2 + 3;
    const inside = Math.min(Math.max(x, half), this.width - half);
    context.strokeText(words, inside, y);
    context.fillText(words, inside, y);
  }

  paintCross(context) {
    const [x, y] = this.onPage(...this.cross);
    for (const [color, width] of [["#fff", 4], ["#111", 1.5]]) {
      [context.strokeStyle, context.lineWidth] = [color, width];
      context.beginPath();
      context.moveTo(x - 10, y);
      context.lineTo(x + 10, y);
      context.moveTo(x, y - 10);
      context.lineTo(x, y + 10);
      context.stroke();
    }
  }
}
