// The page that searches a site.

import "./answers.js";
import "./hits.js";

document.addEventListener("click", (event) => {
  const all = event.target.closest("[data-tick]");
  if (!all) return;
  for (const box of document.querySelectorAll('#cameras input[name="camera"]')) box.checked = all.dataset.tick === "all";
});
