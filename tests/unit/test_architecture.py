"""Dependencies point one way: routes -> service -> store, aws, llm, propensity, scanning -> models."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What the modules of a folder may import from this project; the longest matching prefix decides.
ALLOWED = {
    "shared.errors": (),
    "shared.settings": (),
    "shared.webhooks.signature": ("shared.errors",),
    "shared.observability": ("shared.errors",),
    "shared.models": ("shared.models", "shared.errors"),
    "shared.store": ("shared.store", "shared.models", "shared.errors", "shared.clock"),
    "shared.files": ("shared.files", "shared.models", "shared.errors"),
    "functions.personas.files": ("functions.personas.files", "shared.models", "shared.errors"),
    "shared.propensity": ("shared.propensity", "shared.models", "shared.errors", "shared.files"),
    "shared.propensity.scorers": ("shared.propensity", "shared.models", "shared.errors", "shared.observability"),
    "shared.llm": (
        "shared.llm",
        "shared.store",
        "shared.aws",
        "shared.models",
        "shared.errors",
        "shared.observability",
    ),
    "shared.aws": ("shared.aws", "shared.models", "shared.errors", "shared.settings"),
    "shared.resources": ("shared", "shared.dynamodb.table", "shared.http.tokens"),
    "shared.http": ("shared",),
    "shared.connectors.scans": ("shared.aws", "shared.store", "shared.models", "shared.errors", "shared.observability"),
    "shared.evaluations.due": ("shared.aws", "shared.store", "shared.models", "shared.errors", "shared.observability"),
    "functions.arguments.grounding": ("functions.arguments.grounding", "shared.models"),
    "shared.llm.token_cleaner": (
        "shared.aws",
        "shared.store",
        "shared.models",
        "shared.errors",
        "shared.observability",
    ),
    "shared.jobs.failures": ("shared.models",),
    "shared.checkpoints.lineages": ("shared.aws", "shared.store", "shared.models"),
    "functions.workflows.job_inputs": (
        "shared.aws",
        "shared.store",
        "shared.models",
        "shared.errors",
        "shared.settings",
    ),
    "functions.api": ("functions", "shared"),
    "functions.openapi": ("functions.api", "shared"),
}
SERVICE_MUST_NOT_IMPORT = ("fastapi", "starlette", "boto3.client", "os", "shared.http.routers", "shared.http.app")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted([*(ROOT / "shared").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imports(tree: ast.Module) -> set[str]:
    """Every imported module, also inside functions; those for type checkers only are left out."""
    checked_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
    return found


def within(module: str, folders: tuple[str, ...]) -> bool:
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def allowed_for(module: str) -> tuple[str, ...]:
    if module.startswith("functions.") and module not in ALLOWED:
        return (".".join(module.split(".")[:2]), "shared")
    rule = max((name for name in ALLOWED if within(module, (name,))), key=len, default="")
    return ALLOWED.get(rule, ())


def test_every_module_imports_only_what_lies_below_it() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, tree in modules()
        for imported in imports(tree)
        if within(imported, ("shared", "functions", "infra", "tests")) and not within(imported, allowed_for(module))
    ]
    assert not wrong


def test_services_know_no_http_and_no_environment() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, tree in modules()
        if module.endswith(".service")
        for imported in imports(tree)
        if within(imported, SERVICE_MUST_NOT_IMPORT)
    ]
    assert not wrong


def test_the_infrastructure_imports_no_runtime_code() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in (ROOT / "infra").rglob("*.py")
        if "local" not in path.parts
        for imported in imports(ast.parse(path.read_text()))
        if within(imported, ("shared", "functions"))
    ]
    assert not wrong


def test_no_module_unpickles() -> None:
    wrong = [
        module
        for module, tree in modules()
        if imports(tree) & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    ]
    assert not wrong
