// Values on an even grid: levels over the histogram, and what rounding and clipping lose.

const WIDTH = 420, HEIGHT = 230, LEFT = 46, RIGHT = 16, BOTTOM = 34, TOP = 22, BINS = 90, STOPS = 99;
const place = (low, high, from, to) => value => from + (value - low) / (high - low) * (to - from);
const number = value => value ? Number(value.toPrecision(4)).toString() : "0";

/** Levels of a symmetric grid of this many bits: whole steps from -top to top. */
export function levels(top, bits) {
  const last = 2 ** (bits - 1) - 1;
  return Array.from({ length: 2 * last + 1 }, (_, i) => (i - last) * top / last);
}

/** Squared errors of the grid as shares of the squared values, and the share of values beyond its ends. */
export function errors(values, top, bits) {
  const last = 2 ** (bits - 1) - 1, step = top / last;
  let all = 0, rounding = 0, clipping = 0, beyond = 0;
  for (const value of values) {
    const kept = Math.min(Math.max(value, -top), top);
    all += value ** 2;
    rounding += (Math.round(kept / step) * step - kept) ** 2;
    clipping += (kept - value) ** 2;
    beyond += kept !== value;
  }
  return { rounding: rounding / all, clipping: clipping / all, beyond: beyond / values.length };
}

function histogram(values, end) {
  const counts = new Array(BINS).fill(0), x = place(-end, end, LEFT, WIDTH - RIGHT);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor((value + end) / (2 * end) * BINS))]++;
  const y = place(0, Math.max(...counts), HEIGHT - BOTTOM, TOP + 12), width = (WIDTH - RIGHT - LEFT) / BINS;
  const bars = counts.map((count, i) => `<rect x="${LEFT + i * width}" width="${width}" y="${y(count)}"
    height="${HEIGHT - BOTTOM - y(count)}"/>`);
  const ticks = [-end, -end / 2, 0, end / 2, end].map(v =>
    `<text x="${x(v)}" y="${HEIGHT - BOTTOM + 14}" text-anchor="middle">${v.toFixed(2)}</text>`);
  return { x, svg: `<g class="values">${bars.join("")}</g>${ticks.join("")}` };
}

export function render({ model, el }) {
  const bytes = Uint8Array.from(atob(model.get("data").float32), letter => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer), largest = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const tops = Array.from({ length: STOPS }, (_, i) => largest * (i + 2) / (STOPS + 1));
  const drawn = histogram(values, largest), x = place(0, largest, LEFT, WIDTH - RIGHT);
  const y = error => place(-5, 0, HEIGHT - BOTTOM, TOP)(Math.log10(Math.max(error, 1e-5)));
  const axes = `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>`;
  el.innerHTML = `<label>bits <select>${[2, 3, 4, 5, 6, 8].map(b => `<option>${b}</option>`).join("")}</select></label>
    <label>last level <input type="range" min="0" max="${STOPS - 1}" step="1"></label>
    <div class="panels" style="--narrowest: 19em"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">
      <text x="${LEFT}" y="13" class="title">levels among the values</text>${drawn.svg}<g class="levels"></g>${axes}
      <text x="${(LEFT + WIDTH) / 2}" y="${HEIGHT - 4}" text-anchor="middle">value</text></svg>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">
      <text x="${LEFT}" y="13" class="title">squared error over the last level</text><g class="errors"></g>${axes}
      ${[0.0001, 0.001, 0.01, 0.1, 1].map(e => `<text x="${LEFT - 5}" y="${y(e) + 4}" text-anchor="end">${e}</text>`).join("")}
      ${[0, 0.25, 0.5, 0.75, 1].map(s => `<text x="${x(s * largest)}" y="${HEIGHT - BOTTOM + 14}"
        text-anchor="middle">${(s * largest).toFixed(2)}</text>`).join("")}
      <text x="${(LEFT + WIDTH) / 2}" y="${HEIGHT - 4}" text-anchor="middle">last level</text></svg></div>
    <p role="status"></p>`;
  const bits = el.querySelector("select"), range = el.querySelector("input"), scans = {};

  function scan(b) {
    return scans[b] ??= tops.map(top => errors(values, top, b));
  }

  function draw() {
    const b = Number(bits.value), i = Number(range.value), top = tops[i], all = scan(b), now = all[i];
    const line = (name, of) => `<path class="curve ${name}" d="${all.map((error, n) =>
      `${n ? "L" : "M"}${x(tops[n]).toFixed(1)} ${y(of(error)).toFixed(1)}`).join("")}"/>`;
    const found = levels(top, b);
    el.querySelector(".levels").innerHTML = found.map(level => `<line class="level" x1="${drawn.x(level)}"
      x2="${drawn.x(level)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" ${found.length > 40 ? 'style="stroke-width: 0.5"' : ""}/>`
    ).join("");
    el.querySelector(".errors").innerHTML = line("dashed", e => e.rounding) + line("dotted", e => e.clipping) +
      line("", e => e.rounding + e.clipping) + `<circle cx="${x(top)}" cy="${y(now.rounding + now.clipping)}" r="5"/>`;
    const best = all.reduce((least, e, n) => e.rounding + e.clipping < all[least].rounding + all[least].clipping ? n : least, 0);
    const told = { top, step: top / (2 ** (b - 1) - 1), error: now.rounding + now.clipping, ...now };
    const say = key => `<b data-told="${key}">${number(told[key])}</b>`;
    el.querySelector("p").innerHTML = `${found.length} levels up to ${say("top")}, a step of ${say("step")}. The squared
      error is ${say("error")} of the squared values: ${say("rounding")} by rounding (dashed), ${say("clipping")} by
      clipping (dotted), which cuts off ${(100 * now.beyond).toFixed(1)} % of the values. The smallest error,
      ${number(all[best].rounding + all[best].clipping)}, has a last level of ${number(tops[best])}.`;
  }

  bits.value = model.get("data").bits;
  range.value = STOPS - 1;
  bits.onchange = range.oninput = draw;
  draw();
}

export default { render };
