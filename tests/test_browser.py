"""In a real browser: the site from a folder without a network, and the first notebook in a running JupyterLab."""
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
import torch
from PIL import Image

from paperlib import deploy, models, quantizers
from paperlib.analysis import one_weight, quantization_error
from paperlib.claims import notebooks
from paperlib.models import cost
from paperlib.system.paths import ROOT
from paperlib.teaching import networks
from paperlib.teaching.widgets.oscillation import in_numbers
from paperlib.training.freezing import choose
from paperlib.training.phases import Freeze

sys.path.insert(0, str(ROOT / "site"))
import browsers  # noqa: E402
import in_the_browser  # noqa: E402

pytestmark = pytest.mark.slow

LOOKED_AT = ("index", "in_the_browser", "gallery", "glossary", "differences", "README", "api/index", "api/quantizers",
             "api/plots", "notebooks/00_start_here", "notebooks/scoreboard", "notebooks/quantizer_sheet",
             "notebooks/profit_fig2_4_aiwq", "notebooks/profit_supp_s5_bn_folding", "notebooks/qil_fig1_3_quantizer")
START, MOVES = "00_start_here", "pictures_that_move"
MOVING = ("widgets.grid(torch.linspace(-1, 1, 101))", "widgets.oscillation()", "widgets.freezing(networks.four_bits())",
          "widgets.cost(networks.four_bits().model())")
# what reaches beyond the window, unless a box around it scrolls by itself
STICKING_OUT = """[...document.querySelectorAll("article *")].filter(element => {
    if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
    for (let box = element.parentElement; box.tagName !== "ARTICLE"; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== "visible" && box.getBoundingClientRect().right <= innerWidth + 1)
            return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = browsers.chromium()
    if found is None:
        pytest.skip(browsers.MISSING)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Watched:
    """A page of the site, what its console complained of, and what it asked of anything but the folder."""

    def __init__(self, browser, site, width):
        self.site, self.complaints, self.requests = site, [], []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda r: self.requests.append(r.url) if not r.url.startswith(
            (site.as_uri(), "data:", "blob:")) else None)

    def open(self, name, query=""):
        self.page.goto(f"{(self.site / name).as_uri()}.html{query}")
        return self.page


@pytest.fixture
def wide(chromium, site):
    watched = Watched(chromium, site, 1280)
    yield watched
    watched.page.close()


@pytest.fixture
def narrow(chromium, site):
    watched = Watched(chromium, site, 390)
    yield watched
    watched.page.close()


def test_pages_load_from_a_folder_without_errors_or_requests(wide):
    for name in LOOKED_AT:
        page = wide.open(name)
        assert page.locator("article h1").count() == 1
        broken = page.evaluate("[...document.images].filter(i => { i.loading = 'eager'; return i.complete && "
                               "!i.naturalWidth }).map(i => i.src)")
        assert not broken and not wide.complaints and not wide.requests, name


def test_nothing_is_wider_than_a_phone(narrow):
    names = {file.relative_to(narrow.site).with_suffix("").as_posix() for file in narrow.site.rglob("*.html")}
    listings = {name for name in names if name.startswith("_modules/")}      # many, and all alike
    for name in sorted(names - listings) + sorted(listings)[:3]:
        assert narrow.open(name).evaluate(STICKING_OUT) == [], name
    assert not narrow.complaints and not narrow.requests


# code, and what cells print, but for drawings and printed columns
CLIPPED = """[...document.querySelectorAll("article .highlight pre")].filter(code =>
    code.scrollWidth > code.clientWidth + 1 && !code.closest(".highlight-text, .columns")
).map(code => code.textContent.slice(0, 200))"""


def test_no_line_of_code_is_cut_off(wide, narrow):
    seen = 0
    for name in ("README", "CONTRIBUTING", "api/quantizers", *(f"notebooks/{name}" for name in notebooks.names())):
        for watched in (wide, narrow):
            page = watched.open(name)
            page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
            assert page.evaluate(CLIPPED) == [], name
            seen += page.locator("article .highlight pre").count()
    assert seen > 500


def test_the_weight_on_the_first_page_moves_as_the_quantizer_says(wide):
    page = wide.open("index")
    slider, status = page.locator(".live input[type=range]"), page.locator(".live [role=status]")
    expected = {bits: one_weight.unit_duq(bits) for bits in (8, 4, 2)}
    slider.press("Home")
    slider.press("ArrowRight")
    seen = set()
    for _ in range(78):
        weight = torch.tensor([float(slider.input_value())], dtype=torch.float64)
        for bits, quantizer in expected.items():
            told = float(status.locator(f"[data-bits='{bits}']").inner_text())
            assert told == pytest.approx(quantizer(weight).item(), abs=6e-5), (bits, weight)
        seen.add(status.inner_text())
        slider.press("ArrowRight")
    jumps = one_weight.one_weight((2,), update=0.005)
    assert len(seen) == 78 and sum(f"jumps by {(jumps.after - jumps.before)[0]:.4f}" in text for text in seen) == 1
    page.locator(".live button").click()
    before = slider.input_value()
    page.wait_for_function("before => document.querySelector('.live input').value !== before", arg=before)
    assert not page.locator("article img[src*=one_weight]").is_visible() and not wide.complaints and not wide.requests


def moved(page, **values):
    """What the page, or a part of it, says (data-told) after its controls, found by tag or by data-kind, have these
    values."""
    for control, value in values.items():
        page.locator(f".live {control}").evaluate(
            "(e, value) => { e.value = value; (e.oninput ?? e.onchange)(); }", str(value))
    told = page.locator(".live [data-told]")
    return {told.nth(i).get_attribute("data-told"): float(told.nth(i).text_content().replace(",", ""))
            for i in range(told.count())}


def test_the_grid_of_lesson_1_loses_what_the_quantizer_loses(wide):
    page, w = wide.open("notebooks/learn_1_grids_and_error"), networks.layer()[0].weight.detach()
    for bits, stop in ((3, 98), (3, 45), (4, 60), (8, 20)):
        told, top = moved(page, select=bits, input=stop), w.abs().max().item() * (stop + 2) / 100
        q = quantization_error.set_max_level(quantizers.build("duq", role="weight", bits=bits), top)
        rounding, clipping = quantization_error.error_parts(w, q)
        wanted = {"top": top, "step": quantization_error.step(q), "error": rounding + clipping, "rounding": rounding,
                  "clipping": clipping}
        assert told == pytest.approx(wanted, rel=1e-3, abs=1e-7), (bits, stop)
    fixed, moving = page.locator(".cell_output:has(div.live) img"), page.locator("div.live")
    assert moving.is_visible() and not fixed.is_visible()
    page.emulate_media(media="print")
    assert fixed.is_visible() and not moving.is_visible() and not wide.complaints and not wide.requests


def test_the_weight_of_lesson_2_oscillates_as_in_python(wide):
    page = wide.open("notebooks/learn_2_training_through_rounding")
    for rate in (0.005, 0.05, 0.2):
        for optimum in (0.05, 0.3, 0.5, 0.95):
            told = moved(page, select=rate, input=optimum)
            assert told == pytest.approx(in_numbers(one_weight.descend(optimum, rate)), abs=6e-4), (rate, optimum)
    assert not wide.complaints and not wide.requests


def test_the_layers_of_lesson_4_freeze_as_in_training(wide):
    page, run = wide.open("notebooks/learn_4_progressive_freezing"), networks.four_bits()
    layers = run.layers.merge(run.instability, on="layer", suffixes=("", "_measured"))
    layers["weights"] = [math.prod(map(int, shape.split("x"))) for shape in layers.weight_shape]
    for order in ("aiwq", "reverse", "random"):
        for count in (0, 21, 64):
            told = moved(page, select=order, input=count)
            freeze = Freeze(count / len(layers), order, measured_in="sampling")
            frozen = choose(freeze, list(layers.layer), layers, run.recipe.seed)
            left = layers[~layers.layer.isin(frozen)][["aiwq", "weights"]].sum() / layers[["aiwq", "weights"]].sum()
            assert told == pytest.approx((100 * left).to_dict(), abs=6e-3), (order, count)
    assert not wide.complaints and not wide.requests


def test_the_bits_of_lesson_5_cost_what_the_library_counts(wide):
    page, net = wide.open("notebooks/learn_5_integers"), networks.four_bits().model()
    kinds = [e.get_attribute("data-kind") for e in page.locator(".live select").all()]
    for told, counted in ((moved(page), net),
                          (moved(page, **{f"[data-kind={kind}]": "8 / 8" for kind in kinds}),
                           models.quantize(net, models.Scheme(w_bits=8, a_bits=8)))):
        table = cost.table(counted, 32)
        table = table[table.kind.isin(kinds)]
        assert told == pytest.approx({"bops": table.bops.sum(), "bytes": table.weight_bytes.sum()}, abs=1)
    assert len(kinds) == 6 and not wide.complaints and not wide.requests


RUN = """async ([name, image]) => {
    const seen = [], logits = (await inTheBrowser.ready[name])(image, seen);
    return { logits, seen: seen.map(s => [s.layer, s.height, s.width, s.channels, Array.from(s.codes)]) };
}"""


def test_networks_answer_in_the_browser_as_integer_networks_do(wide):
    page, pictures = wide.open("in_the_browser"), in_the_browser.pictures()
    for name, (text, build) in in_the_browser.NETWORKS.items():
        page.locator(f"[value={name}]").check()
        page.wait_for_selector(f"[data-shown={name}]")
        chosen = pictures[::4] if name.startswith("trained") else pictures[3:4]
        bytes_ = torch.stack([torch.frombuffer(bytearray(pixels), dtype=torch.uint8) for _, pixels in chosen])
        images = torch.stack([table[channel.long()] for table, channel in zip(
            deploy.cifar10_pixels(), bytes_.view(-1, 32, 32, 3).permute(3, 0, 1, 2))], 1)
        fixed = deploy.IntegerNet(build(), "fixed")
        logits, wanted = fixed(images), fixed.codes(images)
        for i, image in enumerate(bytes_):
            answer = page.evaluate(RUN, [name, image.tolist()])
            assert answer["logits"] == logits[i].tolist() and [seen[0] for seen in answer["seen"]] == list(wanted)
            for layer, *shape, codes in answer["seen"]:
                assert torch.equal(torch.tensor(codes).view(shape).permute(2, 0, 1).flatten(),
                                   wanted[layer][i].flatten()), (name, chosen[i][0], layer)
    assert len(wanted) == 64 and not wide.complaints and not wide.requests


def test_a_picture_of_ones_own_is_answered_and_its_codes_are_shown(wide, tmp_path):
    page, (name, pixels) = wide.open("in_the_browser"), in_the_browser.pictures()[5]

    def choose(picture):
        page.get_by_role("button", name=f"test picture: {picture}").click()
        page.locator(f"[aria-label='test picture: {picture}'][aria-pressed=true]").wait_for()

    def shown():
        return [page.locator(".in-the-browser table").inner_text(), page.locator(".codes-told").inner_text(),
                page.locator(".codes canvas").evaluate("canvas => canvas.toDataURL()")]

    page.locator("[data-shown]").wait_for()
    choose(name)
    assert re.search(r", which is right|, but it is: ", page.locator(".told").inner_text())
    page.locator(".layer input").press("End")
    taken = shown()
    page.locator(".layer input").press("Home")
    assert shown()[0] == taken[0] and shown()[1:] != taken[1:] and "32 × 32" in shown()[1]
    page.locator(".layer input").press("End")
    choose("ship")
    assert shown() != taken
    Image.frombytes("RGB", (32, 32), pixels).save(tmp_path / "mine.png")
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    page.wait_for_function("!document.querySelector('[aria-pressed=true]')")
    assert shown() == taken and not re.search("is right|it is", page.locator(".told").inner_text())
    page.locator(".told", has_text="ms for a picture").wait_for()
    (tmp_path / "mine.png").write_text("no picture")
    page.locator("input[type=file]").set_input_files([])
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    page.locator(".told", has_text="the browser cannot read mine.png as a picture").wait_for()
    choose(name)
    page.locator("input[type=file]").set_input_files([])
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")         # while time is taken
    page.locator(".told", has_text="the browser cannot read mine.png as a picture").wait_for()
    page.wait_for_timeout(500)
    assert "the browser cannot read mine.png" in page.locator(".told").inner_text()
    assert not wide.complaints and not wide.requests


def test_a_network_that_did_not_load_is_tried_again(wide):
    page = wide.open("in_the_browser")
    page.locator("[data-shown]").wait_for()
    page.evaluate("""() => {
        const append = document.head.append;
        document.head.append = script => { document.head.append = append; script.onerror(); };
    }""")
    page.locator("[value=rounded-2]").check()
    page.locator(".told", has_text="rounded-2.js is not there").wait_for()
    page.locator("[value=rounded-8]").check()
    page.locator("[data-shown=rounded-8]").wait_for()
    page.locator("[value=rounded-2]").check()
    page.locator("[data-shown=rounded-2]").wait_for()
    assert not wide.complaints and not wide.requests


def test_answers_are_folded_until_asked_for(wide):
    answers = wide.open("notebooks/learn_5_integers").locator("details.answer")
    assert answers.count() >= 4 and not answers.locator(".cell_output").first.is_visible()
    answers.locator("summary").first.click()
    assert answers.locator(".cell_output").first.is_visible()


def test_code_is_copied_without_prompts(wide):
    page = wide.open("api/quantizers")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    example = page.locator(".highlight").filter(has_text=">>>").first
    example.hover()
    example.get_by_role("button", name="Copy").click()
    example.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied and ">>>" not in copied and copied.splitlines()[0] in example.inner_text()


def test_light_becomes_dark_and_stays_so_on_the_next_page(wide):
    def brightness():
        return wide.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)"
                                  ".reduce((sum, v) => sum + Number(v), 0) / 3")

    page = wide.open("glossary")
    assert brightness() > 200
    page.locator(".theme-toggle:visible").first.click()
    assert brightness() < 60
    wide.open(f"notebooks/{START}")
    assert brightness() < 60 and not wide.complaints


def test_the_search_finds_a_word_without_a_server(wide):
    page = wide.open("search", "?q=AIWQ")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert any("profit_fig2_4_aiwq" in link for link in found) and not wide.complaints and not wide.requests


def test_every_equation_is_drawn(wide):
    drawn = 0
    for file in sorted([*wide.site.glob("*.html"), *wide.site.glob("notebooks/*.html")]):
        equations = file.read_text(encoding="utf-8").count('class="math notranslate')
        if equations:
            page = wide.open(file.relative_to(wide.site).with_suffix("").as_posix())
            page.evaluate("MathJax.startup.promise.then(() => 0)")
            heights = page.locator("mjx-container > svg").evaluate_all(
                "all => all.map(picture => picture.getBoundingClientRect().height)")
            assert len(heights) == equations and min(heights) > 4, file.name
            assert page.locator("[data-mml-node=merror]").count() == 0, file.name
            drawn += equations
    assert drawn and not wide.complaints and not wide.requests


def test_a_picture_opens_at_full_size(wide):
    page = wide.open("notebooks/profit_fig2_4_aiwq")
    page.locator("a.picture").first.click()
    page.wait_for_url("**/_images/*.png")


# -- JupyterLab -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, over a copy of the notebooks."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(notebooks.FOLDER, root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    cells = [nbformat.v4.new_code_cell(f"import torch\nfrom paperlib.teaching import networks, widgets\n\n{code}")
             for code in MOVING]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "notebooks" / f"{MOVES}.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, own = secrets.token_hex(16), {name: str(root / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTERLAB_SETTINGS_DIR")}
    log = (root / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
         "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}",
         f"--ServerApp.root_dir={root / 'notebooks'}", "--LabApp.news_url=None",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        cwd=root, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (root / "log").read_text()
                time.sleep(0.2)
        # each in a workspace of its own: in a shared one the notebook of the test before is opened again beside it
        yield lambda notebook: f"{address}/lab/workspaces/{notebook}/tree/{notebook}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def run_all_cells(chromium, address):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(180_000)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    return page


def test_each_module_moves_in_jupyterlab(chromium, lab):
    page = run_all_cells(chromium, lab(MOVES))
    grid, oscillation, freezing, costs = (page.locator(f".jp-CodeCell:has-text('{code}')") for code in MOVING)
    for cell in (grid, oscillation, freezing, costs):
        cell.scroll_into_view_if_needed()
        cell.locator(".live [data-told]").first.wait_for()
    grid.locator("input").press("ArrowLeft")
    assert grid.locator("input").input_value() == "97"
    told = moved(grid, select=2, input=98)
    assert told["step"] == told["top"] == 1 and moved(grid, input=48)["top"] == 0.5
    expected = in_numbers(one_weight.descend(0.95, 0.2))
    assert moved(oscillation, select=0.2, input=0.95) == pytest.approx(expected, abs=6e-4)
    assert moved(freezing, select="reverse", input=64) == {"aiwq": 0, "weights": 0}
    kinds = [menu.get_attribute("data-kind") for menu in costs.locator(".live select").all()]
    few, many = (moved(costs, **{f"[data-kind={kind}]": bits for kind in kinds}) for bits in ("4 / 4", "8 / 8"))
    assert len(kinds) == 6 and 2 * few["bytes"] == pytest.approx(many["bytes"], abs=2)
    page.close()


def test_the_first_notebook_runs_in_jupyterlab_and_its_slider_redraws_the_picture(chromium, lab):
    page = run_all_cells(chromium, lab(START))
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.wait_for()
    picture = page.locator(".widget-image").first
    before = picture.get_attribute("src")
    handle.scroll_into_view_if_needed()
    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_function("([image, before]) => image.src !== before && image.complete && image.naturalWidth > 200",
                           arg=[picture.element_handle(), before])
    page.wait_for_function("[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
                           ".every(prompt => /\\d/.test(prompt.textContent))")
    assert page.locator("[data-mime-type$=error], [data-mime-type$=stderr]").count() == 0
    page.close()
