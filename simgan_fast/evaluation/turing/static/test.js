// The test without a reload between two images. Without this script the form still works.
"use strict";

const QUIET = 200; // milliseconds after a new image in which no answer is taken: a key hit twice is no second answer
const KEYS = { r: "real", arrowleft: "real", s: "synthetic", arrowright: "synthetic" };

const form = document.getElementById("form");
const note = document.getElementById("note");
const { width, height } = document.querySelector(".test").dataset;
let busy = false;
let shown = performance.now();

// Enlarge the images of a room by one whole number of screen pixels, so large that all fit; shrink only where they must.
function fit(room) {
  const images = room.querySelectorAll("img");
  const gap = images.length > 1 ? 4 : 0;
  const { clientWidth, clientHeight } = room;
  let best = 0;
  for (let columns = 1; columns <= images.length; columns++) {
    const rows = Math.ceil(images.length / columns);
    const across = (clientWidth - gap * (columns - 1)) / columns / width;
    const down = (clientHeight - gap * (rows - 1)) / rows / height;
    best = Math.max(best, Math.min(across, down));
  }
  const pixels = best * devicePixelRatio + 1e-6;
  const scale = pixels >= 1 ? Math.floor(pixels) / devicePixelRatio : Math.max(best, 0.05);
  for (const image of images) {
    image.style.width = `${width * scale}px`;
    image.style.height = `${height * scale}px`;
    image.classList.toggle("shrunk", pixels < 1);
  }
}

async function show(due) {
  const image = document.getElementById("image").cloneNode();
  image.src = due.source;
  await image.decode();
  document.getElementById("image").replaceWith(image);
  fit(image.parentElement);
  form.elements.image.value = due.image;
  document.getElementById("number").textContent = due.number;
  document.getElementById("done").value = due.number - 1;
  document.title = `${due.number} of ${due.total}: real or synthetic?`;
  shown = performance.now();
}

async function answer(said) {
  if (busy || performance.now() - shown < QUIET) return;
  busy = true;
  try {
    const body = new URLSearchParams({ image: form.elements.image.value, said });
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.status);
    const due = await response.json();
    if (due.image === null) {
      location.reload();
      return;
    }
    note.textContent = due.counted ? "" : "That image had been answered already; here is the next.";
    await show(due);
  } catch {
    note.textContent = "That did not get through. Nothing is lost: please answer again, or reload the page.";
  }
  busy = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  answer(event.submitter.value);
});
document.addEventListener("keydown", (event) => {
  const said = KEYS[event.key.toLowerCase()];
  if (!said || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  answer(said);
});
addEventListener("pageshow", (event) => event.persisted && location.reload());
const observer = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
document.querySelectorAll(".room").forEach((room) => observer.observe(room));
