"""Each package imports only from those before it."""

import ast
from pathlib import Path

ORDER = [
    "errors",
    "runtime",
    "config",
    "models",
    "triplets",
    "images",
    "datasets",
    "input",
    "prepare",
    "embedders",
    "evaluation",
    "report",
    "recognition",
    "curation",
    "training",
    "export",
    "sweeps",
    "planning",
    "commands",
    "cli",
    "__main__",
]
PACKAGE = Path(__file__).parents[1] / "src" / "facenet_jax"


def test_a_room_imports_only_from_rooms_before_it():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "facenet_jax":
                modules += [f"facenet_jax.{alias.name}" for alias in node.names]
            for module in modules:
                parts = (module or "").split(".")
                if parts[0] == "facenet_jax" and len(parts) > 1 and parts[1] != "__version__":
                    assert ORDER.index(parts[1]) <= ORDER.index(room), f"{file} imports {module}"
