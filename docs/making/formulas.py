"Formulas as MathML, made when the site is built: a browser draws them without a script and without a network."

from docutils import nodes
from latex2mathml.converter import convert


def visit_inline(writer, node):
    "A formula inside a sentence."
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_block(writer, node):
    "A formula of its own."
    formula = convert(node.astext(), display="block")
    writer.body.append(f'<div class="formula" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app):
    "Register the renderer `mathml`."
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
