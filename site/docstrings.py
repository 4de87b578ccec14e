"""The house's docstrings as reStructuredText: formulas keep their stars and bars; and what they say of differences to
the papers and to the authors' code."""
import importlib
import inspect
import pkgutil
import re

import paperlib

LITERAL = re.compile(r"(``.*?``|:[\w:]+:`[^`]*`)", re.DOTALL)
DIFFERENCES = re.compile(r"^\s*\*Differences\*: (.*?)(?:\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)
EMPHASIS = re.compile(r"(?<![\w*)\]])(\*\*?)(?=[\w(])([^*\n]*[\w.)])\1(?![\w*(])")


def prepared(lines: list[str]) -> list[str]:
    """The lines of a docstring, with a formula behind "*Forward*::" set as a block, and with stars and bars that are
    multiplication, powers and magnitudes escaped."""
    result, prose, margin = [], [], None        # margin: of the paragraph that a literal block belongs to

    def flush() -> None:
        result.extend(escaped("\n".join(prose)).split("\n") if prose else [])
        prose.clear()

    for line in lines:
        indent = len(line) - len(line.lstrip())
        if margin is not None and line.strip() and indent <= margin:
            margin = None
        formula = re.fullmatch(r"(\s*\*\w+\*)::\s+(\S.*)", line)
        if margin is None and formula:
            flush()
            result += ["", f"{formula[1]}::", "", " " * (indent + 4) + formula[2].replace("``", ""), ""]
        elif margin is not None or line.lstrip().startswith(">>>"):
            flush()
            result.append(line)
        else:
            prose.append(line)
            margin = indent if line.rstrip().endswith("::") else None
    flush()
    return result


def escaped(text: str) -> str:
    """``text`` without the markup that formulas would be taken for; literals, roles and *emphasis* stay."""
    parts = LITERAL.split(text)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    kept = EMPHASIS.sub(lambda m: m[0].replace("*", "\0"), text)
    return kept.replace("|", r"\|").replace("*", r"\*").replace("\0", "*")


def differences() -> str:
    """The paragraphs *Differences* of all public classes and functions as a list, in reStructuredText in Markdown."""
    found = {}
    for info in pkgutil.walk_packages(paperlib.__path__, "paperlib."):
        for name, value in vars(importlib.import_module(info.name)).items():
            public = (inspect.isclass(value) or inspect.isfunction(value)) and not name.startswith("_")
            if public and value.__module__ == info.name and (text := DIFFERENCES.search(inspect.getdoc(value) or "")):
                found[f"{info.name}.{name}"] = " ".join(text[1].split())
    lines = ["```{eval-rst}"]
    for name, text in sorted(found.items(), key=lambda item: item[0].rpartition(".")[2].lower()):
        lines += [f":class:`{name.rpartition('.')[2]} <{name}>`", f"    {escaped(text[0].upper() + text[1:])}", ""]
    return "\n".join([*lines, "```"])


def skipped(app, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leave out members that others have written (matplotlib's of an artist) and those that say nothing."""
    foreign = not (getattr(obj, "__module__", None) or "paperlib").startswith("paperlib")
    return foreign or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") or None


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines:
                lines.__setitem__(slice(None), prepared(list(lines))))
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
