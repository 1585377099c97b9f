// Plays the clip of a sighting.

const dialog = document.getElementById("player");
const video = dialog.querySelector("video");
const words = dialog.querySelector(".viewer-error");

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-player]");
  if (!opener) return;
  words.hidden = true;
  video.hidden = false;
  video.src = opener.dataset.player;
  dialog.showModal();
  video.play().catch(() => {});  // told by the error event
});
video.addEventListener("error", async () => {
  if (!video.hasAttribute("src")) return;
  video.hidden = true;
  const answer = await fetch(video.src).then((response) => response.json()).catch(() => ({}));
  words.textContent = `The clip cannot be played: ${answer.detail ?? "the service did not send it."}`;
  words.hidden = false;
});
dialog.addEventListener("close", () => {
  video.pause();
  video.removeAttribute("src");
});
