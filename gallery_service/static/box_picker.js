// A box round one person in a frame: drawn with the pointer, chosen among those the service proposes, moved with keys.

const dialog = document.getElementById("picker");
const stage = document.getElementById("picker-stage");
const canvas = stage.querySelector("canvas");
const found = stage.querySelector(".picker-found");
const frame = stage.querySelector(".picker-box");
const state = dialog.querySelector(".picker-state");
const use = document.getElementById("picker-use");
const { site, proposes } = document.getElementById("search").dataset;
const token = document.querySelector('meta[name="csrf-token"]')?.content;
const headers = token ? { "X-CSRF-Token": token } : {};
const LONGEST = 1600;  // of the picture as it is drawn, in pixels
const LEAST = 0.01;  // of a side: a click is no box
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let box = null;

// The box in fractions of the picture, null for the whole picture, undefined when nothing was chosen.
export async function pickBox(picture) {
  const { bitmap } = picture;
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  stage.style.width = `calc(62vh * ${canvas.width / canvas.height})`;
  found.replaceChildren();
  state.textContent = "";
  choose(picture.box);
  dialog.returnValue = "cancel";
  dialog.showModal();
  const asking = new AbortController();
  if (proposes === "true") propose(picture, asking.signal);
  await new Promise((closed) => { dialog.addEventListener("close", closed, { once: true }); });
  asking.abort();
  if (dialog.returnValue === "whole") return null;
  return dialog.returnValue === "box" && box ? box : undefined;
}

function place(element, [x1, y1, x2, y2]) {
  Object.assign(element.style, {
    left: `${x1 * 100}%`, top: `${y1 * 100}%`, width: `${(x2 - x1) * 100}%`, height: `${(y2 - y1) * 100}%`,
  });
}

function choose(wanted) {
  box = wanted;
  frame.hidden = !box;
  use.disabled = !box;
  if (box) place(frame, box);
}

async function propose(picture, signal) {
  state.textContent = "Looking for people…";
  const body = new FormData();
  body.append("image", picture.file, "frame");
  try {
    const response = await fetch(`/api/v1/sites/${encodeURIComponent(site)}/detections`, { method: "POST", headers, body, signal });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    // Keys go from left to right; of boxes that overlap the smallest lies on top, else it could not be reached.
    const people = answer.people.toSorted((a, b) => a.box[0] - b.box[0]);
    const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
    const onTop = people.toSorted((a, b) => area(b) - area(a));
    state.textContent = people.length ? `${people.length} found. Choose one, or draw a box.` : "Nobody was found. Draw a box.";
    found.replaceChildren(...people.map((person, index) => {
      const proposal = document.createElement("button");
      proposal.type = "button";
      proposal.setAttribute("aria-label", `Person ${index + 1}`);
      place(proposal, person.box);
      proposal.style.zIndex = onTop.indexOf(person);
      proposal.addEventListener("click", () => { choose(person.box); dialog.close("box"); });
      return proposal;
    }));
  } catch (error) {
    if (!signal.aborted) state.textContent = error.message;
  }
}

const at = (event) => {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const within = (value) => Math.min(1, Math.max(0, value));
  return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
};

let from = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  from = at(event);
});
stage.addEventListener("pointermove", (event) => {
  if (!from) return;
  const to = at(event);
  const [x1, x2] = [from[0], to[0]].sort((a, b) => a - b);
  const [y1, y2] = [from[1], to[1]].sort((a, b) => a - b);
  if (x2 - x1 < LEAST || y2 - y1 < LEAST) return;
  stage.setPointerCapture(event.pointerId);
  choose([x1, y1, x2, y2]);
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { from = null; });

frame.addEventListener("keydown", (event) => {
  const step = KEYS[event.key];
  if (!step) return;
  event.preventDefault();
  const [dx, dy] = step.map((one) => one * LEAST);
  let [x1, y1, x2, y2] = box;
  if (event.shiftKey) {
    x2 = Math.min(1, Math.max(x1 + LEAST, x2 + dx));
    y2 = Math.min(1, Math.max(y1 + LEAST, y2 + dy));
  } else {
    const right = Math.min(1 - x2, Math.max(-x1, dx));
    const down = Math.min(1 - y2, Math.max(-y1, dy));
    [x1, y1, x2, y2] = [x1 + right, y1 + down, x2 + right, y2 + down];
  }
  choose([x1, y1, x2, y2]);
});
