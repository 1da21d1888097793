"""The shape of the program that no linter holds: faces stay narrow, and no module needs one that needs it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
MODULES: Final = {
    ".".join(path.with_suffix("").relative_to(ROOT).parts).removesuffix(".__init__"): path for path in sorted((ROOT / "fhir_server").rglob("*.py"))
}
FACES: Final = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


def imports(module: str) -> Iterator[str]:
    """The modules of ours that a module imports: at its top, within a function, or for type checkers alone."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for each in node.names:
                found = f"{source}.{each.name}" if f"{source}.{each.name}" in MODULES else source
                if found in MODULES and found != module:
                    yield found


@pytest.mark.parametrize("face", FACES)
def test_a_face_has_ten_names_at_the_most(face: str) -> None:
    for node in ast.parse(MODULES[face].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            assert len(ast.literal_eval(node.value)) <= 10


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {module: set(imports(module)) for module in MODULES}
    assert "fhir_server.store" in graph["fhir_server.app"]
    assert "fhir_server.store.writing.content" in graph["fhir_server.store"]
    TopologicalSorter(graph).prepare()
