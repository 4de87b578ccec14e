"""How notebooks are shown: what a reader is asked to predict is folded, printed columns stay columns, and pictures say
what one sees."""
import base64
import hashlib
import json
import re
from pathlib import Path, PurePath

from docutils import nodes
from gallery import facts

COLUMNS = re.compile(r"\S {3,}\S")      # in a line of a printed table


class Answer(nodes.container):
    """What a reader unfolds after having predicted it."""


def fold_answers(app, doctree: nodes.document) -> None:
    """Fold the outputs of the cells under a question that begins with "Predict", and the explanation after them, up to
    the next cell, question, exercise or heading, or to what the notebook folds by itself.  Code stays in sight."""
    for place in [doctree, *doctree.findall(nodes.section)]:
        asked, answer = False, None
        for node in list(place.children):
            question = isinstance(node, nodes.paragraph) and node.astext().startswith("Predict")
            if question or isinstance(node, nodes.section) or node.astext().startswith(("<details", "Exercise")):
                asked, answer = question, None
            elif "cell" in node.get("classes", ()):
                outputs = [part for part in node.children if asked and "cell_output" in part["classes"]]
                answer = Answer("", *outputs) if outputs else None
                if outputs:
                    node.children = [part for part in node.children if part not in outputs]
                    place.insert(place.index(node) + 1, answer)
            elif answer is not None:
                asked = False       # a cell after the explanation is another matter
                place.remove(node)
                answer += node


def keep_columns(app, doctree: nodes.document) -> None:
    """Mark printed tables, whose lines must not be wrapped."""
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and sum(bool(COLUMNS.search(line)) for line in block.astext().splitlines()) > 1:
            block["classes"].append("columns")


def pictures(notebook: dict) -> dict[str, str]:
    """{SHA-256 of a picture: its alternative text}, of all pictures in the outputs of a notebook."""
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    return {hashlib.sha256(base64.decodebytes("".join(o["data"]["image/png"]).encode())).hexdigest():
            o["metadata"].get("image/png", {}).get("alt", "") for o in outputs}


def name_pictures(app, doctree: nodes.document) -> None:
    """MyST-NB writes each picture of an output to a file that is named by the picture's hash."""
    source = Path(doctree["source"])
    known = pictures(json.loads(source.read_text(encoding="utf-8"))) if source.suffix == ".ipynb" else {}
    for image in doctree.findall(nodes.image):
        path = PurePath(image["uri"])
        if path.parent.name == "recorded":
            image["alt"] = facts(path.stem)["alt"]
        elif path.stem in known:
            image["alt"] = known[path.stem]


def setup(app) -> dict:
    for change in (name_pictures, fold_answers, keep_columns):
        app.connect("doctree-read", change)
    app.add_node(Answer, html=(
        lambda self, node: self.body.append('<details class="answer">\n<summary>Show what came out</summary>\n'),
        lambda self, node: self.body.append("</details>\n")))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
