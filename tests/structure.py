"""Reads the structure of the source tree. ``python -m tests.structure`` prints its figures in one line."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("shared", "functions")
# Words of sentences that are hard to read for somebody who learnt English at school.
ODD_WORDS = re.compile(
    r"\b(told|tells|stands?|stood|lets go|let go of|hands? back|so long|of none|is none|is no more|lest|thereof|"
    r"whoever|whatever|that it has|come to nothing|at once|by itself|meanwhile|is looked at|goes by|leaves? behind)\b"
)


def module_name(path: Path) -> str:
    """Returns the dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, ast.Module]:
    """Returns the syntax trees of ``shared`` and ``functions``, by the name of their module."""
    paths = sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text()) for path in paths}


def imports(tree: ast.Module) -> set[str]:
    """Returns all imported modules, also those imported inside functions, but not those for type checkers only."""
    checked_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    return _imported(node for node in ast.walk(tree) if id(node) not in checked_only)


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            found |= submodules or {node.module or ""}
    return found


def _named(tree: ast.Module) -> set[str]:
    """Returns the modules that are imported by their name in a string, alone or as ``module:attribute``."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text.partition(":")[0] for text in texts} & modules().keys()


@cache
def users() -> dict[str, set[str]]:
    """Returns the folders of ``functions`` that use each module of ``shared``, directly or not.

    ``shared.resources`` makes stores for all. So an attribute of ``Resources`` counts as an import of the modules that
    its property needs, where the attribute is used.
    """
    needs, attributes = _resources()
    edges = {
        name: ((imports(tree) | _named(tree)) - {"shared.resources"})
        | {module for attribute in _attributes(tree) & attributes for module in needs[attribute]}
        for name, tree in modules().items()
        if name != "shared.resources"
    }
    found: dict[str, set[str]] = defaultdict(set)
    for name in edges:
        if name.startswith("functions.") and name.count(".") > 1:
            for used in _reachable(name, edges):
                found[used].add(name.split(".")[1])
    return found


def _attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _resources() -> tuple[dict[str, set[str]], set[str]]:
    """Returns the modules that each property of ``Resources`` needs, and the names of the properties."""
    (definition,) = (node for node in modules()["shared.resources"].body if isinstance(node, ast.ClassDef))
    properties = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
    needs = {name: _imported(ast.walk(node)) for name, node in properties.items()}
    for _ in properties:
        for name, node in properties.items():
            needs[name] |= {module for other in _attributes(node) & needs.keys() for module in needs[other]}
    return needs, set(properties)


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def lines(module: str) -> int:
    """Returns the number of lines of a module."""
    path = ROOT.joinpath(*module.split("."))
    return len((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text().splitlines())


def single_user_modules() -> list[str]:
    """Returns the modules of ``shared`` that at most one folder of ``functions`` uses.

    Models describe the API and are shared by rule. Settings and clients belong to ``shared.resources``.
    """
    everybody = ("shared.models", "shared.resources", "shared.settings", "shared.aws.clients")
    return [
        name
        for name, tree in modules().items()
        if name.startswith("shared.")
        and not name.startswith(everybody)
        and any(not isinstance(node, ast.Expr) for node in tree.body)
        and len(users()[name]) < 2
    ]


def names_defined_twice() -> dict[str, list[str]]:
    """Returns the classes and aliases that several modules of the product define, with these modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for folder in (*SOURCES, "infra") for path in (ROOT / folder).rglob("*.py")):
        for name in _definitions(ast.parse(path.read_text())):
            places[name].append(module_name(path))
    return {name: found for name, found in places.items() if len(found) > 1}


def _definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and re.match(r"[A-Z]\w*[a-z]", target.id):
                yield target.id


def odd_lines() -> list[str]:
    """Returns the lines of code and documents with an odd word in a comment, docstring, message or sentence."""
    folders = (*SOURCES, "infra", "tests", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted([*paths, *ROOT.glob("*.md")])
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ODD_WORDS.search(line)
    ]


def longest_test_file() -> tuple[int, str]:
    """Returns the number of lines and the path of the longest file of tests."""
    return max(
        (len(path.read_text().splitlines()), str(path.relative_to(ROOT))) for path in (ROOT / "tests").rglob("*.py")
    )


def main() -> None:
    """Prints the figures."""
    single = sum(map(lines, single_user_modules()))
    longest, path = longest_test_file()
    print(
        f"lines of shared with one user: {single}, names defined twice: {len(names_defined_twice())}, "
        f"odd English lines: {len(odd_lines())}, longest test file: {longest} lines ({path})"
    )


if __name__ == "__main__":
    main()
