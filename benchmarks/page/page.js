"use strict";

document.documentElement.classList.add("live");

for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  const show = () => {
    slider.style.setProperty("--at", `${input.value}%`);
    input.setAttribute("aria-valuetext", `${input.value} %`);
  };
  input.addEventListener("input", show);
  show();
}

const unfolded = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    unfolded.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of unfolded.splice(0)) details.open = false;
});
