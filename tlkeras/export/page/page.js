// Classifies photos in the browser with the ONNX file beside this page, by ONNX Runtime Web. Nothing leaves the page.
"use strict";

const SHOWN = 5;
const state = document.getElementById("state");
const input = document.getElementById("files");
const drop = document.getElementById("drop");
const list = document.getElementById("answers");

// For scripts that drive the page: what was answered, in full precision, {file, probabilities} or {file, problem}.
const tlkeras = { answers: [], classify, decode, ready: null };
window.tlkeras = tlkeras;

function say(text, wrong = false) {
  state.textContent = text;
  state.classList.toggle("wrong", wrong);
}

async function load() {
  if (location.protocol === "file:") {
    throw new Error("Browsers let no page read files beside it from the disk. In this folder run " +
      "“python3 -m http.server 8000”, then open http://localhost:8000.");
  }
  const fetched = await fetch("classifier.json");
  if (!fetched.ok) throw new Error(`classifier.json cannot be read (${fetched.status}).`);
  const classifier = await fetched.json();
  ort.env.wasm.numThreads = 1; // more threads need headers that a plain file server does not send
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  return { classifier, session };
}

// Upright RGB bytes [height, width, 3]: what Python's decoder gives for the same file.
async function decode(blob) {
  const start = new TextDecoder("latin1").decode(await blob.slice(0, 4).arrayBuffer());
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none",
  });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  // Transparent areas become white, in a GIF black, as everywhere in tlkeras.
  context.fillStyle = start === "GIF8" ? "black" : "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return { rgb, width, height };
}

// Calibrated probabilities of one image file, in the order of the class names.
async function classify(blob) {
  const { session } = await tlkeras.ready;
  const { rgb, width, height } = await decode(blob);
  const pixels = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const { probabilities } = await session.run({ pixels }, ["probabilities"]);
  return Array.from(probabilities.data);
}

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function bars(names, probabilities) {
  const best = probabilities.map((share, index) => [share, names[index]]).sort((a, b) => b[0] - a[0]).slice(0, SHOWN);
  return element("ol", { className: "bars" }, ...best.map(([share, name]) => {
    const bar = element("div");
    bar.style.setProperty("--share", `${100 * share}%`);
    const track = element("div", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    return element("li", {}, element("span", { className: "name", textContent: name }),
      element("span", { className: "percent", textContent: percent(share) }), track);
  }));
}

function card(file, headline, ...below) {
  const picture = element("img", { src: URL.createObjectURL(file), alt: file.name });
  picture.onload = () => URL.revokeObjectURL(picture.src);
  picture.onerror = () => { URL.revokeObjectURL(picture.src); picture.remove(); };
  const words = element("div", {}, headline, element("p", { className: "quiet file", textContent: file.name }), ...below);
  list.prepend(element("li", {}, picture, words));
}

async function answer(file) {
  const { classifier } = await tlkeras.ready;
  say(`Looking at ${file.name} …`);
  await new Promise((resolve) => setTimeout(resolve, 0)); // let the line appear: the network keeps the page busy
  try {
    const started = performance.now();
    const probabilities = await classify(file);
    const seconds = (performance.now() - started) / 1000;
    const best = probabilities.indexOf(Math.max(...probabilities));
    card(file, element("h2", { textContent: classifier.class_names[best] }), bars(classifier.class_names, probabilities));
    say(`${file.name}: ${classifier.class_names[best]}, ${percent(probabilities[best])}, in ${seconds.toFixed(2)} s`);
    tlkeras.answers.push({ file: file.name, probabilities, seconds });
  } catch (problem) {
    const words = problem.name === "InvalidStateError" || problem.name === "EncodingError"
      ? "This browser cannot read the file as an image." : String(problem.message || problem);
    card(file, element("h2", { className: "wrong", textContent: "No answer" }), element("p", { textContent: words }));
    say(`${file.name}: ${words}`, true);
    tlkeras.answers.push({ file: file.name, problem: words });
  }
}

// One after the other, in the order in which they came.
let queue = Promise.resolve();
function take(files) {
  for (const file of files) queue = queue.then(() => answer(file));
}

function start({ classifier }) {
  const names = classifier.class_names;
  const more = names.length > 12 ? ` and ${names.length - 12} more` : "";
  document.getElementById("classes").textContent = `It knows ${names.slice(0, 12).join(", ")}${more}.`;
  document.getElementById("about").textContent =
    `${classifier.backbone}, ${classifier.size_px} px, ${classifier.weights_precision} weights (licence of the ` +
    `pretrained ones: ${classifier.weights_licence}), exported by tlkeras ${classifier.tlkeras_version}.`;
  input.disabled = false;
  say("Ready.");
  input.addEventListener("change", () => { take([...input.files]); input.value = ""; });
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

tlkeras.ready = load();
tlkeras.ready.then(start, (problem) => say(`The network cannot be loaded. ${problem.message || problem}`, true));
