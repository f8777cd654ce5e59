// Runs a model that `onnxvis export NET.onnx -m gradcam --pictures NHWC --normalize` wrote, in the browser.

/** An onnxruntime-web session of the model at a URL or in an ArrayBuffer; `ort`: the onnxruntime-web module. */
export async function load(ort, model) {
  ort.env.wasm.numThreads = 1; // more need a page that is cross-origin isolated
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { ort, session };
}

/**
 * Prediction and heat map of one photo.
 *
 * photo: ImageData (RGBA, any size); target: the class to explain, for a model with such an input (-1: the
 * strongest). Returns the model's outputs by name, each { data, dims }.
 */
export async function explain({ ort, session }, photo, target = -1) {
  const { width, height, data } = photo;
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    pixels.set(data.subarray(4 * i, 4 * i + 3), 3 * i); // without alpha
  }
  const feeds = { pictures: new ort.Tensor("uint8", pixels, [1, height, width, 3]) };
  if (session.inputNames.includes("target")) {
    feeds.target = new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]);
  }
  return session.run(feeds);
}

/** Draws a heat map with numbers in 0..1, from transparent to red, over what is on a canvas. */
export function draw(canvas, heatmap) {
  const [, height, width] = heatmap.dims;
  const shades = new ImageData(width, height);
  heatmap.data.forEach((value, i) => shades.data.set([255, 0, 0, 200 * value], 4 * i));
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(shades, 0, 0);
  canvas.getContext("2d").drawImage(layer, 0, 0, canvas.width, canvas.height);
}
