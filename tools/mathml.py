"""A Sphinx extension: formulas as MathML, written at build time.

Every current browser shows it without a script, so that the book needs no network and no bundled MathJax.
"""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.math import get_node_equation_number


def inline(translator, node) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display(translator, node) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(convert(node.astext(), display="block") + "</div>")
    raise nodes.SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
