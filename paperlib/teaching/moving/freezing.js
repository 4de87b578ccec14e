// Progressive freezing: which layers rest, and what part of the AIWQ and of the weights still trains.

const WIDTH = 420, HEIGHT = 230, LEFT = 46, BOTTOM = 34, TOP = 10;
const place = (low, high, from, to) => value => from + (value - low) / (high - low) * (to - from);

/** The part of the sum of a column that is left in the layers that still train, with this many frozen. */
export function left(layers, ranks, column, frozen) {
  const sum = (total, layer) => total + (layer[column] ?? 0);
  return layers.filter((_, i) => ranks[i] > frozen).reduce(sum, 0) / layers.reduce(sum, 0);
}

export function render({ model, el }) {
  const { layers, orders, colors } = model.get("data"), count = layers.length, color = Object.fromEntries(colors);
  const kinds = colors.map(([kind]) => kind);
  const known = layers.map(layer => layer.aiwq).filter(value => value > 0);
  const low = Math.floor(Math.log10(Math.min(...known))), high = Math.log10(2 * Math.max(...known));
  const y = value => place(low, high, HEIGHT - BOTTOM, TOP)(Math.max(Math.log10(value || 1e-30), low));
  const width = (WIDTH - 8 - LEFT) / count, x = place(0, count, LEFT, WIDTH - 8), part = place(0, 1, HEIGHT - BOTTOM, TOP);
  const powers = Array.from({ length: Math.floor(high) - low + 1 }, (_, i) => low + i);
  const bars = layers.map((layer, i) => `<rect x="${LEFT + (i + 0.1) * width}" width="${0.8 * width}" y="${y(layer.aiwq)}"
    height="${HEIGHT - BOTTOM - y(layer.aiwq)}" stroke="${color[layer.kind]}"><title>${layer.layer}</title></rect>`);
  const text = (x, y, words, anchor = "middle") => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
  el.innerHTML = `<label>frozen layers <input type="range" min="0" max="${count}" step="1"></label>
    <label>order <select>${Object.keys(orders).map(o => `<option>${o}</option>`).join("")}</select></label>
    <div>${kinds.map(kind => `<span class="key" style="background: ${color[kind]}"></span>${kind} `).join("")}</div>
    <div class="panels" style="--narrowest: 17em">
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">${bars.join("")}
      ${powers.map(p => text(LEFT - 5, y(10 ** p) + 4, `1e${p}`, "end")).join("")}
      ${text((LEFT + WIDTH) / 2, HEIGHT - 8, "AIWQ of each layer, hollow: frozen")}</svg>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"><g class="lines"></g>
      <line class="axis" x1="${LEFT}" x2="${WIDTH - 8}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>
      ${[0, 0.25, 0.5, 0.75, 1].map(v => text(LEFT - 5, part(v) + 4, `${100 * v} %`, "end")).join("")}
      ${[0, Math.round(count / 2), count].map(v => text(x(v), HEIGHT - BOTTOM + 13, v)).join("")}
      ${text((LEFT + WIDTH) / 2, HEIGHT - 4, "still training, over the frozen layers")}</svg></div>
    <p role="status"></p>`;
  const frozen = el.querySelector("input"), order = el.querySelector("select");

  function draw() {
    const now = Number(frozen.value), ranks = orders[order.value];
    el.querySelectorAll("rect").forEach((bar, i) =>
      bar.setAttribute("fill", ranks[i] <= now ? "transparent" : color[layers[i].kind]));
    const line = (name, column) => `<path class="curve ${name}" d="${Array.from({ length: count + 1 }, (_, n) =>
      `${n ? "L" : "M"}${x(n).toFixed(1)} ${part(left(layers, ranks, column, n)).toFixed(1)}`).join("")}"/>
      <circle cx="${x(now)}" cy="${part(left(layers, ranks, column, now))}" r="4"/>`;
    el.querySelector(".lines").innerHTML = line("", "aiwq") + line("dashed", "weights");
    const resting = kinds.map(kind => [kind, layers.filter((layer, i) => layer.kind === kind && ranks[i] <= now).length]);
    const told = resting.filter(([, n]) => n).map(([kind, n]) => `${n} ${kind}`).join(", ") || "none";
    const say = column => `<b data-told="${column}">${(100 * left(layers, ranks, column, now)).toFixed(2)}</b> %`;
    el.querySelector("p").innerHTML = `${now} of ${count} layers are frozen (${told}). What still trains has
      ${say("aiwq")} of the sum of AIWQ (solid line) and ${say("weights")} of the weights (dashed).`;
  }

  frozen.value = Math.round(count / 3);
  frozen.oninput = order.onchange = draw;
  draw();
}

export default { render };
