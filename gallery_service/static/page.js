// What every page does: menus, dialogs, light and dark, and errors that came as something else than HTML.

const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const shown = root.dataset.theme === "auto" ? system : root.dataset.theme;
  const other = shown === "dark" ? "light" : "dark";
  root.dataset.theme = other === system ? "auto" : other;
  localStorage.setItem("theme", root.dataset.theme);
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  event.target.closest("[data-dismiss]")?.closest(".toast").remove();
  // A click beside a dialog closes it.
  if (event.target.matches?.("dialog.dialog")) {
    const { left, right, top, bottom } = event.target.getBoundingClientRect();
    const inside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (!inside) event.target.close("cancel");
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// What a form in a dialog answers may lie behind it.
document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (ctx.response?.status < 400 && ctx.sourceElement?.matches("[data-closes]")) ctx.sourceElement.closest("dialog").close();
});

// An open dialog covers everything outside it, so what there is to tell goes into the one on top.
const toasts = document.getElementById("toasts");
const raiseToasts = () => ([...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body).append(toasts);
new MutationObserver(raiseToasts).observe(toasts, { childList: true });
document.addEventListener("close", raiseToasts, true);

export function toast(text) {
  const item = document.createElement("div");
  item.className = "toast alert";
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet icon-only";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Dismiss");
  close.textContent = "×";
  item.append(words, close);
  toasts.append(item);
}

// Refusals that come before any page is asked (too large, too many, signed out) are JSON.
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (!ctx.response.headers.get("content-type")?.includes("json")) return;
  const said = JSON.parse(ctx.text).detail ?? `The service answered ${ctx.response.status}.`;
  const words = ctx.response.status === 401 ? "You are signed out. Load the page again to sign in." : said;
  if (ctx.target?.id !== "answer") {
    ctx.hx.reswap = "none";
    toast(words);
    return;
  }
  const shown = document.createElement("p");
  shown.textContent = words;
  ctx.text = `<div class="alert" role="alert">${shown.outerHTML}</div>`;
});

document.addEventListener("htmx:error", (event) => {
  if (event.detail.error?.name === "TypeError") toast("The service cannot be reached. Is it still running?");
});

const busy = new WeakMap();
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  busy.set(ctx, ctx.target);  // an answer may go elsewhere
  ctx.target?.setAttribute("aria-busy", "true");
});
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => busy.get(ctx)?.removeAttribute("aria-busy"));
