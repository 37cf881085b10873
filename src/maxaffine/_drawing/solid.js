// Meshes of flat polygons, to be turned around. Every pixel keeps the polygon that is nearest there: nothing is blended,
// edges are where two neighbors differ, what is under the pointer is known, and no graphics card is asked for.
{
  const LIGHT = [-0.36, 0.48, 0.8]; // towards the light: from the left, above, and the eye
  const DARKEST = 0.4; // of a polygon that the light grazes
  const EDGE = 0.5, FEW = 6, MANY = 30; // edges fade where a polygon has fewer pixels than many, and are none below few
  const FRONT = [141, 176, 222], BACK = [226, 174, 116], MARKED = [213, 94, 0];
  const PALETTE = [[136, 204, 238], [68, 170, 153], [221, 204, 119], [204, 102, 119], [170, 68, 153], [153, 153, 51], [120, 120, 190]];
  const SLOW = 45, PAUSE = 160; // milliseconds: a slower picture is coarser while it moves
  const START = { azimuth: -0.9, elevation: 0.45, zoom: 1, shift: [0, 0] };

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const told = (value) => {
    const size = Math.abs(value), far = size !== 0 && (size < 1e-3 || size >= 1e6);
    return String(far ? value.toExponential(2) : Number(value.toPrecision(3))).replace("-", "−");
  };

  // Rows of three along three axes, each enlarged.
  function project(rows, [a, b, c], into, right, up, eye) {
    for (let k = 0; k < rows.length; k += 3) {
      const x = rows[k], y = rows[k + 1], z = rows[k + 2];
      into[k] = right * (a[0] * x + a[1] * y + a[2] * z);
      into[k + 1] = up * (b[0] * x + b[1] * y + b[2] * z);
      into[k + 2] = eye * (c[0] * x + c[1] * y + c[2] * z);
    }
    return into;
  }

  class Solid {
    constructor(root) {
      const it = JSON.parse(root.querySelector("script").textContent);
      Object.assign(this, it, START, { canvas: root.querySelector("canvas"), words: root.querySelector("output") });
      this.read(it);
      this.coloring = "sides";
      this.fast = false; // while it moves
      this.marked = -1;
      this.taken = 0; // milliseconds for the last picture in full
      this.listen(root);
    }

    // Points in lengths of the box that is drawn, counted from its middle.
    read({ data, sizes }) {
      const whole = new Uint16Array(bytes(data.points));
      this.points = Float32Array.from(whole, (place, k) => (place / 65535 - 0.5) * sizes[k % 3]);
      const counts = new Uint16Array(bytes(data.counts));
      this.starts = new Uint32Array(counts.length + 1);
      counts.forEach((count, face) => (this.starts[face + 1] = this.starts[face] + count));
      this.corners = new Uint32Array(bytes(data.corners));
      this.normals = new Int8Array(bytes(data.normals));
      this.parts = new Uint16Array(bytes(data.parts));
      [this.seen, this.turned] = [new Float32Array(this.points.length), new Float32Array(this.normals.length)];
      this.across = 1.02 * Math.hypot(...sizes);
    }

    axes() {
      const [sin, cos] = [Math.sin(this.azimuth), Math.cos(this.azimuth)];
      const [up, flat] = [Math.sin(this.elevation), Math.cos(this.elevation)];
      return [[-sin, cos, 0], [-up * cos, -up * sin, flat], [flat * cos, flat * sin, up]]; // right, up, towards the eye
    }

    // Pixels in a unit of length, and where the middle of the box is.
    view() {
      const scale = (this.zoom * Math.min(this.width, this.height)) / this.across, [x, y] = this.shift;
      return { scale, x: this.width / 2 + scale * x, y: this.height / 2 - scale * y };
    }

    // The nearest polygon at every pixel, -1 where there is none.
    trace(axes) {
      const { seen, starts, corners, width, height } = this;
      const { scale, x, y } = this.view();
      project(this.points, axes, seen, scale, -scale, scale);
      for (let k = 0; k < seen.length; k += 3) (seen[k] += x), (seen[k + 1] += y);
      const normals = project(this.normals, axes, this.turned, 1, -1, 1);
      const ids = new Int32Array(width * height).fill(-1), depths = new Float32Array(width * height).fill(-Infinity);
      for (let face = 0; face < starts.length - 1; face++) {
        const [begin, end] = [starts[face], starts[face + 1]];
        let top = Infinity, bottom = -Infinity, far = Infinity, near = -Infinity;
        for (let corner = begin; corner < end; corner++) {
          const y = seen[3 * corners[corner] + 1], z = seen[3 * corners[corner] + 2];
          if (y < top) top = y;
          if (y > bottom) bottom = y;
          if (z < far) far = z;
          if (z > near) near = z;
        }
        const first = Math.max(0, Math.ceil(top - 0.5)), last = Math.min(height - 1, Math.ceil(bottom - 0.5) - 1);
        if (first > last) continue;
        const facing = normals[3 * face + 2], steep = Math.abs(facing) < 1; // nearly on edge
        const across = steep ? 0 : -normals[3 * face] / facing, down = steep ? 0 : -normals[3 * face + 1] / facing;
        const base = 3 * corners[begin];
        for (let row = first; row <= last; row++) {
          let left = Infinity, right = -Infinity, before = 3 * corners[end - 1];
          for (let corner = begin; corner < end; corner++) {
            const here = 3 * corners[corner], a = seen[before + 1], b = seen[here + 1];
            if (a <= row + 0.5 !== b <= row + 0.5) {
              const x = seen[before] + ((row + 0.5 - a) / (b - a)) * (seen[here] - seen[before]);
              if (x < left) left = x;
              if (x > right) right = x;
            }
            before = here;
          }
          const from = Math.max(0, Math.ceil(left - 0.5)), to = Math.min(width - 1, Math.ceil(right - 0.5) - 1);
          let z = seen[base + 2] + across * (from + 0.5 - seen[base]) + down * (row + 0.5 - seen[base + 1]);
          for (let pixel = row * width + from; pixel <= row * width + to; pixel++, z += across) {
            const depth = z < far ? far : z > near ? near : z;
            if (depth > depths[pixel]) {
              depths[pixel] = depth;
              ids[pixel] = face;
            }
          }
        }
      }
      return ids;
    }

    colorOf(face, front) {
      if (face === this.marked) return MARKED;
      if (this.coloring === "sides") return front ? FRONT : BACK;
      return PALETTE[(this.coloring === "parts" ? this.parts[face] : face) % PALETTE.length];
    }

    shades() {
      const { turned } = this, found = new Uint8Array(turned.length);
      for (let face = 0; face < turned.length / 3; face++) {
        const [right, down, eye] = [turned[3 * face], turned[3 * face + 1], turned[3 * face + 2]];
        const light = Math.abs(LIGHT[0] * right - LIGHT[1] * down + LIGHT[2] * eye) / 127;
        const bright = DARKEST + (1 - DARKEST) * Math.min(1, light), color = this.colorOf(face, eye >= 0);
        for (let k = 0; k < 3; k++) found[3 * face + k] = color[k] * bright;
      }
      return found;
    }

    paint() {
      const dots = (devicePixelRatio || 1) * (this.fast && this.taken > SLOW ? Math.max(0.3, Math.sqrt(SLOW / this.taken)) : 1);
      this.dots = dots;
      this.width = this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * dots));
      this.height = this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * dots));
      const begin = performance.now(), axes = this.axes();
      if (this.stale || this.ids.length !== this.width * this.height) this.ids = this.trace(axes);
      this.stale = false;
      const context = this.canvas.getContext("2d");
      this.frame(context, axes);
      const image = new ImageData(this.width, this.height);
      this.fill(image.data, this.shades());
      const layer = new OffscreenCanvas(this.width, this.height);
      layer.getContext("2d").putImageData(image, 0, 0);
      context.drawImage(layer, 0, 0);
      if (!this.fast) this.taken = Math.max(this.taken, performance.now() - begin);
    }

    fill(data, shades) {
      const { ids, width } = this;
      let covered = 0, changes = 1;
      for (let pixel = 0; pixel < ids.length; pixel++) {
        if (ids[pixel] < 0) continue;
        covered++;
        if (ids[pixel] !== ids[pixel + 1]) changes++;
      }
      // Along a row, as many pixels as a polygon is wide lie between two edges.
      const wide = (covered / changes) ** 2, edge = EDGE * Math.min(1, Math.max(0, (wide - FEW) / (MANY - FEW)));
      for (let pixel = 0; pixel < ids.length; pixel++) {
        const face = ids[pixel];
        if (face < 0) continue;
        const right = ids[pixel + 1], below = ids[pixel + width];
        const rim = right === -1 || below === -1, part = face !== right || face !== below ? 1 - (rim ? EDGE : edge) : 1;
        for (let k = 0; k < 3; k++) data[4 * pixel + k] = shades[3 * face + k] * part;
        data[4 * pixel + 3] = 255;
      }
    }

    // The box around the mesh, but for the edges that are nearer than it, with a scale along each axis.
    frame(context, axes) {
      const { sizes, low, high, names, dots } = this, sign = axes[2].map((part) => (part < 0 ? -1 : 1));
      const { scale, x, y } = this.view();
      const at = (corner) => {
        const point = corner.map((side, k) => (side * sizes[k]) / 2);
        return [x + scale * dot(point, axes[0]), y - scale * dot(point, axes[1])];
      };
      const ink = getComputedStyle(this.canvas).color;
      Object.assign(context, { strokeStyle: ink, fillStyle: ink, lineWidth: 0.8 * dots, textBaseline: "middle" });
      context.font = `${12 * dots}px system-ui, sans-serif`;
      const middle = at([0, 0, 0]);
      for (const axis of [0, 1, 2]) {
        const others = [0, 1, 2].filter((k) => k !== axis), edges = [];
        for (const [a, b] of [[-1, -1], [-1, 1], [1, -1], [1, 1]]) {
          const corner = [0, 0, 0];
          [corner[others[0]], corner[others[1]]] = [a, b];
          const [hidden, outer] = [[a, b].every((side, k) => side === sign[others[k]]), a * sign[others[0]] !== b * sign[others[1]]];
          const ends = [-1, 1].map((side) => at(corner.map((own, k) => (k === axis ? side : own))));
          if (outer) edges.push(ends);
          if (hidden) continue;
          context.globalAlpha = 0.4;
          context.beginPath();
          context.moveTo(ends[0][0], ends[0][1]);
          context.lineTo(ends[1][0], ends[1][1]);
          context.stroke();
        }
        // The scale stands at the lowest edge that is seen against the background; that of the height at the leftmost.
        const [start, end] = edges.sort((a, b) => (axis === 2 ? a[0][0] + a[1][0] - b[0][0] - b[1][0] : b[0][1] + b[1][1] - a[0][1] - a[1][1]))[0];
        const way = Math.hypot(end[0] - start[0], end[1] - start[1]);
        if (way < 50 * dots) continue;
        let out = [(end[1] - start[1]) / way, (start[0] - end[0]) / way];
        if (out[0] * ((start[0] + end[0]) / 2 - middle[0]) + out[1] * ((start[1] + end[1]) / 2 - middle[1]) < 0) out = [-out[0], -out[1]];
        context.globalAlpha = 0.9;
        context.textAlign = Math.abs(out[0]) < 0.35 ? "center" : out[0] > 0 ? "left" : "right";
        const write = (words, share, far) => context.fillText(words,
          start[0] + share * (end[0] - start[0]) + far * dots * out[0], start[1] + share * (end[1] - start[1]) + far * dots * out[1]);
        write(told(low[axis]), 0.04, 12);
        write(told(high[axis]), 0.96, 12);
        context.font = `italic 600 ${12 * dots}px system-ui, sans-serif`;
        write(names[axis], 0.5, 14);
        context.font = `${12 * dots}px system-ui, sans-serif`;
      }
      context.globalAlpha = 1;
    }

    // Moving pictures may be coarser; where only colors change, nothing is traced anew.
    draw(moving = false, recolored = false) {
      this.fast = moving;
      this.stale ||= !recolored;
      clearTimeout(this.later);
      if (moving) this.later = setTimeout(() => this.draw(), PAUSE);
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        if (this.canvas.clientWidth) this.paint();
      });
    }

    turn(right, up) {
      this.azimuth -= right;
      this.elevation = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, this.elevation + up));
      this.draw(true);
    }

    move(right, up) {
      const scale = (this.zoom * Math.min(this.canvas.clientWidth, this.canvas.clientHeight)) / this.across;
      this.shift = [this.shift[0] + right / scale, this.shift[1] + up / scale];
      this.draw(true);
    }

    // The point at (x, y), in pixels of the page from the middle, stays where it is.
    enlarge(factor, x = 0, y = 0) {
      const zoom = Math.min(200, Math.max(0.3, this.zoom * factor)), side = Math.min(this.canvas.clientWidth, this.canvas.clientHeight) / this.across;
      const change = 1 / (zoom * side) - 1 / (this.zoom * side);
      this.shift = [this.shift[0] + x * change, this.shift[1] - y * change];
      this.zoom = zoom;
      this.draw(true);
    }

    whole() {
      Object.assign(this, START);
      this.draw();
    }

    tell(pixel) {
      const face = this.ids?.[pixel] ?? -1;
      if (face === this.marked) return;
      this.marked = face;
      if (face < 0) this.words.textContent = this.rest;
      else {
        const middle = [0, 0, 0], corners = this.corners.subarray(this.starts[face], this.starts[face + 1]);
        for (const corner of corners) for (const k of [0, 1, 2]) middle[k] += this.points[3 * corner + k] / corners.length;
        const around = middle.map((part, k) => told(this.low[k] + (part / this.sizes[k] + 0.5) * (this.high[k] - this.low[k])));
        const part = this.count > 1 ? `, of part ${this.parts[face] + 1}` : "";
        this.words.textContent = `${this.piece} ${face + 1} of ${this.starts.length - 1}${part}: ${corners.length} corners, around (${around.join(", ")})`;
      }
      this.draw(false, true);
    }

    // What is in the middle is told, where there is no pointer.
    tellMiddle() {
      if (this.ids) this.tell(Math.floor(this.height / 2) * this.width + Math.floor(this.width / 2));
    }

    listen(root) {
      const { canvas } = this, held = new Map();
      const apart = () => {
        const [a, b] = [...held.values()];
        return Math.hypot(a[0] - b[0], a[1] - b[1]);
      };
      const off = (event) => {
        const box = canvas.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top, box];
      };
      canvas.addEventListener("pointerdown", (event) => {
        held.set(event.pointerId, [event.clientX, event.clientY]);
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        const before = held.get(event.pointerId);
        if (before === undefined) {
          const [x, y, box] = off(event);
          if (this.ids) this.tell(Math.floor((y / box.height) * this.height) * this.width + Math.floor((x / box.width) * this.width));
          return;
        }
        const [right, down] = [event.clientX - before[0], event.clientY - before[1]], width = held.size === 2 ? apart() : 0;
        held.set(event.pointerId, [event.clientX, event.clientY]);
        if (held.size === 2) {
          this.enlarge(apart() / (width || 1));
          this.turn(0, down / 300); // one finger up or down scrolls a long page
        }
        else if (event.shiftKey || event.buttons === 2) this.move(right, -down);
        else this.turn(right / 150, down / 150);
      });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
      canvas.addEventListener("pointerleave", () => this.tell(-1));
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("wheel", (event) => {
        // A long page scrolls, until this was clicked.
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        const [x, y, box] = off(event);
        this.enlarge(Math.exp(-event.deltaY / 400), x - box.width / 2, y - box.height / 2);
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.pressed(event));
      root.querySelector("select")?.addEventListener("change", (event) => {
        this.coloring = event.target.value;
        this.draw(false, true);
      });
      const actions = [() => this.enlarge(1.4), () => this.enlarge(1 / 1.4), () => this.whole()];
      root.querySelectorAll("button").forEach((button, k) => button.addEventListener("click", actions[k]));
      new ResizeObserver(() => this.draw()).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    pressed(event) {
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in ways) {
        const [right, down] = ways[event.key];
        if (event.shiftKey) this.move(20 * right, -20 * down);
        else this.turn(0.1 * right, 0.1 * down);
      } else if (event.key === "+" || event.key === "=") this.enlarge(1.25);
      else if (event.key === "-") this.enlarge(0.8);
      else if (event.key === "0") this.whole();
      else if (event.key === "Enter" || event.key === " ") this.tellMiddle();
      else return;
      event.preventDefault();
    }
  }

  for (const root of document.querySelectorAll(".solid")) new Solid(root);
}
