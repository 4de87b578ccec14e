"""The sources of the site: the pages written here, the notebooks, and pages made of what the repository holds."""
from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath

import api
import badges
import docstrings
import gallery
import in_the_browser
import neighbours
import pictures
import summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "LICENSE-text.md", "notebooks/teaching/README.md",
             "notebooks/teaching/project/README.md")
# what the site has in place of a file
INSTEAD = {"figures/README.md": "gallery.md", "site/in_the_browser.md": "in_the_browser.md"}
# in the order of the sidebar: a notebook stands in the first section whose pattern fits its name
SECTIONS = {
    "Start": r"00_.*",
    "Lessons": r"learn_.*(?<!_solutions)",
    "PROFIT": r"profit_.*",
    "QIL": r"qil_.*",
    "Beyond the papers": r"beyond_.*",
    "Integers, and your own network": r"(deploy|own)_.*",
    "Scoreboard and quantizers": r"scoreboard|quantizer_.*",
    "Solutions": r"learn_.*",
    "More": r".*",
}
LINK = re.compile(r"""(?<=\]\()(?![a-z]+:|#)[^)\s]+(?=\))|(?<=<img src=")(?!\w+:)[^"]+""")
BADGES = re.compile(r"<!-- badges -->.*?<!-- end of badges -->", re.DOTALL)     # pictures from elsewhere
LANGUAGES = {".py": "python", ".c": "c", ".md": "markdown", ".yml": "yaml", ".toml": "toml", ".cff": "yaml",
             ".json": "json", "Makefile": "make"}


def write(source: Path) -> None:
    """Everything that Sphinx reads, into a new folder laid out as the repository is."""
    source.mkdir(parents=True)
    files = Files(source)
    (source / "notebooks" / "teaching" / "project").mkdir(parents=True)
    notebooks = [Notebook(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for notebook in notebooks:
        notebook.write(source, files)
    for name in DOCUMENTS:
        files.write(PurePosixPath(name), (ROOT / name).read_text(encoding="utf-8"))
    inserted = {"notebooks": lambda: listing(notebooks), "contents": lambda: contents(notebooks),
                "gallery": lambda: gallery.page(source, {n.name: n.title for group in by_section(notebooks).values()
                                                         for n in group}),
                "differences": docstrings.differences, "neighbours": neighbours.markdown}
    inserted |= summary.inserted() | in_the_browser.inserted(source / "extra" / "networks")
    inserted |= {f"picture: {name}": lambda name=name: pictures.figure(source, name) for name in pictures.NAMES}
    inserted |= {f"live: {name}": lambda name=name: pictures.live(source, name) for name in pictures.LIVE}
    for page in sorted(HERE.glob("*.md")):
        text = re.sub(r"<!-- (.+?) -->", lambda m: inserted[m[1]](), page.read_text(encoding="utf-8"))
        (source / page.name).write_text(text, encoding="utf-8")
    api.write(source / "api")


class Files:
    """Texts of the repository on their way into the site, with links that lead to pages there."""

    def __init__(self, source: Path):
        self.source = source

    def write(self, path: PurePosixPath, text: str) -> None:
        (self.source / path).write_text(self.relinked(path, text), encoding="utf-8")

    def relinked(self, path: PurePosixPath, text: str) -> str:
        return LINK.sub(lambda m: self._target(path, m[0]), BADGES.sub("", text))

    def _target(self, path: PurePosixPath, link: str) -> str:
        """Where a link of the file ``path`` leads in the site; what it leads to is brought along."""
        place, hash_, fragment = link.partition("#")
        file = PurePosixPath(os.path.normpath(path.parent / place))
        if not (ROOT / file).is_file():
            return link         # Sphinx says so, and the build fails
        if str(file) in INSTEAD:
            file = PurePosixPath(INSTEAD[str(file)])
        elif file.suffix == ".png":
            (self.source / file.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, self.source / file)
        elif str(file) not in DOCUMENTS and file.suffix != ".ipynb":
            file = self._page(file)
        return os.path.relpath(file, path.parent).replace(os.sep, "/") + hash_ + fragment

    def _page(self, file: PurePosixPath) -> PurePosixPath:
        """A page that shows a file of the repository."""
        page = PurePosixPath("files") / f"{file}.md"
        text, fence = (ROOT / file).read_text(encoding="utf-8"), "`" * 8
        language = LANGUAGES.get(file.suffix) or LANGUAGES.get(file.name, "text")
        (self.source / page.parent).mkdir(parents=True, exist_ok=True)
        (self.source / page).write_text(f"---\norphan: true\n---\n# {file}\n\n{fence}{language}\n{text}\n{fence}\n",
                                        encoding="utf-8")
        return page


class Notebook:
    """A notebook of the repository, with its outputs as they are stored."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        self.notebook = json.loads(path.read_text(encoding="utf-8"))
        first = "".join(self.notebook["cells"][0]["source"])
        heading = re.match(r"# (.+)", first)
        if not heading:
            raise ValueError(f"{path.name} has to begin with its title, a line '# ...'")
        self.title = heading[1].strip()
        self.section = next(title for title, pattern in SECTIONS.items() if re.fullmatch(pattern, self.name))

    def write(self, source: Path, files: Files) -> None:
        """The page, and the file itself for downloading."""
        where = PurePosixPath("notebooks") / self.path.name
        (source / "originals").mkdir(exist_ok=True)
        shutil.copy(self.path, source / "originals" / self.path.name)
        for cell in self.notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = files.relinked(where, "".join(cell["source"]))
            else:
                cell["outputs"] = pictures.outputs(cell)
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "text/markdown" in data:
                    data["text/markdown"] = files.relinked(where, "".join(data["text/markdown"]))
        title, rest = self.notebook["cells"][0]["source"].partition("\n")[::2]
        about = f"*A notebook with its stored outputs:* {{download}}`{self.path.name} <../originals/{self.path.name}>`"
        if repository := badges.address():
            about += " *· open in* " + ", ".join(
                f"[{place}]({target})" for place, target in badges.places(repository, str(where)).items())
        self.notebook["cells"][0]["source"] = f"{title}\n\n{about}\n\n{rest}"
        (source / where).write_text(json.dumps(self.notebook), encoding="utf-8")


def told(notebooks: list[Notebook]) -> dict[str, str]:
    """{name: what it shows}, in the order of the table in the first notebook; others after it.  Links as from above the
    notebooks' folder."""
    start = next(n for n in notebooks if n.section == "Start")
    text = "\n".join("".join(c["source"]) for c in start.notebook["cells"] if c["cell_type"] == "markdown")
    rows = dict(re.findall(r"^\| *\[[^]]*\]\((\w+)\.ipynb\) *\| *([^|]+?) *\|", text, re.MULTILINE))
    rows = {name: LINK.sub(lambda m: f"notebooks/{m[0]}", what) for name, what in rows.items()}
    return {**rows, **{n.name: "" for n in notebooks if n.name not in rows}}


def by_section(notebooks: list[Notebook]) -> dict[str, list[Notebook]]:
    """The sections that have notebooks, and these, lessons by number and others as the first notebook lists them."""
    order = list(told(notebooks))
    groups = {section: [n for n in notebooks if n.section == section] for section in SECTIONS}
    return {section: sorted(group, key=lambda n: (n.name.startswith("learn_") and n.name, order.index(n.name)))
            for section, group in groups.items() if group}


def listing(notebooks: list[Notebook]) -> str:
    """All notebooks, with links, by section."""
    what, lines = told(notebooks), []
    for section, group in by_section(notebooks).items():
        lines += [f"### {section}", ""]
        for n in group:
            lines.append(f"- [{n.title}](notebooks/{n.path.name})" + (f": {what[n.name]}" if what[n.name] else ""))
        lines.append("")
    return "\n".join(lines)


def contents(notebooks: list[Notebook]) -> str:
    """The sidebar's tables of contents."""
    trees = {section: [f"notebooks/{n.name}" for n in group] for section, group in by_section(notebooks).items()}
    trees["Lessons"] += [name.removesuffix(".md") for name in DOCUMENTS if "/" in name]
    last = {"Reference": ["reproducibility", "in_the_browser", "gallery", "glossary", "differences", "api/index"],
            "The repository": [name.removesuffix(".md") for name in DOCUMENTS if "/" not in name]}
    return "\n\n".join("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])
                       for caption, pages in {**trees, **last}.items())
