// Quantized networks that answer here: programs of paperlib/deploy/browser_program.py, and what the page shows of them.

// {name: program}, where the files of networks/ put themselves; {name: promise of a function that runs it}
const inTheBrowser = { programs: {}, ready: {} };

(() => {
  const SIZE = 32, GAP = 3, BATCH = 10, MEASURED = 300;     // pixels, and milliseconds in which time is taken
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

  /** A program made ready: run(image) takes 32 x 32 x 3 bytes and returns the logits; with the codes that reach each
   * layer, if there is a list for them. */
  inTheBrowser.start = async (wasm, program) => {
    const { exports } = (await WebAssembly.instantiate(bytes(wasm))).instance, tables = bytes(program.tables);
    const missing = program.start + tables.length - exports.memory.buffer.byteLength;
    exports.memory.grow(Math.ceil(missing / 65536));
    const memory = new Uint8Array(exports.memory.buffer);
    memory.set(tables, program.start);
    return function run(image, seen) {
      memory.set(image, program.image);
      for (const [name, ...values] of program.calls) {
        if (name !== "see") exports[name](...values);
        else if (seen) {
          const [layer, address, height, width, channels] = values;
          const codes = new Int16Array(memory.buffer, address, height * width * channels).slice();
          seen.push({ layer, codes, height, width, channels });
        }
      }
      return Array.from(new Int32Array(memory.buffer, program.logits, program.classes), logit => logit / program.one);
    };
  };

  function loaded(name) {
    return new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = `networks/${name}.js`;
      script.onload = () => done(inTheBrowser.programs[name]);
      script.onerror = () => fail(new Error(`${script.src} is not there`));
      document.head.append(script);
    });
  }

  function shares(logits) {
    const most = Math.max(...logits), powers = logits.map(logit => Math.exp(logit - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map(power => power / sum);
  }

  /** Milliseconds for a picture, the mean of the fastest batch. */
  async function timed(run, image) {
    const end = performance.now() + MEASURED;
    let best = Infinity;
    while (performance.now() < end) {
      const start = performance.now();
      let count = 0, taken = 0;
      for (; taken < BATCH; count++, taken = performance.now() - start) run(image);
      best = Math.min(best, taken / count);
      await new Promise(go => setTimeout(go));      // the page stays alive meanwhile
    }
    return best;
  }

  /** The picture in a file, its middle square, as 32 x 32 x 3 bytes. */
  async function read(file) {
    const whole = await createImageBitmap(file), side = Math.min(whole.width, whole.height);
    const small = await createImageBitmap(whole, (whole.width - side) >> 1, (whole.height - side) >> 1, side, side,
      side === SIZE ? {} : { resizeWidth: SIZE, resizeHeight: SIZE, resizeQuality: "high" });
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
    canvas.width = canvas.height = SIZE;
    context.fillStyle = "white";
    context.fillRect(0, 0, SIZE, SIZE);
    context.drawImage(small, 0, 0);
    return context.getImageData(0, 0, SIZE, SIZE).data.filter((_, i) => i % 4 < 3);
  }

  function paint(canvas, image) {
    const pixels = new ImageData(SIZE, SIZE);
    image.forEach((value, i) => { pixels.data[Math.floor(i / 3) * 4 + i % 3] = value; });
    for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = 255;
    canvas.width = canvas.height = SIZE;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  /** A small picture for each channel, from black for the lowest code to white for the highest. */
  function paintCodes(canvas, { codes, height, width, channels }, low, high, room) {
    const side = Math.min(2 * SIZE, Math.floor(Math.sqrt(room * 400 / channels)) - GAP);
    const scale = Math.max(1, Math.floor(side / width)), cell = [width * scale + GAP, height * scale + GAP];
    const columns = Math.min(channels, Math.floor((room - GAP) / cell[0])), context = canvas.getContext("2d");
    canvas.width = columns * cell[0] + GAP;
    canvas.height = Math.ceil(channels / columns) * cell[1] + GAP;
    codes.forEach((code, i) => {
      const channel = i % channels, place = (i - channel) / channels, grey = 255 * (code - low) / (high - low || 1);
      context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      context.fillRect(GAP + channel % columns * cell[0] + place % width * scale,
        GAP + Math.floor(channel / columns) * cell[1] + Math.floor(place / width) * scale, scale, scale);
    });
  }

  inTheBrowser.show = (el, { classes, wasm, pictures, networks }) => {
    const { ready } = inTheBrowser, images = pictures.map(picture => bytes(picture.bytes));
    el.innerHTML = `
      <fieldset class="pictures"><legend>Picture</legend>${pictures.map(({ name }) =>
        `<button type="button" aria-label="test picture: ${name}" title="${name}"><canvas></canvas></button>`).join("")}
        <label class="own">your own: drop it here, or choose it <input type="file" accept="image/*"></label></fieldset>
      <fieldset class="networks"><legend>Weights</legend>${networks.map(({ name, text }, i) =>
        `<label><input type="radio" name="network" value="${name}"${i ? "" : " checked"}> ${text}</label>`).join("")}
      </fieldset>
      <div class="answer"><canvas class="seen" role="img"></canvas><table>${classes.map(name =>
        `<tr><th scope="row">${name}</th><td><span></span></td><td></td></tr>`).join("")}</table></div>
      <p role="status" class="told"></p>
      <label class="layer">layer <input type="range" min="0" max="0" value="0"></label>
      <p class="codes-told"></p><div class="codes"><canvas role="img"></canvas></div>`;
    const find = selector => el.querySelector(selector), all = selector => [...el.querySelectorAll(selector)];
    const buttons = all(".pictures button"), slider = find(".layer input"), file = find("input[type=file]");
    let image = images[0], truth = pictures[0].name, seen = [], latest = 0;
    buttons.forEach((button, i) => paint(button.firstChild, images[i]));

    function drawCodes() {
      const shown = seen[slider.value], { layer, codes, height, width, channels } = shown;
      const low = codes.reduce((a, b) => Math.min(a, b)), high = codes.reduce((a, b) => Math.max(a, b));
      const maps = width * height > 1 ? `${channels} channels of ${height} × ${width}` : `${channels} numbers`;
      const text = `The input of ${layer}, layer ${Number(slider.value) + 1} of ${seen.length}, as codes: ${maps}, ` +
        `from ${low} (black) to ${high} (white); ${new Set(codes).size} different codes occur.`;
      find(".codes-told").textContent = text.replaceAll("-", "\u2212");
      slider.setAttribute("aria-valuetext", layer);
      const canvas = find(".codes canvas");
      canvas.setAttribute("aria-label", text);
      paintCodes(canvas, shown, low, high, Math.max(240, find(".codes").clientWidth));
    }

    /** Compute the picture with the chosen network, and show all there is. */
    async function answer() {
      const { value: name, nextSibling: { textContent: text } } = find(".networks input:checked"), turn = ++latest;
      const run = await (ready[name] ??= loaded(name).then(program => inTheBrowser.start(wasm, program)).catch(error => {
        delete ready[name];                 // it is tried again when it is chosen again
        throw error;
      }));
      if (turn !== latest) return;          // another one was asked for meanwhile
      const layers = [], logits = run(image, layers), share = shares(logits);
      const order = classes.map((_, i) => i).sort((a, b) => logits[b] - logits[a]), percent = i => Math.round(100 * share[i]);
      seen = layers;
      slider.max = seen.length - 1;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", image === images[i]));
      paint(find(".seen"), image);
      find(".seen").setAttribute("aria-label", `the picture in ${SIZE} × ${SIZE} pixels${truth ? `: ${truth}` : ""}`);
      all("tr").forEach((row, i) => {
        row.classList.toggle("first", i === order[0]);
        row.querySelector("span").style.width = `${100 * share[i]}%`;
        row.lastChild.textContent = `${percent(i)} %`;
      });
      const verdict = truth ? (truth === classes[order[0]] ? ", which is right" : `, but it is: ${truth}`) : "";
      const size = inTheBrowser.programs[name].tables.length * 0.75 + wasm.length * 0.75;
      find(".told").innerHTML = `${text.trim()}: <b>${classes[order[0]]}</b> (${percent(order[0])} %)${verdict}; next
        ${classes[order[1]]} (${percent(order[1])} %). ${Math.round(size / 1000)} kB of tables and program;
        <span class="time">time is taken</span>.`;
      drawCodes();
      el.dataset.shown = name;
      const place = find(".time"), time = await timed(run, image);
      if (turn === latest) place.textContent = `${time.toFixed(1)} ms for a picture on this machine`;
    }

    async function tried(work) {
      try {
        await work();
      } catch (error) {
        find(".told").textContent = `This did not work: ${error.message}.`;
      }
    }

    async function take(given) {
      if (!given) return;
      const turn = ++latest;
      const own = await read(given).catch(() => {
        throw new Error(`the browser cannot read ${given.name} as a picture`);
      });
      if (turn !== latest) return;
      [image, truth] = [own, ""];
      await answer();
    }

    buttons.forEach((button, i) => {
      button.onclick = () => { [image, truth] = [images[i], pictures[i].name]; tried(answer); };
    });
    find(".networks").onchange = () => tried(answer);
    file.onchange = () => tried(() => take(file.files[0]));
    el.ondragover = event => event.preventDefault();
    el.ondrop = event => { event.preventDefault(); tried(() => take(event.dataTransfer.files[0])); };
    slider.oninput = drawCodes;
    tried(answer);
  };
})();
