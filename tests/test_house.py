"""The plan of the house: a file of the library imports only from its own room and from rooms below it."""
import ast
import graphlib
import json
import pydoc
import re
import subprocess
import sys

import pytest

from paperlib.system.paths import ROOT

FLOORS = ("errors", "system", "data quantizers", "models", "training deploy", "recipes", "runs", "analysis", "claims",
          "plots", "teaching", "__main__")          # from the ground up; rooms of one floor do not know each other
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
LIBRARY = ROOT / "paperlib"
MODULES = {".".join(file.relative_to(LIBRARY).with_suffix("").parts): file for file in LIBRARY.rglob("*.py")}


def imports(module: str) -> set[str]:
    """The modules of the library that a module imports, wherever the import stands but for type hints alone; a name
    that a room hands on is one of its ``__init__``."""
    tree, package, found = ast.parse(MODULES[module].read_text(encoding="utf-8")), module.split(".")[:-1], set()
    hints = {id(node) for hint in ast.walk(tree) if isinstance(hint, ast.If)
             and getattr(hint.test, "id", "") == "TYPE_CHECKING" for node in ast.walk(hint)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in hints:
            base = package[:len(package) + 1 - node.level] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                places = ([*base, alias.name], [*base, alias.name, "__init__"], base, [*base, "__init__"])
                found.add(next(place for place in map(".".join, places) if place in MODULES))
    return found - {"__init__"}


def room(module: str) -> str:
    return module.split(".")[0]


def test_nothing_is_imported_from_above():
    above = [(module, other) for module in MODULES.keys() - {"__init__"} for other in imports(module)
             if room(other) != room(module) and FLOOR[room(other)] >= FLOOR[room(module)]]
    assert not above, "the first imports the second: what it needs belongs on a floor below, or it above"


def test_no_circle():
    graph = {module: imports(module) for module in MODULES.keys() - {"__init__"}}
    assert list(graphlib.TopologicalSorter(graph).static_order())        # CycleError names the circle


def test_two_files_are_in_sight():
    assert sorted(file.name for file in LIBRARY.glob("*.py")) == ["__init__.py", "__main__.py", "errors.py"]
    assert {folder.name for folder in LIBRARY.iterdir() if any(folder.glob("*.py"))} <= FLOOR.keys()


def test_what_is_slow_to_import_waits_until_it_is_needed():
    """torchvision, with the torch._dynamo that it brings along, takes longer than all of the library, and the grammar
    that jsonschema makes with lark a second."""
    code = ("import sys, paperlib.data.imagenet_batches, paperlib.runs, paperlib.plots, paperlib.claims.experiments\n"
            "print(*{'torchvision', 'torch._dynamo'} & sys.modules.keys())\n"
            "import paperlib.claims.notebooks\n"
            "print(*{'torchvision', 'lark'} & sys.modules.keys())")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_plan_in_contributing_has_these_floors():
    drawing = CONTRIBUTING.split("```text\n")[1].split("```")[0]
    drawn = [{word for word in line.split()[:2] if word in FLOOR} for line in drawing.splitlines()]
    assert [floor for floor in drawn if floor] == [set(rooms.split()) for rooms in reversed(FLOORS[:-1])]


def test_every_path_in_contributing_leads_somewhere():
    paths = set(re.findall(r"`(?:python )?([\w.<>…-]+/[\w.<>…/-]*)`", CONTRIBUTING))
    assert len(paths) > 20
    assert not [path for path in paths if not any(ROOT.glob(re.sub(r"<\w+>|(?<=_)N|…|\.\.\.", "*", path)))]


TEXTS = "\n".join(file.read_text(encoding="utf-8") for place in ("*.md", "site/*.md", "notebooks/*.ipynb",
                  "paperlib/**/*.py", "paperlib/**/*.c") for file in ROOT.glob(place))


def test_names_of_the_library_in_texts_lead_somewhere():
    """Such as paperlib.runs.obtain, in prose, docstrings and commands."""
    names = set(re.findall(r"\bpaperlib(?:\.[A-Za-z]\w*)+", TEXTS))
    assert len(names) > 50 and not [name for name in sorted(names) if pydoc.locate(name) is None]


def test_files_in_texts_are_there():
    """Such as run.py and runs/run.py, in prose, docstrings and comments."""
    there = [f"/{file.relative_to(ROOT).as_posix()}" for file in ROOT.glob("[!.]*/**/*.py")]
    files = set(re.findall(r"(?<![\w./])[a-z_/]*\b[a-z][a-z0-9_]*\.py\b", TEXTS))
    assert len(files) > 30 and not [name for name in sorted(files) if not any(f.endswith(f"/{name}") for f in there)]


def docstrings() -> dict[str, str]:
    """{file: the docstrings of its public names}."""
    kinds, found = (ast.Module, ast.ClassDef, ast.FunctionDef), {}
    for file in MODULES.values():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        public = [node for node in ast.walk(tree) if isinstance(node, kinds)
                  and not getattr(node, "name", "").startswith("_")]
        found[file.relative_to(ROOT).as_posix()] = "\n\n".join(ast.get_docstring(node) or "" for node in public)
    return found


def markdown() -> dict[str, str]:
    """{file: its prose}, of pages and of notebooks' cells."""
    files = [file for place in ("*.md", "site/*.md", "data/*/README.md", "notebooks/teaching/**/*.md")
             for file in ROOT.glob(place)]
    found = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    for file in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        found[f"notebooks/{file.name}"] = "\n\n".join("".join(cell["source"]) for cell in cells
                                                     if cell["cell_type"] == "markdown")
    return found


UNWANTED = {"reach": r"\breach(?:es|ed|ing)?\b", "behind": r"\bbehind\b", "that of": r"\b(?:that|those) of\b",
            "stand": r"\b(?:stands?|stood|standing)\b(?! for\b)",      # a code may stand for a number
            "least, greatest": r"(?<!at )\b(?:least|greatest)\b"}

# on pages, "what" in the place of a noun: after a preposition, or as the beginning of a sentence that asks nothing
NO_NOUN = {"what": r"\b(?:of|by|for|from|than|with|on|to|at|minus|within|into|in) what\b"
                   r"|(?:(?<=[.:] )|(?<=^)|(?<=^\* ))(?-i:What) (?!follows)[^?\n]*?[.:;](?=\s|$)"}


def unwanted(text: str, patterns: dict[str, str] = UNWANTED) -> list[str]:
    """Words of the house that say it less plainly than common ones, outside code, formulas and what figures say."""
    text = re.sub(r"```.*?```|``[^`]*``|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|alt=\"[^\"]*\"", "", text, flags=re.DOTALL)
    return [text[max(0, found.start() - 40):found.end() + 20] for pattern in patterns.values()
            for found in re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE)]


def test_prose_uses_plain_words():
    assert not {file: found for file, text in (docstrings() | markdown()).items() if (found := unwanted(text))}


def test_pages_name_things_instead_of_saying_what():
    assert not {file: found for file, text in markdown().items() if (found := unwanted(text, NO_NOUN))}


@pytest.mark.parametrize("text, count", [
    ("It is half of what it was.", 1), ("What counts is the range.", 1), ("* What is lost: a bit.", 1),
    ("What counts? It says what counts.", 0), ("## What it shows", 0)])
def test_a_what_without_a_noun_is_found(text, count):
    assert len(unwanted(text, NO_NOUN)) == count


@pytest.mark.parametrize("text, count", [
    ("The layer behind it stands still.", 2), ("The width is that of v2, the depth those of v1.", 2),
    ("It reaches its greatest value with the least error.", 3),
    ("A code stands for a number, at least here: `behind`, $\\text{least}$.", 0)])
def test_the_words_are_found(text, count):
    assert len(unwanted(text)) == count
