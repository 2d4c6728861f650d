"""The reference of the public names, rendered from their docstrings.

    python -m training.api_page

The source is read and not imported, so the page needs none of the extras and is the same under every Python.
A name is public when `usbackbones.__all__` has it, or when it has no underscore in a module that `MODULES` names.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

from usbackbones.files import atomic_write

PACKAGE = Path(__file__).resolve().parents[1] / "usbackbones"
PAGE = PACKAGE.parent / "docs" / "api.md"
COMMAND = "python -m training.api_page"
MODULES = (
    "registry",
    "clips",
    "probe",
    "fewshot",
    "dataset",
    "splits",
    "duplicates",
    "finetune",
    "finetuned",
    "metalr",
    "dense",
    "segment",
    "segmenter",
    "segmented",
    "scores",
    "export",
    "convert",
    "phantom",
)
"""Modules whose own names are public too, in the order of the page."""
SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
}

Definition = ast.FunctionDef | ast.ClassDef


def parsed(module: str) -> ast.Module:
    """The source of a module of the package, by its name below it."""
    return ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


def exported() -> dict[str, str]:
    """The names of `usbackbones.__all__` and the module that defines each; "__init__" for its own."""
    listed = next(
        ast.literal_eval(node.value)
        for node in parsed("__init__").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return {name: home(name, "__init__") for name in listed if not name.startswith("_")}


def home(name: str, module: str) -> str:
    """The module that defines a name which this one defines or imports from another of ours."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return home(name, str(node.module).removeprefix("usbackbones."))
    return module


def definitions(module: str) -> dict[str, Definition]:
    """The functions and classes at the top of a module that are public and told of."""
    return {
        node.name: node
        for node in parsed(module).body
        if isinstance(node, Definition) and not node.name.startswith("_") and ast.get_docstring(node)
    }


def constants(module: str) -> dict[str, tuple[str, str]]:
    """The source and the docstring of the public assignments that have one, those for type checkers included."""
    found = {}
    tree = parsed(module)
    checked = [
        node.body for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for node, following in chain.from_iterable(map(pairwise, [tree.body, *checked])):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(following, ast.Expr):
            continue
        name = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
        told = following.value
        if isinstance(told, ast.Constant) and isinstance(told.value, str) and not name.startswith("_"):
            found[name] = (ast.unparse(node), inspect.cleandoc(told.value))
    return found


def signature(node: Definition) -> str:
    """How it is called, as code; a line for each parameter where one line would be too long."""
    if isinstance(node, ast.ClassDef):
        return _signature_of_class(node)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _broken(node.name, _parameters(node), returns)


def _signature_of_class(node: ast.ClassDef) -> str:
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if made:
        return "class " + _broken(node.name, _parameters(made)[1:], "")
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and "ClassVar" not in ast.unparse(one)]
        return "class " + _broken(node.name, [ast.unparse(one).replace(" = ", "=") for one in fields], "")
    return f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"


def _parameters(node: ast.FunctionDef) -> list[str]:
    """The parameters in order, with `*` and `/` where the source has them."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    told = [_told(one, default) for one, default in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        told.insert(len(args.posonlyargs), "/")
    if args.vararg:
        told.append(f"*{_told(args.vararg, None)}")
    elif args.kwonlyargs:
        told.append("*")
    told += [_told(one, default) for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return [*told, *([f"**{_told(args.kwarg, None)}"] if args.kwarg else [])]


def _told(parameter: ast.arg, default: ast.expr | None) -> str:
    annotation = f": {ast.unparse(parameter.annotation)}" if parameter.annotation else ""
    equals = " = " if annotation else "="
    return f"{parameter.arg}{annotation}{f'{equals}{ast.unparse(default)}' if default else ''}"


def _broken(name: str, parameters: list[str], returns: str) -> str:
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"])


def prose(docstring: str) -> str:
    """A Google docstring as Markdown: its sections become lists."""
    out, section = [], ""
    for line in docstring.splitlines():
        item = re.fullmatch(r"    (\S.*)", line)
        if line.removesuffix(":") in SECTIONS:
            section = line.removesuffix(":")
            out += [f"**{section}**", ""]
        elif item and section in ("Args", "Attributes", "Raises"):
            name, _, about = item[1].partition(": ")
            out.append(f"- `{name}`: {about}")
        elif section and line.startswith(" "):
            out.append(f"  {line.strip()}" if section in ("Args", "Attributes", "Raises") else line.strip())
        else:
            section = section if not line else ""
            out.append(line)
    return "\n".join(out).strip()


def entry(name: str, node: Definition) -> Iterator[str]:
    """The paragraphs about one name: how it is called, what it does, and its public methods."""
    yield f"### {name}"
    yield f"```python\n{signature(node)}\n```"
    yield prose(ast.get_docstring(node) or "")
    for method in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(method, ast.FunctionDef) and (method.name == "__call__" or method.name[0] != "_"):
            told = ast.get_docstring(method)
            if told:
                yield f"#### {name}.{method.name}"
                yield f"```python\n{_broken(method.name, _parameters(method), '')}\n```"
                yield prose(told)


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# API reference",
        f"Rendered from the docstrings by `{COMMAND}`; arrays are `[rows, columns]` of NumPy unless a tensor is named.",
    ]
    homes = exported()
    parts.append("## usbackbones")
    for name, module in homes.items():
        if name in definitions(module):
            parts += entry(name, definitions(module)[name])
        else:
            source, told = constants(module)[name]
            parts += [f"### {name}", f"```python\n{source}\n```", prose(told)]
    for module in MODULES:
        parts += [f"## usbackbones.{module}", prose(ast.get_docstring(parsed(module)) or "")]
        for name, (source, told) in constants(module).items():
            parts += [f"### {name}", f"```python\n{source}\n```", prose(told)]
        for name, node in definitions(module).items():
            if homes.get(name) == module:
                parts.append(f"`{name}`: see above, it is in `usbackbones` itself.")
            else:
                parts += entry(name, node)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    with atomic_write(PAGE, "w", encoding="utf-8") as stream:
        stream.write(page())


if __name__ == "__main__":
    main()
