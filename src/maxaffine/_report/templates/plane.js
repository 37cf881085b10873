(() => {
  const signed = [[33, 102, 172], [178, 24, 43]];
  const blend = (end, share) => end.map(part => Math.round(255 + (part - 255) * share));
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const make = (tag, text) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text });

  function drawTemplate(templates, bytes, cell) {
    const { of, width, height, square, ends } = templates, canvas = make("canvas");
    const value = place => (bytes[cell * width * height + place] - 128) / 127;
    const bars = height === 1, tall = bars ? 61 : height, wide = bars ? width * Math.max(1, Math.round(160 / width)) : width;
    canvas.width = wide; canvas.height = tall;
    const context = canvas.getContext("2d");
    for (let place = 0; place < width * height; place++) {
      const v = value(place), color = signed[v < 0 ? 0 : 1];
      if (bars) {
        const step = wide / width, reach = v * (tall - 1) / 2;
        context.fillStyle = `rgb(${color})`;
        context.fillRect(place * step, tall / 2 - Math.max(0, reach), step, Math.abs(reach));
      } else {
        context.fillStyle = `rgb(${blend(color, Math.min(1, Math.abs(v)))})`;
        context.fillRect(place % width, Math.floor(place / width), 1, 1);
      }
    }
    canvas.setAttribute("role", "img");
    const means = square > 1 ? `, means over ${square} × ${square} pixels` : "";
    const note = `template of ${of}, from −${ends[cell]} (blue) to ${ends[cell]} (red)${means}`;
    canvas.setAttribute("aria-label", note);
    return [canvas, make("div", note)];
  }

  for (const root of document.querySelectorAll(".plane")) {
    const it = JSON.parse(root.querySelector("script").textContent);
    const aside = root.querySelector("aside"), cells = [...root.querySelectorAll(".cell")];
    const bytes = it.templates && Uint8Array.from(atob(it.templates.data), letter => letter.charCodeAt(0));
    const show = place => {
      const cell = it.cells[place], table = make("table"), title = make("h4");
      const row = (name, value) => {
        const line = table.insertRow(), head = make("th", name);
        head.scope = "row"; line.append(head); line.insertCell().textContent = value; line.lastChild.className = "n";
      };
      if (it.classes.length) {
        const swatch = make("span"); swatch.className = "swatch"; swatch.style.background = it.fills[place];
        title.append(swatch, it.classes[place]);
      } else title.textContent = `region ${place + 1}`;
      cell.outputs.forEach(([name, value]) => row(name, String(value).replace("-", "−")));
      row("share of the area", `${Number((100 * cell.area).toPrecision(2))} %`);
      row("deepest cut", cell.depth < 0 ? "none" : it.operators[cell.depth]);
      const codes = make("details"), list = make("table");
      codes.append(make("summary", "Its codes: units not on their first piece (ReLUs that are on)"), list);
      codes.open = it.coded.length <= 8;
      it.coded.forEach(([name, total], number) => {
        const line = list.insertRow(), head = make("th", name);
        head.scope = "row"; line.append(head);
        line.insertCell().textContent = `${cell.codes[number]} of ${total}`; line.lastChild.className = "n";
      });
      const template = bytes ? drawTemplate(it.templates, bytes, place) : [];
      aside.replaceChildren(title, table, ...template, codes);
    };
    const svg = root.querySelector("svg"), at = svg.createSVGPoint();
    let last = null;
    const choose = place => {
      if (place < 0 || place === last) return;
      if (last !== null) cells[last].classList.remove("on");
      last = place;
      cells[place].classList.add("on");
      show(place);
    };
    const point = place => {
      if (place < 0) return;
      choose(place);
      const box = cells[place].getBBox();
      at.x = box.x + box.width / 2; at.y = box.y + box.height / 2;
    };
    svg.addEventListener("pointerover", event => point(cells.indexOf(event.target)));
    svg.addEventListener("click", event => point(cells.indexOf(event.target)));
    svg.addEventListener("keydown", event => {
      if (!(event.key in ways)) return;
      event.preventDefault();
      const { width, height } = svg.viewBox.baseVal, step = event.shiftKey ? 40 : 5;
      at.x = Math.min(width, Math.max(0, at.x + step * ways[event.key][0]));
      at.y = Math.min(height, Math.max(0, at.y + step * ways[event.key][1]));
      choose(cells.findIndex(cell => cell.isPointInFill(at)));
    });
    point(it.start);
  }
})();
