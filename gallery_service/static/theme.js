// In the head and not a module, so that no page flashes in the other colours first.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
