// The query pictures: chosen, dropped or pasted, each perhaps narrowed to a box. They stay in this page until a search
// sends them.

import { pickBox } from "./box_picker.js";
import { toast } from "./page.js";

const form = document.getElementById("question");
const file = document.getElementById("file");
const list = document.getElementById("pictures");
const drop = document.getElementById("drop");
const { maxMib, maxPictures } = document.getElementById("search").dataset;
const SIDE = 400;  // of a thumbnail, in pixels

// {file, bitmap, box}: the box in fractions of the picture, null for all of it; no bitmap where it cannot be read.
let pictures = [];
let adding = false;

export const current = () => [...pictures];

export function show(wanted) {
  pictures = [...wanted];
  list.hidden = pictures.length === 0;
  list.replaceChildren(...pictures.map(thumbnail), ...(pictures.length && pictures.length < maxPictures ? [addTile()] : []));
  const asked = pictures.length > 0 || document.querySelector("#asked-hit figure") !== null;
  drop.classList.toggle("compact", asked);
  document.getElementById("drop-choose").textContent = asked ? "Choose another" : "Choose a picture";
}

function thumbnail(picture, index) {
  const item = document.createElement("div");
  item.className = "picture";
  item.setAttribute("role", "listitem");
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Query picture ${index + 1}: ${picture.file.name || "pasted"}`);
  if (picture.bitmap) draw(canvas, picture);
  item.append(canvas);
  if (picture.bitmap) {
    item.append(button("crop", `Choose the part of picture ${index + 1} to look at`, "Part", () => narrow(picture)));
  }
  item.append(button("remove", `Remove picture ${index + 1}`, "×", () => {
    show(pictures.filter((one) => one !== picture));
    file.focus();
  }));
  return item;
}

function addTile() {
  const tile = button("add", "Add another picture of the same person", "+", () => { adding = true; file.click(); });
  const item = document.createElement("div");
  item.className = "picture";
  item.setAttribute("role", "listitem");
  item.append(tile);
  return item;
}

function button(kind, label, text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = `picture-${kind}`;
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// A canvas, not an <img> with a blob: address, which the page's own security policy refuses.
function draw(canvas, { bitmap, box }) {
  const [x1, y1, x2, y2] = box ?? [0, 0, 1, 1];
  const width = (x2 - x1) * bitmap.width;
  const height = (y2 - y1) * bitmap.height;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(
    bitmap, x1 * bitmap.width, y1 * bitmap.height, width, height, 0, 0, canvas.width, canvas.height);
}

async function narrow(picture) {
  const box = await pickBox(picture);
  if (box === undefined) return false;
  show(pictures.map((one) => (one === picture ? { ...one, box } : one)));
  form.requestSubmit();
  return true;
}

// Broad pictures are whole frames: which of the people in them is meant must be asked.
const isFrame = (bitmap) => bitmap.width >= 320 && bitmap.width > bitmap.height * 0.8;

async function take(files, more) {
  const images = [...files];
  if (!images.length) return;
  const kept = more ? pictures : [];
  const bytes = [...kept.map((one) => one.file), ...images].reduce((sum, one) => sum + one.size, 0);
  if (bytes > maxMib * 1024 * 1024) {
    toast(`These pictures are larger than ${maxMib} MiB together. Give crops of one person.`);
    return;
  }
  if (kept.length + images.length > maxPictures) {
    toast(`At most ${maxPictures} pictures of one person can be given at once.`);
    return;
  }
  const taken = await Promise.all(images.map(async (one) => ({
    file: one, box: null, bitmap: await createImageBitmap(one).catch(() => null),
  })));
  document.getElementById("asked-hit").replaceChildren();
  show([...kept, ...taken]);
  const frame = taken.find(({ bitmap }) => bitmap && isFrame(bitmap));
  // Left without a choice, the picture stays in the list, and nothing is asked yet.
  if (frame) await narrow(frame);
  else form.requestSubmit();
}

file.addEventListener("change", () => {
  const files = [...file.files];
  file.value = "";  // choosing the same file again is a new search
  take(files, adding);
  adding = false;
});
file.addEventListener("cancel", () => { adding = false; });

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((one) => one.type.startsWith("image/"));
  if (!files.length) return;
  event.preventDefault();
  take(files, false);
});

// A picture dropped beside the field must not replace the page.
let depth = 0;
document.addEventListener("dragenter", () => { depth += 1; drop.classList.add("over"); });
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) drop.classList.remove("over");
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  drop.classList.remove("over");
  take(event.dataTransfer.files, list.contains(event.target));
});

document.addEventListener("click", (event) => {
  if (!event.target.closest("#drop-hit")) return;
  document.getElementById("asked-hit").replaceChildren();
  show(pictures);
  file.focus();
});

form.addEventListener("htmx:config:request", (event) => {
  const { body } = event.detail.ctx.request;
  body.delete("image");
  if (body.has("tracklet") || body.has("refined")) return;
  for (const one of pictures) {
    body.append("image", one.file, one.file.name || "pasted");
    body.append("box", one.box ? one.box.map((side) => side.toFixed(5)).join(",") : "");
  }
});
