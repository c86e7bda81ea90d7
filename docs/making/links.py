"A name in backticks leads to its entry in the reference."

import re

from docutils import nodes
from making.api import full_names, modules
from sphinx import addnodes

PASSED_OVER = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc_signature)


def inside(node, kinds):
    "Whether a node lies in one of these."
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False


def target_of(text, known):
    "The full name of what is written as `name`, `name(...)` or `module.name`; None for anything else."
    written = re.fullmatch(r"([\w.]+)(\(.*\))?", text)
    if written is None:
        return None
    full = known.get(written[1].rpartition(".")[2], "")
    return full if f".{full}".endswith(f".{written[1]}") else None


def link_names(app, doctree):
    "Turn each known name in backticks into a reference."
    for literal in list(doctree.findall(nodes.literal)):
        target = target_of(literal.astext(), app.config.exported_names)
        if target is None or inside(literal, PASSED_OVER):
            continue
        reference = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refdoc=app.env.docname
        )
        literal.replace_self(reference)
        reference += literal


def read_names(app, config):
    "What the package exports."
    config.exported_names = full_names(modules(config.package_root))


def setup(app):
    "Listen for pages that have been read."
    app.add_config_value("package_root", None, "env")
    app.add_config_value("exported_names", {}, "env", [dict])
    app.connect("config-inited", read_names)
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
