"use strict";
// Narrows the page to a task, model or number of shots, and shows what a chart's mark stands for. The page is whole
// without it.
(() => {
  const bar = document.getElementById("filters");
  if (bar) {
    const selects = [...bar.querySelectorAll("select")];
    const told = document.getElementById("filtered");
    const parts = [...document.querySelectorAll("[data-task]")];
    const findings = [...document.querySelectorAll(".finding")];
    const apply = () => {
      const shown = new Set();
      let all = 0;
      for (const part of parts) {
        const hidden = selects.some((select) => {
          const own = part.dataset[select.name];
          return select.value !== "all" && own !== undefined && `=${own}` !== select.value;
        });
        part.hidden = hidden;
        if (part.classList.contains("verdict")) {
          all += 1;
          if (!hidden) shown.add(part.dataset.group);
        }
      }
      told.textContent = shown.size === all ? "" : `${shown.size} of ${all} comparisons shown`;
      // A finding stands while any group it is about is shown, and always where it names none.
      for (const finding of findings) {
        const groups = finding.dataset.groups;
        finding.hidden = groups !== undefined && !groups.split(" ").some((group) => shown.has(group));
      }
      const left = findings.filter((finding) => !finding.hidden).length;
      for (const count of document.querySelectorAll(".found")) {
        count.textContent = left === findings.length ? "" : `${left} of ${findings.length} shown.`;
      }
    };
    for (const select of selects) select.addEventListener("change", apply);
    bar.hidden = false;
    apply();
    // The bar stays at the top: what a link or a key leads to must not end up under it.
    const clear = () => { document.documentElement.style.scrollPaddingTop = `${bar.offsetHeight + 8}px`; };
    window.addEventListener("resize", clear);
    clear();
  }

  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = mark === null;
    if (mark === null) return;
    tip.textContent = mark.getAttribute("data-tip");
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 12, room))}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 10)}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
})();
