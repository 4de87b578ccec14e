// One weight whose optimum lies between two levels, in steps: it hangs at the threshold, and its level jumps.

const UPDATES = 120, LAST = 60, START = 0.5, RATES = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
const WIDTH = 480, HEIGHT = 210, LEFT = 34, RIGHT = 10, BOTTOM = 34, TOP = 12;
const x = update => LEFT + update / UPDATES * (WIDTH - LEFT - RIGHT);
const y = place => HEIGHT - BOTTOM - (place + 0.1) / 1.2 * (HEIGHT - BOTTOM - TOP);

/** The weight and its quantized value before each update by the straight-through gradient of a squared error. */
export function descend(optimum, rate) {
  const path = [];
  for (let weight = START, i = 0; i <= UPDATES; i++) {
    const quantized = Math.floor(weight + 0.5);
    path.push({ weight, quantized });
    weight -= rate * (quantized - optimum);
  }
  return path;
}

export function render({ el }) {
  const ticks = [0, 0.5, 1].map(v => `<text x="${LEFT - 6}" y="${y(v) + 4}" text-anchor="end">${v}</text>`);
  const times = [0, 30, 60, 90, 120].map(v =>
    `<text x="${x(v)}" y="${HEIGHT - BOTTOM + 14}" text-anchor="middle">${v}</text>`);
  el.innerHTML = `<label>optimum <input type="range" min="0.05" max="0.95" step="0.05" value="0.3"></label>
    <label>learning rate <select>${RATES.map(rate => `<option>${rate}</option>`).join("")}</select></label>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">${ticks.join("")}${times.join("")}
      <line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>
      <text x="${(LEFT + WIDTH) / 2}" y="${HEIGHT - 4}" text-anchor="middle">update</text><g class="lines"></g></svg>
    <p role="status"></p>`;
  const optimum = el.querySelector("input"), rate = el.querySelector("select");

  function draw() {
    const best = Number(optimum.value), path = descend(best, Number(rate.value)), last = path.slice(-LAST);
    let stairs = "", curve = "";
    path.forEach(({ weight, quantized }, i) => {
      stairs += i ? `H${x(i).toFixed(1)}V${y(quantized).toFixed(1)}` : `M${x(0)} ${y(quantized)}`;
      curve += `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(weight).toFixed(1)}`;
    });
    el.querySelector(".lines").innerHTML = `<path class="curve dotted" d="M${LEFT} ${y(best)}H${WIDTH - RIGHT}"/>
      <path class="curve" style="stroke: var(--orange); stroke-width: 1.5" d="${stairs}"/><path class="stairs" d="${curve}"/>`;
    const weights = last.map(point => point.weight);
    const told = { jumps: last.filter((point, i) => i && point.quantized !== last[i - 1].quantized).length,
      mean: last.reduce((sum, point) => sum + point.quantized, 0) / LAST,
      swing: Math.max(...weights) - Math.min(...weights) };
    const say = (key, digits) => `<b data-told="${key}">${told[key].toFixed(digits)}</b>`;
    el.querySelector("p").innerHTML = `In the last ${LAST} updates the quantized value jumps by a whole step
      ${say("jumps", 0)} times, with a mean of ${say("mean", 3)}; the optimum (dotted) is ${best}. The weight itself swings by
      ${say("swing", 4)} steps.`;
  }

  rate.value = 0.05;
  optimum.oninput = rate.onchange = draw;
  draw();
}

export default { render };
