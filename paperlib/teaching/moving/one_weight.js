// One weight under small updates, and its level at 8, 4 and 2 bits.

const BITS = [8, 4, 2], UPDATE = 0.005, LOW = 0.3025, HIGH = 0.6975;    // no weight lies on a threshold
const WIDTH = 220, HEIGHT = 170, LEFT = 34, BOTTOM = 22, TOP = 22;

/** DuQ's weight quantizer with a range from -1 to 1: 2 ** bits - 1 levels. */
export function quantized(weight, bits) {
  const steps = 2 ** (bits - 1) - 1;
  return Math.round(steps * Math.min(Math.max(weight, -1), 1)) / steps;
}

const x = weight => LEFT + (weight - 0.3) / 0.4 * (WIDTH - LEFT - 8);
const y = level => HEIGHT - BOTTOM - level * (HEIGHT - BOTTOM - TOP - 6);

function staircase(bits) {
  let path = "";
  for (let i = 0; i <= 400; i++) {
    const weight = 0.3 + i / 1000, level = y(quantized(weight, bits));
    path += i ? `H${x(weight).toFixed(1)}V${level.toFixed(1)}` : `M${x(weight).toFixed(1)} ${level.toFixed(1)}`;
  }
  return path;
}

function panel(bits) {
  const ticks = [0, 0.5, 1].map(level => `<text x="${LEFT - 6}" y="${y(level) + 4}" text-anchor="end">${level}</text>`);
  const weights = [0.3, 0.5, 0.7].map(w => `<text x="${x(w)}" y="${HEIGHT - 5}" text-anchor="middle">${w}</text>`);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">
    <text x="${LEFT}" y="13" class="title">${bits} bits: ${2 ** bits - 1} levels</text>${ticks.join("")}${weights.join("")}
    <line class="axis" x1="${LEFT}" x2="${LEFT}" y1="${TOP}" y2="${HEIGHT - BOTTOM + 4}"/>
    <path class="stairs" d="${staircase(bits)}"/><line class="move"/><circle class="before" r="4"/><circle class="now" r="6"/>
  </svg>`;
}

export function render({ el }) {
  el.innerHTML = `<div class="panels">${BITS.map(panel).join("")}</div>
    <label>weight <input type="range" min="${LOW}" max="${HIGH}" step="${UPDATE}"></label>
    <button type="button">Train: many small updates</button><p role="status"></p>`;
  const slider = el.querySelector("input"), button = el.querySelector("button"), said = el.querySelector("p");
  let weight, direction = 1, timer;

  function move(to) {
    const from = weight ?? to, levels = BITS.map(bits => [quantized(from, bits), quantized(to, bits)]);
    weight = to;
    slider.value = to;
    el.querySelectorAll("svg").forEach((svg, i) => {
      const [before, now] = levels[i], set = (name, values) => Object.entries(values).forEach(
        ([key, value]) => svg.querySelector(name).setAttribute(key, value));
      set(".before", { cx: x(from), cy: y(before) });
      set(".now", { cx: x(to), cy: y(now) });
      set(".move", { x1: x(from), y1: y(before), x2: x(to), y2: y(now) });
    });
    said.innerHTML = `The weight goes from ${from.toFixed(4)} to <b>${to.toFixed(4)}</b>. Its level: ` + BITS.map(
      (bits, i) => `at ${bits} bits <b data-bits="${bits}">${levels[i][1].toFixed(4)}</b> ` +
        (levels[i][0] === levels[i][1] ? "(stays)" : `(jumps by ${Math.abs(levels[i][1] - levels[i][0]).toFixed(4)})`)
    ).join(", ") + ".";
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    button.textContent = "Train: many small updates";
  }

  slider.oninput = () => { stop(); move(Number(slider.value)); };
  button.onclick = () => {
    if (timer) return stop();
    button.textContent = "Stop";
    timer = setInterval(() => {
      if (weight + direction * UPDATE > HIGH || weight + direction * UPDATE < LOW) direction = -direction;
      move(weight + direction * UPDATE);
    }, 300);
  };
  move(0.4975);
  move(0.5025);
  return stop;
}

export default { render };
