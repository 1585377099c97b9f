// The answers of this page's visit, so that Back leads to the one before with its question. They are kept in memory
// only: a query picture is nothing to leave behind in a browser's store.

import * as pictures from "./pictures.js";

const form = document.getElementById("question");
const filters = document.getElementById("filters");
const place = document.getElementById("answer");
const hit = document.getElementById("asked-hit");
const narrow = matchMedia("(max-width: 860px)");

const visits = [{}];
let shown = 0;
history.replaceState({ visit: 0 }, "");

function keep() {
  visits[shown] = {
    nodes: [...place.childNodes], hit: [...hit.childNodes], pictures: pictures.current(), fields: new FormData(form),
    scroll: scrollY,
  };
}

function fill(fields) {
  for (const input of filters.querySelectorAll("input, select")) {
    if (input.type === "checkbox") input.checked = fields.getAll(input.name).includes(input.value);
    else input.value = fields.get(input.name);
  }
}

// Taken out before the new answer comes, so that what was wired to it stays wired.
document.addEventListener("htmx:before:swap", (event) => {
  if (event.detail.ctx.target !== place) return;
  keep();
  place.replaceChildren();
});

document.addEventListener("htmx:after:swap", (event) => {
  const { ctx } = event.detail;
  if (ctx.target !== place) return;
  visits.length = shown + 1;
  shown += 1;
  visits.push({});
  history.pushState({ visit: shown }, "");
  if (hit.firstElementChild) pictures.show([]);
  document.getElementById("spoken").textContent = place.querySelector("#status, .alert")?.textContent ?? "";
  // The answer lies below the question on a narrow screen, and above the match that was clicked.
  if (narrow.matches) place.scrollIntoView();
  else scrollTo({ top: 0 });
});

addEventListener("popstate", (event) => {
  const wanted = visits[event.state?.visit];
  if (!wanted?.nodes) return;
  keep();
  shown = event.state.visit;
  place.replaceChildren(...wanted.nodes);
  hit.replaceChildren(...wanted.hit);
  pictures.show(wanted.pictures);
  fill(wanted.fields);
  scrollTo({ top: wanted.scroll });
});
