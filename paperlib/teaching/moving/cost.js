// Bits for each kind of layer, and what they cost: bit operations and bytes of weights.

const WIDTH = 420, HEIGHT = 130, LEFT = 52, ROWS = ["float", "8 bits", "chosen"], FLOAT = 32;

/** Bit operations of one image and bytes of the weights of a kind's layers, as cost.table counts them. */
export function cost({ macs, weights, sums }, [w, a]) {
  return { bops: macs * (w * a + w + a) + sums, bytes: weights * w / 8 };
}

const total = (kinds, bits, column) => kinds.reduce((sum, kind) => sum + cost(kind, bits(kind))[column], 0);
const short = value => value >= 1000 ? value.toFixed(0) : Number(value.toPrecision(4)).toString();

export function render({ model, el }) {
  const { kinds, bits } = model.get("data"), widths = Object.fromEntries(bits);
  el.innerHTML = `<div>bits of weights / inputs:</div>${kinds.map(({ kind, color, start }) => `<label><span class="key"
      style="background: ${color}"></span>${kind} <select data-kind="${kind}">${bits.map(([b]) =>
        `<option ${b === start ? "selected" : ""}>${b}</option>`).join("")}</select></label>`).join("")}
    <div class="panels" style="--narrowest: 17em"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"></svg>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"></svg></div><p role="status"></p>`;
  const chosen = ({ kind }) => widths[el.querySelector(`[data-kind="${kind}"]`).value];
  const ways = { float: () => [FLOAT, FLOAT], "8 bits": () => [8, 8], chosen };

  function bars(column, unit, title) {
    const sums = ROWS.map(row => total(kinds, ways[row], column) / unit);
    const longest = 1.6 * Math.max(sums[1], sums[2]), scale = (WIDTH - LEFT) / longest;
    return `<text x="${LEFT}" y="13" class="title">${title}</text>` + ROWS.map((row, i) => {
      let from = 0;
      const parts = kinds.map(kind => {
        const size = cost(kind, ways[row](kind))[column] / unit, x = LEFT + Math.min(from, longest) * scale;
        from += size;
        return `<rect x="${x}" width="${LEFT + Math.min(from, longest) * scale - x}" y="${26 + 34 * i}" height="15"
          fill="${kind.color}"/>`;
      });
      const ratio = row === "8 bits" ? "" : ` = ${(sums[i] / sums[1]).toPrecision(3)} × 8 bits`;
      return `<text x="${LEFT - 5}" y="${38 + 34 * i}" text-anchor="end">${row}</text>${parts.join("")}
        <text x="${LEFT}" y="${53 + 34 * i}">${short(sums[i])}${ratio}${sums[i] > longest ? " (cut off)" : ""}</text>`;
    }).join("");
  }

  function draw() {
    const [left, right] = el.querySelectorAll("svg");
    left.innerHTML = bars("bops", 1e6, "10⁶ bit operations, one image");
    right.innerHTML = bars("bytes", 1e3, "kilobytes of weights");
    const say = column => `<b data-told="${column}">${Math.round(total(kinds, chosen, column)).toLocaleString("en")}</b>`;
    const most = kinds.reduce((a, b) => cost(a, chosen(a)).bops > cost(b, chosen(b)).bops ? a : b).kind;
    el.querySelector("p").innerHTML = `With these bits an image takes ${say("bops")} bit operations, most of them in
      layers of kind ${most}, and the weights ${say("bytes")} bytes.`;
  }

  el.querySelectorAll("select").forEach(select => { select.onchange = draw; });
  draw();
}

export default { render };
