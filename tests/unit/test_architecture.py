"""Code is in the folder of its only user, and imports go in one direction."""

import ast

from tests.structure import (
    ROOT,
    imports,
    longest_test_file,
    modules,
    names_defined_twice,
    odd_lines,
    single_user_modules,
)

# The levels of shared, from top to bottom. A package imports only itself and packages of lower levels.
LEVELS = (
    ("dependencies", "handlers"),
    ("resources",),
    ("http",),
    ("decisions",),
    ("llm", "checkpoints", "runs"),
    ("trainings", "evaluations", "connectors"),
    ("space_usage",),
    ("arguments", "audit", "chats", "experts", "inference_logs", "insights", "jobs", "personas", "spaces", "webhooks"),
    ("aws", "dynamodb", "files", "grounding", "network", "propensity", "reports"),
    ("models",),
    ("clock", "observability", "settings", "text"),
    ("transient",),
    ("bounds", "errors", "scratch", "secret_names", "space_binding"),
)
LEVEL_OF = {package: level for level, packages in enumerate(LEVELS) for package in packages}
SERVICE_MUST_NOT_IMPORT = ("fastapi", "starlette", "boto3.client", "os", "shared.http.routers", "shared.http.app")
# Folders of tests without a folder of the same name in shared or functions.
OTHER_TEST_FOLDERS = {"faults", "load", "local"}


def within(module: str, *folders: str) -> bool:
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def may_import(module: str, imported: str) -> bool:
    if module in ("functions.api", "functions.openapi"):
        return within(imported, "functions", "shared")
    package, other = module.split(".")[:2], imported.split(".")[:2]
    if package == other:
        return True
    if package[0] == "functions":
        return within(imported, "shared")
    return other[0] == "shared" and LEVEL_OF[package[1]] < LEVEL_OF[other[1]]


def test_every_package_of_shared_has_a_level() -> None:
    packages = {name.split(".")[1] for name in modules() if name.startswith("shared.")}
    assert packages == LEVEL_OF.keys()


def test_every_module_imports_only_lower_levels() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, tree in modules().items()
        for imported in imports(tree)
        if within(imported, "shared.", "shared", "functions", "infra", "tests")
        and imported not in ("shared", "functions")
        and module.count(".")
        and not may_import(module, imported)
    ]
    assert not wrong


def test_code_with_a_single_user_is_in_the_folder_of_that_user() -> None:
    assert not single_user_modules()


def test_no_class_and_no_alias_is_defined_twice() -> None:
    assert not names_defined_twice()


def test_services_import_no_http_and_no_environment() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, tree in modules().items()
        if module.endswith(".service")
        for imported in imports(tree)
        if within(imported, *SERVICE_MUST_NOT_IMPORT)
    ]
    assert not wrong


def test_services_do_not_import_the_resources() -> None:
    wrong = [
        name for name, tree in modules().items() if name.endswith(".service") and "shared.resources" in imports(tree)
    ]
    assert not wrong


def test_the_infrastructure_imports_no_runtime_code() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in (ROOT / "infra").rglob("*.py")
        if "local" not in path.parts
        for imported in imports(ast.parse(path.read_text()))
        if within(imported, "shared", "functions")
    ]
    assert not wrong


def test_no_module_unpickles() -> None:
    wrong = [
        module
        for module, tree in modules().items()
        if imports(tree) & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    ]
    assert not wrong


def test_folders_of_tests_have_the_names_of_source_folders() -> None:
    subjects = {path.name for top in ("shared", "functions") for path in (ROOT / top).iterdir() if path.is_dir()}
    folders = {
        path.name for kind in ("unit", "functional") for path in (ROOT / "tests" / kind).iterdir() if path.is_dir()
    }
    assert folders - subjects - {"__pycache__"} <= OTHER_TEST_FOLDERS


def test_no_file_of_tests_is_longer_than_400_lines() -> None:
    lines, path = longest_test_file()
    assert lines <= 400, path


def test_few_lines_have_words_that_are_hard_to_read() -> None:
    """The glossary lists the words and what to say instead. Some lines need one, as the glossary does."""
    found = odd_lines()
    assert len(found) < 20, "\n".join(found)
