// Classifies photos with an ONNX file that tlkeras exported, by ONNX Runtime for Node.
//
//   npm ci --ignore-scripts
//   node classify.mjs MODEL.onnx|VERSION_FOLDER PHOTO... [--top 3] [--json]
//   find photos -name "*.jpg" | node classify.mjs MODEL.onnx|VERSION_FOLDER -      # many photos, a name a line
//
// As a module: `const classifier = await load("…/1"); await classifier.classify("cat.jpg")`.

import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const USAGE = "usage: node classify.mjs MODEL.onnx|VERSION_FOLDER PHOTO...|- [--top 3] [--json]";
// ONNX Runtime 1.30 for Node crashes (SIGSEGV) when the command line of its process is longer than about 28,800 bytes.
const LONGEST_COMMAND_LINE = 24_000;

// Upright RGB bytes [height, width, 3] of an image file, transparent areas white, a GIF's black: as tlkeras decodes it.
export async function decode(file) {
  // Colour profiles are ignored in training, so they are here.
  const image = sharp(file, { ignoreIcc: true, limitInputPixels: 120_000_000 });
  const gif = (await image.metadata()).format === "gif";
  const { data: rgba, info } = await image.autoOrient().toColourspace("srgb").ensureAlpha().raw()
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 4) throw new Error(`${info.channels} channels instead of 4`);
  const data = new Uint8Array(info.width * info.height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    for (let channel = from; channel < from + 3; channel++) {
      if (gif) data[to++] = alpha === 0 ? 0 : rgba[channel];
      else data[to++] = Math.floor((rgba[channel] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return { data, width: info.width, height: info.height };
}

// The classifier of an ONNX file or of the version folder that holds one.
export async function load(location) {
  const file = [location, path.join(location, "model.onnx"), path.join(location, "model_half.onnx")]
    .find((candidate) => fs.statSync(candidate, { throwIfNoEntry: false })?.isFile());
  if (!file) throw new Error(`'${location}' is no ONNX file and no folder with a model.onnx`);
  const session = await ort.InferenceSession.create(file);
  const classNames = JSON.parse(metadataOf(file).class_names);

  async function run(photo) {
    const { data, width, height } = await decode(photo);
    const pixels = new ort.Tensor("uint8", data, [1, height, width, 3]);
    const answer = await session.run({ pixels });
    return Object.fromEntries(Object.entries(answer).map(([name, tensor]) => [name, tensor.data]));
  }

  async function classify(photo, top = 3) {
    const { probabilities } = await run(photo);
    const ranked = Array.from(probabilities, (probability, index) => ({ label: classNames[index], probability }))
      .sort((a, b) => b.probability - a.probability).slice(0, top);
    return { ...ranked[0], top: ranked, probabilities: Array.from(probabilities) };
  }

  return { classNames, run, classify };
}

// The metadata_props of an ONNX file. ONNX Runtime for Node does not hand them out, so they are read from the file:
// a ModelProto is a row of fields, each a tag (number * 8 + type) and a value; field 14 holds one {1: key, 2: value}.
export function metadataOf(file) {
  const found = {};
  for (const [field, value] of fieldsOf(fs.readFileSync(file))) {
    if (field !== 14) continue;
    const entry = Object.fromEntries(fieldsOf(value));
    found[entry[1].toString("utf8")] = entry[2].toString("utf8");
  }
  if (found.format !== "tlkeras-onnx") throw new Error(`'${file}' was not written by tlkeras`);
  return found;
}

function* fieldsOf(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++];
      value += (byte % 128) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag % 8;
    if (type === 0) {
      varint();
      continue;
    }
    const length = type === 2 ? varint() : { 1: 8, 5: 4 }[type];
    if (length === undefined || at + length > bytes.length) throw new Error("the file is not a whole ONNX model");
    if (type === 2) yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
    at += length;
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { top: { type: "string", default: "3" }, json: { type: "boolean", default: false } },
  });
  if (Buffer.byteLength(process.argv.join(" ")) > LONGEST_COMMAND_LINE) {
    throw new Error(`more photos than fit a command line (${LONGEST_COMMAND_LINE} bytes): give - and pipe their names in`);
  }
  const [location, ...named] = positionals;
  const photos = named.join() === "-" ? fs.readFileSync(0, "utf8").split("\n").filter(Boolean) : named;
  const top = Number(values.top);
  if (!photos.length || !Number.isInteger(top) || top < 1) throw new Error(USAGE);
  const classifier = await load(location);
  const predictions = [];
  for (const photo of photos) {
    try {
      predictions.push({ path: photo, ...(await classifier.classify(photo, top)) });
    } catch (error) {
      process.exitCode = 1;
      console.error(`skipped: ${photo}: ${error.message}`);
    }
  }
  if (values.json) {
    console.log(JSON.stringify({ predictions }));
    return;
  }
  for (const { path: photo, top: ranked } of predictions) {
    console.log(`${photo}: ${ranked.map(({ label, probability }) => `${label} ${probability.toFixed(3)}`).join("  ")}`);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(fs.realpathSync(process.argv[1])).href) {
  main().catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 2;
  });
}
