"""Builds the site of notebooks, figures, glossary and API: ``make site``, or ``python site/build.py [FOLDER]``."""
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "build" / "site"


def build(out: Path) -> int:
    """Write the site into ``out``, an empty folder or an earlier site; returns 0 if nothing was to be complained of."""
    if out.exists() and any(out.iterdir()) and not (out / ".buildinfo").exists():
        print(f"{out} holds other files than a site: name an empty folder", file=sys.stderr)
        return 2
    # both take seconds to load
    import pages
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        pages.write(source)
        return sphinx(["-b", "html", "-W", "--keep-going", "-q", "-c", str(HERE), "-d", str(Path(work) / "doctrees"),
                       "-D", f"html_extra_path={source / 'extra'}",
                       str(source), str(out)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=OUT, help="where to write it (build/site)")
    folder = parser.parse_args().folder
    if status := build(folder):
        sys.exit(status)
    print(f"open {folder / 'index.html'}")
