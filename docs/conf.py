"""How Sphinx builds the site: `sphinx-build -W docs docs/_build`."""

import os
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parents[1]
# This checkout is documented, by the notebooks' kernels too, whatever is installed.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_overparam import __version__  # noqa: E402

project = "keras_overparam"
author = "The keras_overparam authors"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "generated", "jupyter_execute"]
html_theme = "furo"
html_title = "keras_overparam"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
nitpick_ignore_regex = [
    ("py:.*", r"(?!keras_overparam).*"),
    ("py:.*", r"keras_overparam\.typing.*"),
]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# Notebooks run anew in each build, and an error in one is an error of the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_typehints = "none"  # the docstrings say what types there are
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference", "Input shape", "Output shape"]
default_role = "literal"


def inline_mathml(translator, node):
    """A formula within a sentence, in the markup that browsers draw by themselves."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_mathml(translator, node):
    """A formula on lines of its own; it scrolls where it is too wide."""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def equations_in_docstrings(app, what, name, obj, options, lines):
    """Show an indented equation as it is written: a literal block, in reStructuredText."""
    for index in range(len(lines) - 1, 0, -1):
        line, before = lines[index], lines[index - 1]
        if line.startswith("    ") and not before and index > 1 and is_text(lines[index - 2]):
            lines[index - 1 : index] = ["", "::", ""]


def is_text(line):
    """Whether a line of a docstring is one of its running text."""
    return bool(line) and not line[0].isspace() and not line.startswith((">>>", ".. ", ":"))


def without_field_aliases(app, what, name, obj, skip, options):
    """Leave out "alias for field number 0": the class's docstring says what its fields are."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline_mathml, None), (block_mathml, None))
    app.connect("autodoc-process-docstring", equations_in_docstrings, priority=400)
    app.connect("autodoc-skip-member", without_field_aliases)
