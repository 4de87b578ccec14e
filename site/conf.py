"""Sphinx's settings for the site, which needs no network: no script, font or picture comes from elsewhere."""
import sys
from importlib.metadata import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))      # the extensions beside this file
MATHJAX = next(f for f in files("sphinx-mathjax-offline") if f.name == "tex-svg.js").locate()

project = "PROFIT and QIL, executable"
language = "en"
highlight_language = "none"     # formulas in docstrings are no Python
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "docstrings",
              "cells"]
exclude_patterns = ["originals"]

# notebooks are shown with the outputs stored in them
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4

# one file, which draws equations as outlines: browsers may refuse fonts in files
mathjax_path = MATHJAX.name
mathjax3_config = {"options": {"enableMenu": False}}

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False      # of a method, what it adds
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = project
html_static_path = ["static", str(MATHJAX)]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_copyright = False
html_domain_indices = False
html_show_search_summary = False        # the search would read other pages, which browsers forbid in files
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2",
                            "color-brand-visited": "#8A4B75", "pictures": "none"},
    "dark_css_variables": {"color-brand-primary": "#7CC3EE", "color-brand-content": "#7CC3EE",
                           "color-brand-visited": "#D9A3C1", "pictures": "invert(0.91) hue-rotate(180deg)"},
}
