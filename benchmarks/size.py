"""Print the size and the shape of the package: modules, lines, functions, import cycles.

    python benchmarks/size.py [--list]

Lines are lines of Python in ``src``, including blank lines, comments and docstrings; the length of a function is
counted without its docstring.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
SHORT, LONG = 40, 400


def main() -> None:
    """Measure every module and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--list", action="store_true", help="also print modules and lines per package")
    options = arguments.parse_args()
    texts = {path.relative_to(SRC): path.read_text("utf-8") for path in sorted((SRC / "counterpoise").rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: text.count("\n") for path, text in texts.items()}
    lengths = sorted((length, path, name) for path, tree in trees.items() for name, length in functions(tree))
    cycles = import_cycles({module_name(path): tree for path, tree in trees.items()})
    modules = {path: n for path, n in lines.items() if path.name not in ("__init__.py", "__main__.py")}
    print(f"modules                      {len(lines)}")
    print(f"lines                        {sum(lines.values()):,}")
    print(f"modules under {SHORT} lines       {names(p for p, n in modules.items() if n < SHORT)}")
    print(f"modules over {LONG} lines       {names(p for p, n in modules.items() if n > LONG)}")
    print(f"functions                    {len(lengths):,}")
    print(f"lines per function, median   {lengths[len(lengths) // 2][0]}")
    print(f"lines per function, p90      {lengths[int(0.9 * len(lengths))][0]}")
    print(f"lines per function, max      {lengths[-1][0]} ({lengths[-1][1]}: {lengths[-1][2]})")
    print(f"import cycles                {len(cycles)} {' '.join(' -> '.join(cycle) for cycle in cycles)}")
    print(f"public classes named twice   {names(sorted(classes_named_twice(trees)))}")
    if options.list:
        for name, (number, total) in sorted(by_package(lines).items()):
            print(f"{name:30} {number:4} {total:6,}")


def by_package(lines: dict[Path, int]) -> dict[str, tuple[int, int]]:
    """Modules and lines per package; those of the workflow one by one."""
    found: dict[str, tuple[int, int]] = {}
    for path, n in lines.items():
        parts = path.parts[1:-1]
        name = "/".join(parts[: 2 if parts[:1] == ("workflow",) else 1]) or "counterpoise"
        modules, total = found.get(name, (0, 0))
        found[name] = (modules + 1, total + n)
    return found


def functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Name and length of every function; nested ones count on their own as well."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            found.append((node.name, length))
    return found


def module_name(path: Path) -> str:
    """counterpoise/core/counts.py as counterpoise.core.counts."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_cycles(trees: dict[str, ast.Module]) -> list[list[str]]:
    """Groups of modules that import each other, also inside functions; imports for type checkers only do not count."""
    graph = {name: imported(tree, trees) - {name} for name, tree in trees.items()}
    reached = {name: reachable(name, graph) for name in graph}
    groups = {
        frozenset(m for m in reached[name] if name in reached[m]) | {name} for name in graph if name in reached[name]
    }
    return [sorted(group) for group in groups]


def imported(tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    skipped = {id(n) for node in ast.walk(tree) if is_type_checking(node) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return found & modules.keys()


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Every module that ``start`` imports, directly or not."""
    seen: set[str] = set()
    stack = list(graph[start])
    while stack:
        name = stack.pop()
        if name not in seen:
            seen.add(name)
            stack += graph[name]
    return seen


def classes_named_twice(trees: dict[Path, ast.Module]) -> set[str]:
    """Names of public classes that more than one module defines; adapters repeat the names of what they adapt."""
    names = Counter(
        node.name
        for path, tree in trees.items()
        if "integrations" not in path.parts
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {name for name, n in names.items() if n > 1}


def names(found: object) -> str:
    """How many there are, and which."""
    listed = [str(name) for name in found]  # type: ignore[attr-defined]
    return f"{len(listed)} {' '.join(listed)}"


if __name__ == "__main__":
    main()
