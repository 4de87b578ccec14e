"""A hash over code that follows what the code does: the same in every Python, and however it is worded or laid out.

All functions take the library as ``sources``, {path: content}, and import nothing of it.
"""
from __future__ import annotations

import ast
import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

BUILDER = "runs/phase_trainer.py"     # builds what trains: numbers are decided there and in what it imports
ASIDE = {                   # what numbers do not pass through, wherever it is imported
    "errors": "what is said", "paths": "where files lie", "interrupt": "when to stop, which changes no step",
    "downloads": "how files come, whose SHA-256 is checked by image_arrays.verified"}


def read(folder: Path) -> dict[str, bytes]:
    """{path: content} of the modules and C sources in a folder, without copies whose names are no module's."""
    found = {}
    for file in folder.rglob("*.*"):
        path = file.relative_to(folder)
        if file.suffix in (".py", ".c") and all(part.isidentifier() for part in path.with_suffix("").parts):
            with contextlib.suppress(OSError):
                if file.is_file():      # no folder, pipe or link to nothing
                    found[path.as_posix()] = file.read_bytes()
    return found


def numerics(sources: Mapping[str, bytes]) -> str:
    """A hash over all that decides numbers, :func:`closure`: rewording and moving cost no retraining, since comments,
    docstrings, import lines, what errors say and where a definition is do not count."""
    found = closure(sources)
    for node in (node for tree in found.values() for node in ast.walk(tree)):
        if isinstance(node, ast.Raise):
            node.exc, node.cause = getattr(node.exc, "func", node.exc), None
    return _digest(found.values())


def whole(sources: Mapping[str, bytes]) -> str:
    """A hash over the whole library: as :func:`numerics`, but what errors say counts."""
    return _digest(filter(None, (_parsed(path, sources) for path in sources)))


def closure(sources: Mapping[str, bytes]) -> dict[str, ast.Module]:
    """{path: syntax tree} of BUILDER and all that it imports, as deep as it goes and wherever the import is, with
    the C sources of their names; without ASIDE and what is imported for type hints alone."""
    found: dict[str, ast.Module] = {}
    queue = [BUILDER]
    while queue:
        path = queue.pop()
        tree = None if path in found or Path(path).stem in ASIDE else _parsed(path, sources)
        if tree is not None:
            found[path] = tree
            queue += filter(None, _uses(path, tree, sources))
    return found


def _parsed(path: str, sources: Mapping[str, bytes]) -> ast.Module | None:
    """The syntax tree without what has no effect; of C, a module that holds the text; None for what is no Python."""
    content = sources[path]
    if path.endswith(".c"):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", content.decode(errors="replace"), flags=re.DOTALL)
        return ast.Module([ast.Assign([], ast.Constant(" ".join(text.split())))], [])
    try:
        tree = ast.parse(content)
        modules = {name for module, name, itself in _imports(path, tree, sources) if itself and module}
        return _Effective(modules).visit(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):      # the last two: nested too deeply
        return None


class _Effective(ast.NodeTransformer):
    """Takes out docstrings and other idle statements, ``__all__``, what is imported for type hints alone, and which
    module a name is asked of: ``layers.QuantConv2d`` becomes ``QuantConv2d``."""

    def __init__(self, modules: set[str]):
        self.modules = modules      # names that modules of the library bear here

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node):
        return None

    def visit_If(self, node):
        return None if getattr(node.test, "id", "") == "TYPE_CHECKING" else self.generic_visit(node)

    def visit_Assign(self, node):
        return None if getattr(node.targets[0], "id", "") == "__all__" else self.generic_visit(node)

    def visit_Attribute(self, node):
        of_module = getattr(node.value, "id", "") in self.modules
        return ast.Name(node.attr, node.ctx) if of_module else self.generic_visit(node)


def _imports(path: str, tree: ast.Module, sources: Mapping[str, bytes]) -> Iterator[tuple[str, str, bool]]:
    """(path of a module, the name that an import binds, whether that is the module itself), wherever the import
    stands."""
    def module(parts):
        return next((p for p in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])) if p in sources), None)

    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = package[:len(package) + 1 - node.level] + base
            elif base.pop(0) != "paperlib":
                continue
            for alias in node.names:        # a module of the package, or a name in a module
                itself = module([*base, alias.name])
                yield itself or module(base), alias.asname or alias.name, itself is not None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == "paperlib":
                    yield module(rest), alias.asname or first, alias.asname is not None


def _uses(path: str, tree: ast.Module, sources: Mapping[str, bytes]) -> Iterator[str | None]:
    """The paths of the modules that a module imports, and of the C source that bears its name."""
    source_in_c = path.removesuffix(".py") + ".c"
    yield source_in_c if source_in_c in sources else None
    yield from (module for module, _, _ in _imports(path, tree, sources))
    if any(isinstance(node, ast.Attribute) and node.attr == "iter_modules" for node in ast.walk(tree)):
        folder = path.rpartition("/")[0]        # a package that imports all it holds
        yield from (other for other in sources if other.endswith(".py") and other.rpartition("/")[0] == folder)


def _digest(trees: Iterable[ast.Module]) -> str:
    """A hash over the statements of modules, whichever module each stands in."""
    statements = sorted(_plain(node) for tree in trees for node in tree.body if not _is_import(node))
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()[:12]


def _plain(node) -> str:
    """A syntax tree as text.  Versions of Python differ in which fields there are, not in those that are filled, and in
    how f-strings are cut up."""
    if isinstance(node, list):
        return f"[{' '.join(_plain(item) for item in node if not _is_import(item))}]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!a}"
    if isinstance(node, ast.JoinedStr):
        return f"[{' '.join(_joined(node.values))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if value is not None)
    return f"{type(node).__name__}({' '.join(f'{name}={text}' for name, text in fields if text != '[]')})"


def _joined(values: list[ast.expr]) -> Iterator[str]:
    """The parts of an f-string as text, neighbouring pieces of plain text as one."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += value.value
            continue
        if text:
            yield ascii(text)
        text = ""
        yield _plain(value)
    if text:
        yield ascii(text)


def _is_import(node) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))
