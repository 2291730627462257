"""A Sphinx extension: formulas as MathML, written at build time.

Every current browser shows it without a script, so that the book needs no network and no bundled MathJax.
"""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

# What the converter leaves in its output of a command or an environment that it does not know.
NOT_UNDERSTOOD = re.compile(r">(\\\w*|&)<")


def mathml(node, display: str) -> str:
    """The node's LaTeX as a <math> element; a warning where the converter did not understand it."""
    latex = node.astext()
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    result = convert(re.sub(r"\{(?:aligned|gathered)\}", "{align*}", latex), display=display)
    if unknown := NOT_UNDERSTOOD.search(result):
        logger.warning("%s is not understood in the formula %s", unknown[1], latex, location=node)
    return result


def inline(translator, node) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def display(translator, node) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(mathml(node, "block") + "</div>")
    raise nodes.SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
