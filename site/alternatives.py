"""Recorded figures and pictures in a notebook's output say what one sees; the page says it too, in full."""
import base64
import hashlib
import json
from pathlib import Path, PurePath

from docutils import nodes
from gallery import facts


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
    app.connect("doctree-read", name_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
