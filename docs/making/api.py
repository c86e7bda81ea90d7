"The reference: every exported name, read from the modules with `ast`, so that nothing is imported or run."

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "ada_repro"
UNITS = {"mm": "mm", "px": "px", "s": "s", "deg": "degrees", "mb": "MB"}
UNIT_WORDS = re.compile(r"\b(?:in|of) (mm2?|px|pixels|degrees|seconds|MB)\b|\[(mm2?|px)\]")


@dataclass(frozen=True)
class Parameter:
    "One line of a signature."

    name: str
    kind: str
    default: str
    meaning: str

    @property
    def unit(self):
        "What its name or its comment says that it is measured in."
        found = UNIT_WORDS.search(self.meaning)
        if found:
            return found[1] or found[2]
        return UNITS.get(self.name.rpartition("_")[2], "") if "_" in self.name else ""


@dataclass(frozen=True)
class Module:
    "A module's source, and what is read from it."

    name: str
    source: str

    @property
    def tree(self):
        return ast.parse(self.source)

    @property
    def comments(self):
        "The comment at the end of each line."
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return {token.start[0]: token.string[1:].strip() for token in tokens if token.type == tokenize.COMMENT}

    @property
    def exported(self):
        "The names in `__all__`."
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return ast.literal_eval(node.value)
        return []

    @property
    def notebook(self):
        "The notebook that it is exported from."
        return re.search(r"File to edit: (?:\.\./)*(\S+)\.ipynb", self.source)[1]


def modules(root):
    "All modules of the package."
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        if not path.stem.startswith("_"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found.append(Module(name, path.read_text()))
    return found


def defined(module):
    "The node of each exported name."
    nodes = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign):
            for name in re.findall(r"\w+", ast.unparse(node.targets[0])):  # one, or several side by side
                nodes.setdefault(name, node)
        elif isinstance(node, ast.AnnAssign):
            nodes.setdefault(ast.unparse(node.target), node)
    there = [name for name in module.exported if name in nodes]
    there.sort(key=lambda name: isinstance(nodes[name], ast.Assign | ast.AnnAssign))  # what can be called comes first
    return {name: nodes[name] for name in there}


def full_names(found):
    "Where each exported name is defined; a name of two modules is left out."
    places = {}
    for module in found:
        for name in defined(module):
            places.setdefault(name, []).append(f"{module.name}.{name}")
    return {name: where[0] for name, where in places.items() if len(where) == 1}


def parameter(argument, default, comments, prefix=""):
    "One argument with the comment beside it."
    kind = ast.unparse(argument.annotation) if argument.annotation else ""
    last = default.end_lineno if default is not None else argument.end_lineno
    value = ast.unparse(default) if default is not None else ""
    return Parameter(prefix + argument.arg, kind, value, comments.get(last, ""))


def parameters(function, comments):
    "The arguments of a function, in order."
    told = function.args
    plain = [*told.posonlyargs, *told.args]
    defaults = [None] * (len(plain) - len(told.defaults)) + list(told.defaults)
    found = [parameter(a, value, comments) for a, value in zip(plain, defaults, strict=True)]
    if told.vararg:
        found.append(parameter(told.vararg, None, comments, "*"))
    found += [parameter(a, value, comments) for a, value in zip(told.kwonlyargs, told.kw_defaults, strict=True)]
    if told.kwarg:
        found.append(parameter(told.kwarg, None, comments, "**"))
    return [one for one in found if one.name not in ("self", "cls")]


def fields(kind, comments):
    "The fields of a dataclass."
    found = []
    for node in kind.body:
        if isinstance(node, ast.AnnAssign):
            value = ast.unparse(node.value) if node.value else ""
            comment = comments.get(node.end_lineno, "")
            found.append(Parameter(ast.unparse(node.target), ast.unparse(node.annotation), value, comment))
    return found


def returned(function, comments):
    "What a function returns, in words."
    if function.returns is None:
        return ""
    kind, comment = ast.unparse(function.returns), comments.get(function.returns.end_lineno, "")
    return f"`{kind}`: {comment}" if comment else f"`{kind}`"


def errors(node):
    "What it raises by itself, by what it checks with, or by its own word."
    found = set(re.findall(r"\b[A-Z]\w*Error\b", ast.get_docstring(node) or ""))
    for one in ast.walk(node):
        if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call):
            found.add(ast.unparse(one.exc.func))
        elif isinstance(one, ast.Call) and re.match(r"check_|as_target", ast.unparse(one.func)):
            found.add("ValueError")
    return sorted(found)


def cell(text, code=False):
    "A cell of a table."
    text = text.replace("|", "\\|")
    return f"`{text}`" if code and text else text


def parameter_table(found):
    "Type, default, meaning and unit of each parameter."
    if not found:
        return []
    columns = {
        "parameter": [cell(one.name, True) for one in found],
        "type": [cell(one.kind, True) for one in found],
        "default": [cell(one.default, True) for one in found],
        "meaning": [cell(one.meaning) for one in found],
        "unit": [one.unit for one in found],
    }
    filled = {head: cells for head, cells in columns.items() if any(cells)}
    lines = [list(filled), ["---"] * len(filled), *zip(*filled.values(), strict=True)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def signature(name, found):
    "Names and defaults; the types stand in the table."
    return f"{name}({', '.join(f'{one.name}={one.default}' if one.default else one.name for one in found)})"


def source_of(node, module):
    "The lines of a definition, its decorators too."
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return "\n".join(module.source.splitlines()[first - 1 : node.end_lineno])


def folded(code):
    "Source that opens when it is asked for."
    opening = ["```{raw} html", '<details class="source"><summary>Source</summary>', "```"]
    return [*opening, "```python", code, "```", "```{raw} html", "</details>", "```", ""]


def directive(kind, head, lines, depth):
    "A directive of the Python domain with its content."
    fence = "`" * depth
    return [f"{fence}{{py:{kind}}} {head}", *lines, fence, ""]


def is_property(node):
    "Whether it is read like a field."
    return any(ast.unparse(one).endswith("property") for one in node.decorator_list)


def function_entry(name, node, module, kind="function", depth=5):
    "The entry of a function or a method."
    found = parameters(node, module.comments)
    words = ast.get_docstring(node) or module.comments.get(node.lineno, "")
    lines = [words, "", *parameter_table(found)]
    if is_property(node):
        return directive("property", name, lines, depth)
    if result := returned(node, module.comments):
        lines += [f"**Returns** {result}", ""]
    if raised := errors(node):
        lines += [f"**Raises** {', '.join(f'`{one}`' for one in raised)}", ""]
    if kind == "function":
        lines += folded(source_of(node, module))
    return directive(kind, signature(name, found), lines, depth)


def class_entry(name, node, module):
    "The entry of a class: what it is made from, and its methods."
    methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    start = methods.get("__init__")
    found = parameters(start, module.comments) if start else fields(node, module.comments)
    lines = [ast.get_docstring(node) or "", "", *parameter_table(found)]
    for method, body in methods.items():
        if not method.startswith("_"):
            lines += function_entry(method, body, module, "method")
    lines += folded(source_of(node, module))
    return directive("class", signature(name, found) if found else name, lines, 6)


def entry(name, node, module):
    "The entry of an exported name."
    if isinstance(node, ast.FunctionDef):
        return function_entry(name, node, module)
    if isinstance(node, ast.ClassDef):
        return class_entry(name, node, module)
    comment = module.comments.get(node.lineno, "")
    return directive("data", name, [comment, "", *folded(source_of(node, module))], 5)


def module_page(module):
    "The page of a module."
    short = module.name.removeprefix(f"{PACKAGE}.")
    about = ast.get_docstring(module.tree) or ""
    lines = [f"# {short}", "", f"{about}. Explained in [its notebook](../{module.notebook}.ipynb).", ""]
    lines += [f"```{{py:currentmodule}} {module.name}", "```", ""]
    for name, node in defined(module).items():
        lines += entry(name, node, module)
    return "\n".join(lines)


def write_reference(root, to):
    "Write a page for each module, and one that lists them."
    found = modules(root)
    (to / "api").mkdir(parents=True, exist_ok=True)
    lines = ["# Every function", "", "Each exported name with its parameters, what it returns and what it refuses.", ""]
    for module in found:
        short = module.name.removeprefix(f"{PACKAGE}.")
        (to / "api" / f"{short}.md").write_text(module_page(module))
        names = ", ".join(f"`{name}`" for name in defined(module))
        lines += [f"**[{short}](api/{short}.md)**: {ast.get_docstring(module.tree)}.", "", names, ""]
    pages = [f"api/{module.name.removeprefix(f'{PACKAGE}.')}" for module in found]
    Path(to / "api.md").write_text("\n".join([*lines, "```{toctree}", ":hidden:", *pages, "```", ""]))
