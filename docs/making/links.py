"A name in backticks leads to its entry in the reference, or to its notebook; pictures are counted page by page."

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


def page_of(text, pages):
    "The page of a notebook that is written as `nbs/2_method/04_mask`, `2_method/04_mask` or `04_mask`, or None."
    written = text.removesuffix(".ipynb")
    if not re.search(r"/|^\d\d_", written):
        return None
    return next(
        (page for page in sorted(pages) if page.startswith("nbs/") and f"/{page}".endswith(f"/{written}")), None
    )


def is_any_word(text, page):
    "Whether it may mean a stage, a data set or nothing special: one lower-case word, where no notebook explains it."
    return not page.startswith(("nbs/", "api")) and re.fullmatch("[a-z]+", text) is not None


def reference_to(text, app):
    "The reference that a text in backticks becomes; None where it names nothing."
    here = app.env.docname
    if page := page_of(text, app.env.found_docs - {here}):
        told = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page}"}
    elif (target := target_of(text, app.config.exported_names)) and not is_any_word(text, here):
        told = {"refdomain": "py", "reftype": "obj", "reftarget": target}
    else:
        return None
    return addnodes.pending_xref("", refexplicit=True, refwarn=True, refdoc=here, **told)


def link_names(app, doctree):
    "Turn each known name in backticks into a reference."
    for literal in list(doctree.findall(nodes.literal)):
        reference = None if inside(literal, PASSED_OVER) else reference_to(literal.astext(), app)
        if reference is not None:
            literal.replace_self(reference)
            reference += literal


def count_by_page(app, env):
    "The first picture of each page is Picture 1."
    for kinds in env.toc_fignumbers.values():
        for numbers in kinds.values():
            for i, name in enumerate(sorted(numbers, key=numbers.get), 1):
                numbers[name] = (i,)


def read_names(app, config):
    "What the package exports."
    config.exported_names = full_names(modules(config.package_root))


def setup(app):
    "Listen for pages that have been read."
    app.add_config_value("package_root", None, "env")
    app.add_config_value("exported_names", {}, "env", [dict])
    app.connect("config-inited", read_names)
    app.connect("doctree-read", link_names)
    app.connect("env-check-consistency", count_by_page)  # the first moment at which all pictures are counted
    return {"parallel_read_safe": True, "parallel_write_safe": True}
