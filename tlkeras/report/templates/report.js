"use strict";
(() => {
  const panel = document.getElementById("cell-photos");
  const cells = [...document.querySelectorAll("button[data-cell]")];
  const inMatrix = cells.filter((button) => button.dataset.row !== undefined);
  let opened = null;

  const close = (focus) => {
    if (!opened) return;
    opened.setAttribute("aria-expanded", "false");
    panel.hidden = true;
    panel.replaceChildren();
    if (focus) opened.focus();
    opened = null;
  };

  const open = (button) => {
    const again = opened === button;
    close(false);
    if (again) return;
    panel.replaceChildren(document.getElementById(button.dataset.cell).content.cloneNode(true));
    panel.hidden = false;
    panel.querySelector(".close").addEventListener("click", () => close(true));
    button.setAttribute("aria-expanded", "true");
    opened = button;
    panel.scrollIntoView({ block: "nearest" });
  };

  for (const button of cells) button.addEventListener("click", () => open(button));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close(true);
  });

  // One tab stop for the whole matrix; arrow keys go to the next cell that holds photos.
  const stop = (button) => {
    for (const other of inMatrix) other.tabIndex = other === button ? 0 : -1;
  };
  if (inMatrix.length) stop(inMatrix[0]);
  const ways = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  for (const button of inMatrix) {
    button.addEventListener("focus", () => stop(button));
    button.addEventListener("keydown", (event) => {
      const way = ways[event.key];
      if (!way) return;
      event.preventDefault();
      const row = Number(button.dataset.row);
      const column = Number(button.dataset.column);
      const ahead = inMatrix
        .map((other) => [other, Number(other.dataset.row) - row, Number(other.dataset.column) - column])
        .filter(([, down, right]) => (way[0] ? right === 0 && down * way[0] > 0 : down === 0 && right * way[1] > 0))
        .sort((one, other) => Math.abs(one[1] + one[2]) - Math.abs(other[1] + other[2]));
      if (ahead.length) ahead[0][0].focus();
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      getSelection().selectAllChildren(code);
      let copied = false;
      try {
        await navigator.clipboard.writeText(code.textContent);
        copied = true;
      } catch {
        copied = document.execCommand("copy");
      }
      button.textContent = copied ? "Copied" : "Selected";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
})();
