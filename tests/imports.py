"""The files of this repository that a module imports, found by reading the source (used by the dependency tests)."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("stages", "edge", "hardware_runners")


def _file(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _run(tree: ast.Module) -> ast.Module:
    """Without what only type checkers read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def _discovers(tree: ast.AST) -> bool:
    """Whether a module imports all modules of its package: it walks pkgutil.iter_modules."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(func, ast.Attribute) and func.attr == "iter_modules" for func in calls)


def closure(module: str) -> set[str]:
    """Paths, relative to the root, of `module` and of everything of this repository that it imports."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in _parents(todo.pop()):
            path = _file(name)
            if path is None or str(path.relative_to(ROOT)) in seen:
                continue
            seen.add(str(path.relative_to(ROOT)))
            tree = _run(ast.parse(path.read_text()))
            if _discovers(tree):
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                todo += [f"{package}.{module.stem}" for module in path.parent.glob("*.py") if module != path]
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                else:
                    continue
                todo += [n for n in found if n.split(".")[0] in PACKAGES]
    return seen
