// The page: what is picked, at which moment of the training, and what follows from it.

import { get, sleep } from "./api.js";
import * as gallery from "./gallery.js";
import * as plane from "./plane.js";
import * as why from "./why.js";

const $ = (id) => document.getElementById(id);
const PAUSE = 700;
let about;

// Says what went wrong, with a way on where there is one; everything else goes on.
function fail(error, cure = "", act = null) {
  const box = $("message");
  box.hidden = false;
  box.firstElementChild.textContent = error.message;
  box.querySelectorAll("[data-cure]").forEach((button) => button.remove());
  if (act) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: cure });
    button.dataset.cure = "";
    button.addEventListener("click", () => {
      box.hidden = true;
      act();
    });
    box.insertBefore(button, box.lastElementChild);
  }
}

async function explain() {
  gallery.mark();
  $("why").setAttribute("aria-busy", "true");
  try {
    await why.show(gallery.picked(), Number($("moment").value));
  } catch (error) {
    fail(error);
  }
  $("why").removeAttribute("aria-busy");
}

async function step(place) {
  $("moment").value = place;
  $("moment-name").textContent = about.checkpoints[place];
  $("before").disabled = place === 0;
  $("after").disabled = place === about.checkpoints.length - 1;
  await Promise.all([explain(), plane.moment(place)]);
}

async function play() {
  const button = $("play");
  if (button.getAttribute("aria-pressed") === "true") {
    button.setAttribute("aria-pressed", "false");
    return;
  }
  button.setAttribute("aria-pressed", "true");
  button.textContent = "❚❚";
  const last = about.checkpoints.length - 1;
  let place = Number($("moment").value);
  if (place === last) place = -1;
  while (place < last && button.getAttribute("aria-pressed") === "true") {
    await step(++place);
    await sleep(PAUSE);
  }
  button.setAttribute("aria-pressed", "false");
  button.textContent = "▶";
}

async function begin() {
  about = await get("about");
  $("subject").textContent = `${about.model} on ${about.data}`;
  $("order").textContent = about.order;
  $("order").hidden = !about.order;
  document.title = `${about.model} on ${about.data}, maxaffine explorer`;
  const last = about.checkpoints.length - 1;
  $("moments").hidden = last === 0;
  $("moment").max = last;
  $("moment").addEventListener("input", () => step(Number($("moment").value)));
  $("before").addEventListener("click", () => step(Number($("moment").value) - 1));
  $("after").addEventListener("click", () => step(Number($("moment").value) + 1));
  $("play").addEventListener("click", play);
  gallery.begin(about, fail);
  why.begin(about);
  plane.begin(about, fail);
  addEventListener("hashchange", explain);
  await gallery.show();
  if (!gallery.picked()) history.replaceState(null, "", "#test/0");
  await step(last);
}

$("message").lastElementChild.addEventListener("click", () => ($("message").hidden = true));
begin().catch(fail);
