"use strict";
(() => {
  const panels = document.querySelector(".panels");
  if (panels) {
    // Cells are plain links to a place inside a closed <details>; with a script they open it without a jump.
    document.documentElement.classList.add("script");
    const all = [...panels.querySelectorAll("details")];
    const cells = [...document.querySelectorAll(".matrix a")];
    const mark = () => {
      for (const cell of cells) {
        const open = document.getElementById(cell.hash.slice(1)).parentElement.open;
        cell.setAttribute("aria-expanded", String(open));
        cell.parentElement.classList.toggle("open", open);
      }
    };
    const show = (panel) => {
      for (const other of all) other.open = other === panel;
      mark();
    };
    for (const cell of cells) {
      cell.addEventListener("click", (event) => {
        event.preventDefault();
        const panel = document.getElementById(cell.hash.slice(1)).parentElement;
        show(panel.open ? null : panel);
        if (panel.open) panel.scrollIntoView({ block: "nearest" });
      });
    }
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") show(null);
    });
    for (const panel of all) panel.addEventListener("toggle", mark);
    const asked = document.getElementById(location.hash.slice(1));
    show((asked && asked.closest(".panels details")) || all.find((panel) => panel.classList.contains("miss")) || null);
  }

  // Enlarged photos are checkboxes, which need no script; with one, only one is open, and Escape closes it.
  const enlarged = () => [...document.querySelectorAll(".photo input:checked")];
  document.addEventListener("change", (event) => {
    for (const other of enlarged()) other.checked = other === event.target;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !enlarged().length) return;
    for (const open of enlarged()) open.checked = false;
    event.stopImmediatePropagation();
  }, true);

  const map = document.querySelector("svg.map");
  if (map) {
    const box = map.parentElement;
    const tip = box.querySelector(".tip");
    const [picture, words] = tip.children;
    let under = null;
    const hide = () => {
      tip.hidden = true;
      under = null;
    };
    map.addEventListener("pointerover", (event) => {
      const point = event.target.closest("g.miss");
      if (!point || point === under) {
        if (!point) hide();
        return;
      }
      under = point;
      const title = point.querySelector("title");
      words.textContent = title.textContent;
      const shown = document.querySelector(`img[data-picture="${point.dataset.picture}"]`);
      picture.hidden = !shown;
      if (shown) picture.src = shown.src;
      tip.hidden = false;
      const edge = box.getBoundingClientRect();
      const place = point.getBoundingClientRect();
      const left = place.right - edge.left + 6;
      tip.style.left = `${Math.max(0, Math.min(left, edge.width - tip.offsetWidth))}px`;
      const top = place.bottom - edge.top + 6;
      tip.style.top = `${top + tip.offsetHeight > edge.height ? Math.max(0, place.top - edge.top - tip.offsetHeight - 6) : top}px`;
    });
    map.addEventListener("pointerleave", hide);
  }
})();
