// What was drawn: strokes as points from 0 to 1, and their picture as the network's training pictures were framed.

const NOTES = {
  mnist: "As MNIST was made: scaled into a box of 20/28 of the picture, its centre of mass in the middle (frame, cross).",
  digits: "As the 8×8 digits were made: scaled to the full height, centred.",
  drawn: "As it is, size and place included.",
};
// Line width as a share of the picture. Those of the data sets are of their pictures, whatever the size drawn.
const WIDTHS = { mnist: 2.4 / 28, digits: 1.15 / 8, drawn: 2.2 / 28 };
const BOXES = { mnist: 20 / 28, digits: 1 };
// A dot is not blown up to a whole digit: the least extent that is scaled to the box.
const LEAST = 0.15;

export const note = (framing) => NOTES[framing];

export const boxOf = (framing) => BOXES[framing];

// Draws strokes on a square of `size` points, moved and scaled by `place`, in lines `width` points wide.
export function drawStrokes(context, strokes, place, width) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width;
  context.strokeStyle = "#fff";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * place.scale + place.x, y * place.scale + place.y]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i + 1 < points.length; i++) {
      const [x, y] = points[i], [nextX, nextY] = points[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points[points.length - 1]);
    context.stroke();
  }
}

// The strokes as a picture of width x height points: a canvas, grey on black.
export function framed(strokes, framing, width, height) {
  const fine = Math.max(1, Math.min(8, Math.floor(512 / Math.max(width, height))));
  const side = Math.min(width, height) * fine;
  const line = WIDTHS[framing] * side;
  const left = (width * fine - side) / 2, top = (height * fine - side) / 2;
  const picture = canvasOf(width * fine, height * fine);
  const context = picture.getContext("2d", { willReadFrequently: true });
  let place = { scale: side, x: left, y: top };
  if (framing in BOXES) place = boxed(strokes, BOXES[framing] * side - line, width * fine / 2, height * fine / 2);
  paint(context, strokes, place, line);
  if (framing === "mnist") {
    const [x, y] = centreOfMass(context);
    // by whole points of the picture, as there
    const whole = (d) => Math.round(d / fine) * fine;
    place = { scale: place.scale, x: place.x + whole(width * fine / 2 - x), y: place.y + whole(height * fine / 2 - y) };
    paint(context, strokes, place, line);
  }
  return averaged(context, width, height, fine);
}

function boxed(strokes, box, middleX, middleY) {
  const xs = strokes.flat().map((p) => p[0]), ys = strokes.flat().map((p) => p[1]);
  const least = (a) => a.reduce((m, v) => Math.min(m, v)), most = (a) => a.reduce((m, v) => Math.max(m, v));
  const [x0, x1, y0, y1] = [least(xs), most(xs), least(ys), most(ys)];
  const scale = box / Math.max(x1 - x0, y1 - y0, LEAST);
  return { scale, x: middleX - (x0 + x1) / 2 * scale, y: middleY - (y0 + y1) / 2 * scale };
}

function paint(context, strokes, place, line) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  drawStrokes(context, strokes, place, line);
}

function centreOfMass(context) {
  const { width, height } = context.canvas;
  const { data } = context.getImageData(0, 0, width, height);
  let sum = 0, sumX = 0, sumY = 0;
  for (let i = 0; i < width * height; i++) {
    const ink = data[4 * i];
    sum += ink;
    sumX += ink * (i % width + 0.5);
    sumY += ink * (Math.floor(i / width) + 0.5);
  }
  return sum ? [sumX / sum, sumY / sum] : [width / 2, height / 2];
}

// Means over fine x fine points: the grey levels of a scan.
function averaged(context, width, height, fine) {
  const from = context.getImageData(0, 0, width * fine, height * fine).data;
  const result = canvasOf(width, height), to = new ImageData(width, height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let dy = 0; dy < fine; dy++)
        for (let dx = 0; dx < fine; dx++) sum += from[4 * ((y * fine + dy) * width * fine + x * fine + dx)];
      to.data.fill(Math.round(sum / (fine * fine)), 4 * (y * width + x), 4 * (y * width + x) + 3);
      to.data[4 * (y * width + x) + 3] = 255;
    }
  result.getContext("2d").putImageData(to, 0, 0);
  return result;
}

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
