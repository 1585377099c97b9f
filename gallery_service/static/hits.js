// The hits of an answer: the keyboard, the clip on hover, and the large view.

const viewer = document.getElementById("viewer");
const video = viewer.querySelector("video");
const HOVER_MS = 350;

const hits = () => [...document.querySelectorAll("#matches .hit")];
const openHit = () => viewer.open && viewer.hit;

// The clip inside a hit: muted, one at a time.

let playing = null;

function stop() {
  playing?.remove();
  playing = null;
}

function play(picture) {
  stop();
  if (!picture.dataset.clip) return;
  playing = document.createElement("video");
  Object.assign(playing, { className: "hit-clip", muted: true, loop: true, playsInline: true, src: picture.dataset.clip });
  playing.setAttribute("aria-hidden", "true");
  picture.append(playing);
  picture.classList.add("waiting");
  const clip = playing;
  clip.addEventListener("playing", () => { clip.classList.add("ready"); picture.classList.remove("waiting"); });
  clip.addEventListener("error", () => { if (playing === clip) stop(); picture.classList.remove("waiting"); });
  clip.play().catch(() => {});  // taken away before it began, or told by the error event
}

let hovering = 0;
document.addEventListener("pointerover", (event) => {
  const picture = event.target.closest?.(".hit-picture");
  if (!picture || event.pointerType !== "mouse" || picture.contains(event.relatedTarget)) return;
  clearTimeout(hovering);
  hovering = setTimeout(() => play(picture), HOVER_MS);
});
document.addEventListener("pointerout", (event) => {
  const picture = event.target.closest?.(".hit-picture");
  if (!picture || event.pointerType !== "mouse" || picture.contains(event.relatedTarget)) return;
  clearTimeout(hovering);
  picture.classList.remove("waiting");
  stop();
});

// The large view. A hit's facts and buttons move into it while it is open, so that there is only one of each.

function look(hit) {
  stop();
  if (openHit()) putBack();
  const picture = hit.querySelector(".hit-picture");
  const facts = hit.querySelector(".hit-facts");
  const image = picture.querySelector("img");
  viewer.hit = hit;
  viewer.querySelector(".viewer-title").textContent = `Match ${hit.querySelector(".hit-rank").textContent}`;
  viewer.querySelector(".viewer-facts").append(facts);
  viewer.querySelector(".viewer-error").hidden = true;
  const still = viewer.querySelector(".viewer-stage img");
  still.src = `${image.src}?opened=true`;  // which is recorded
  still.alt = image.alt;
  video.hidden = !picture.dataset.clip;
  video.removeAttribute("src");
  if (picture.dataset.clip) {
    video.setAttribute("aria-label", `Clip: ${image.alt}`);
    video.src = picture.dataset.clip;
    video.play().catch(() => {});
  } else {
    tell(document.getElementById("search").dataset.clips === "true" ? "The recording is gone." : "Clips are off for this site.");
  }
  const all = hits();
  for (const step of viewer.querySelectorAll("[data-step]")) step.disabled = !all[all.indexOf(hit) + Number(step.dataset.step)];
  if (!viewer.open) viewer.showModal();
}

function tell(text) {
  const words = viewer.querySelector(".viewer-error");
  words.textContent = text;
  words.hidden = false;
}

function putBack() {
  const facts = viewer.querySelector(".viewer-facts > .hit-facts");
  if (facts) viewer.hit.append(facts);
}

function step(by) {
  const all = hits();
  const next = all[all.indexOf(viewer.hit) + by];
  if (next) look(next);
}

video.addEventListener("error", async () => {
  if (!video.hasAttribute("src")) return;
  video.hidden = true;
  const answer = await fetch(video.src).then((response) => response.json()).catch(() => ({}));
  tell(`The clip cannot be played: ${answer.detail ?? "the service did not send it."}`);
});
viewer.addEventListener("close", () => {
  video.pause();
  video.removeAttribute("src");
  putBack();
  viewer.hit.focus({ preventScroll: true });
  viewer.hit.scrollIntoView({ block: "nearest" });
});
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("[data-step]");
  if (button) step(Number(button.dataset.step));
});
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) look(opener.closest(".hit"));
});
// A search from within the large view closes it; its answer lies behind it.
document.addEventListener("htmx:before:request", (event) => {
  if (viewer.open && event.detail.ctx.target?.id === "answer") viewer.close();
});

// Where no investigation is open, the answer to a decision asks for one.
const whichCase = document.getElementById("which-case");
document.addEventListener("htmx:after:swap", (event) => {
  const { target } = event.detail.ctx;
  if (target === "#which-case") {
    if (!whichCase.open) whichCase.showModal();
    whichCase.querySelector("[autofocus]").focus();
  } else if (target.id === "drawer" && whichCase.open) {
    whichCase.close();
  }
});

// A crop that was erased meanwhile says so. Errors of pictures do not bubble.
document.addEventListener("error", (event) => {
  if (event.target.matches?.(".hit-picture img")) event.target.closest(".hit-picture").classList.add("gone");
}, true);

// The keyboard.

function move(key) {
  const all = hits();
  if (!all.length) return;
  const now = all.indexOf(document.activeElement.closest?.(".hit"));
  if (now < 0) { all[0].focus(); return; }
  const top = all[now].offsetTop;
  const columns = all.filter((hit) => hit.offsetTop === top).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  all[Math.min(all.length - 1, Math.max(0, now + by))].focus();
}

const typing = (element) => element.matches?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const other = document.querySelector("dialog[open]:not(#viewer)");
  if (other) return;
  const hit = openHit() || document.activeElement.closest?.(".hit");
  const press = (button) => (openHit() ? viewer : hit)?.querySelector(button)?.click();
  const onButton = event.target.matches("button, a, summary, video");
  const act = {
    "/": () => document.getElementById("file").focus(),
    "?": () => document.getElementById("keys").showModal(),
    ArrowLeft: () => (openHit() ? step(-1) : move(event.key)),
    ArrowRight: () => (openHit() ? step(1) : move(event.key)),
    ArrowUp: () => (openHit() ? null : move(event.key)),
    ArrowDown: () => (openHit() ? null : move(event.key)),
    Enter: () => hit && !onButton && look(hit),
    " ": () => {
      if (!hit || onButton) return false;
      if (openHit()) return video.paused ? video.play() : video.pause();
      return playing && hit.contains(playing) ? stop() : play(hit.querySelector(".hit-picture"));
    },
    c: () => press("[data-decide=confirmed]"),
    x: () => press("[data-decide=rejected]"),
    s: () => press("[data-again]"),
  }[event.key];
  if (!act || (event.target.matches("video") && event.key !== "?")) return;
  if (["Enter", " "].includes(event.key) && (!hit || onButton)) return;
  event.preventDefault();
  act();
});
