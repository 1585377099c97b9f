import { momentOf, span } from "./site_time.js";

const byId = (id) => document.getElementById(id);
const root = byId("search");
const { site, timezone: zone, clips } = root.dataset;
const maxBytes = Number(root.dataset.maxMib) * 1024 * 1024;
const api = `/api/v1/sites/${encodeURIComponent(site)}`;
const cameraBoxes = [...document.querySelectorAll('input[name="camera"]')];

const narrow = window.matchMedia("(max-width: 860px)");

// What is being looked for: {image: File} or {tracklet: match}. Searches made are kept for the Back button.
let query = null;
let running = null;
const searches = [];

// The query.

async function queryImage(file) {
  if (!file) return;
  if (file.size > maxBytes) {
    showError(`This file is larger than ${root.dataset.maxMib.replace(/\.0$/, "")} MiB. Give one crop of one person.`);
    return;
  }
  await search({ image: file, name: file.name || "pasted picture" });
}

function drawPreview(picture, label) {
  const canvas = byId("preview");
  const scale = Math.min(1, 400 / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", label);
  canvas.hidden = false;
  byId("drop-text").replaceChildren("Choose, drop or paste another");
}

// A canvas, not an <img> with a blob: address, which the page's own security policy refuses.
async function showQuery(of) {
  try {
    const source = of.image ?? (await (await fetch(of.tracklet.crop_url)).blob());
    const label = of.image ? `The query: ${of.name}` : `The query: a match from ${of.tracklet.camera_id}`;
    drawPreview(await createImageBitmap(source), label);
  } catch {
    byId("preview").hidden = true;
  }
}

// Asking.

function parameters() {
  const wanted = new URLSearchParams();
  const chosen = cameraBoxes.filter((box) => box.checked);
  if (chosen.length === 0) throw new Error("Choose at least one camera.");
  if (chosen.length < cameraBoxes.length) chosen.forEach((box) => wanted.append("cameras", box.value));
  for (const name of ["since", "until"]) {
    if (byId(name).value) wanted.set(name, momentOf(byId(name).value, zone));
  }
  wanted.set("top_k", byId("top-k").value);
  if (byId("rerank").checked) wanted.set("rerank", "true");
  if (byId("purpose").value.trim()) wanted.set("purpose", byId("purpose").value.trim());
  return wanted;
}

async function ask(of, signal) {
  const wanted = parameters();
  if (of.tracklet) {
    const path = of.tracklet.tracklet_id.split("/").map(encodeURIComponent).join("/");
    return fetch(`${api}/tracklets/${path}/search?${wanted}`, { method: "POST", signal });
  }
  const body = new FormData();
  body.append("image", of.image, "query");
  return fetch(`${api}/search?${wanted}`, { method: "POST", body, signal });
}

async function search(of) {
  query = of;
  byId("submit").disabled = false;
  running?.abort();
  const mine = new AbortController();
  running = mine;
  showQuery(of);
  hideError();
  setBusy(true);
  try {
    const response = await ask(of, mine.signal);
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `The service answered ${response.status}.`);
    searches.push({ of, answer });
    history.pushState({ search: searches.length - 1 }, "");
    show(answer, of);
    // The answer lies below the question on a narrow screen, and above the match that was clicked.
    if (narrow.matches) byId("answer").scrollIntoView();
    else window.scrollTo({ top: 0 });
  } catch (error) {
    if (mine.signal.aborted) return;
    const unreachable = error instanceof TypeError;
    showError(unreachable ? "The service cannot be reached. Is it still running?" : error.message);
    showMatches([]);
    byId("status").textContent = "";
    byId("times").textContent = "";
    byId("error").scrollIntoView({ block: "nearest" });
  } finally {
    if (running === mine) setBusy(false);
  }
}

// Showing.

function show(answer, of) {
  const count = answer.matches.length;
  const what = of.image ? "your picture" : `a match from ${of.tracklet.camera_id}`;
  byId("status").textContent = `${count} ${count === 1 ? "match" : "matches"} for ${what}`;
  byId("times").textContent = count ? `Times in ${zone}` : "";
  byId("nothing").hidden = count > 0;
  showMatches(answer.matches);
}

function showMatches(matches) {
  byId("empty").hidden = true;
  if (!matches.length) byId("matches").replaceChildren();
  else byId("matches").replaceChildren(...matches.map(card));
}

function when(match) {
  return match.first_seen ? span(match.first_seen, match.last_seen ?? match.first_seen, zone) : "Time unknown";
}

function card(match, index) {
  const item = byId("card").content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(`.${name}`);
  const time = when(match).replace("\n", ", ");
  const described = `match ${index + 1}, ${match.camera_id}, ${time}`;
  item.dataset.tracklet = match.tracklet_id;
  part("rank").textContent = index + 1;
  part("camera").textContent = match.camera_id;
  part("score").textContent = match.score.toFixed(3);
  part("score").title = "Cosine similarity, at most 1. Not a probability.";
  part("meter").firstElementChild.style.width = `${Math.max(0, Math.min(1, match.score)) * 100}%`;
  part("when").textContent = when(match);
  const image = item.querySelector("img");
  image.src = match.crop_url;
  image.alt = `Person seen by ${match.camera_id}, ${time}`;
  image.addEventListener("error", () => cardError(item, "This crop is gone; it was erased or replaced."), { once: true });
  part("crop").title = "Search with this match";
  part("crop").setAttribute("aria-label", `Search with ${described}`);
  part("again").setAttribute("aria-label", `Search with ${described}`);
  for (const name of ["crop", "again"]) part(name).addEventListener("click", () => searchWith(match));
  const play = part("play");
  play.setAttribute("aria-label", `Play clip of ${described}`);
  play.setAttribute("aria-expanded", "false");
  if (match.clip_url) {
    play.addEventListener("click", () => toggleClip(item, match));
  } else {
    play.disabled = true;
    play.textContent = clips === "on" ? "Recording gone" : "Clips are off";
  }
  return item;
}

function searchWith(match) {
  search({ tracklet: match });
}

function toggleClip(item, match) {
  const open = !item.classList.contains("playing");
  const clip = item.querySelector(".clip");
  const video = item.querySelector("video");
  const play = item.querySelector(".play");
  item.classList.toggle("playing", open);
  clip.hidden = !open;
  play.textContent = open ? "Close clip" : "Play clip";
  play.setAttribute("aria-expanded", String(open));
  if (!open) {
    video.pause();
    video.removeAttribute("src");
    video.load();
    return;
  }
  item.querySelector(".card-error").hidden = true;
  video.setAttribute("aria-label", `Clip from ${match.camera_id}, ${when(match).replace("\n", ", ")}`);
  video.addEventListener("error", async () => {
    if (!item.classList.contains("playing")) return;
    const answer = await fetch(match.clip_url).then((response) => response.json()).catch(() => ({}));
    cardError(item, `The clip cannot be played: ${answer.detail ?? "the service did not send it."}`);
  }, { once: true });
  video.src = match.clip_url;
  video.play().catch(() => {});  // shown by the error event, or the browser wants a click on its own controls
  item.scrollIntoView({ block: "nearest" });
}

function cardError(item, text) {
  const place = item.querySelector(".card-error");
  place.textContent = text;
  place.hidden = false;
}

function setBusy(busy) {
  root.toggleAttribute("data-busy", busy);
  byId("matches").setAttribute("aria-busy", String(busy));
  if (busy) {
    byId("empty").hidden = true;
    byId("nothing").hidden = true;
    byId("status").textContent = "Searching…";
  }
}

function showError(text) {
  byId("empty").hidden = true;
  byId("error").textContent = text;
  byId("error").hidden = false;
}

function hideError() {
  byId("error").hidden = true;
}

// What people do.

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";  // choosing the same file again is a new search
  queryImage(file);
});

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (query) search(query);
});

byId("clear").addEventListener("click", () => {
  cameraBoxes.forEach((box) => { box.checked = true; });
  byId("since").value = "";
  byId("until").value = "";
  if (query) search(query);
});

document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  queryImage(file);
});

// A picture dropped beside the field must not replace the page.
let depth = 0;
document.addEventListener("dragenter", () => { depth += 1; byId("drop").classList.add("over"); });
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) byId("drop").classList.remove("over");
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  byId("drop").classList.remove("over");
  queryImage(event.dataTransfer.files[0]);
});

window.addEventListener("popstate", (event) => {
  const past = searches[event.state?.search];
  running?.abort();
  setBusy(false);
  hideError();
  if (!past) {
    byId("matches").replaceChildren();
    byId("status").textContent = "";
    byId("times").textContent = "";
    byId("nothing").hidden = true;
    byId("empty").hidden = false;
    return;
  }
  query = past.of;
  showQuery(past.of);
  show(past.answer, past.of);
});

const range = byId("range");
if (range) {
  const [day, times] = span(range.dataset.first, range.dataset.last, zone).split("\n");
  range.textContent = `footage from ${day}${day.endsWith("–") ? "" : ","} ${times}`;
}
if (narrow.matches) byId("filters").open = false;
