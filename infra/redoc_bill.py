"""Writes the bill of materials of Redoc's script, which users' browsers run.

Redoc's makers bundle its packages in versions of their own, which package-lock.json does not know. The script's source
map contains the source of each package. A package whose sources equal the installed ones has the installed version.
Others have the version that their sources state, or none.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PACKAGE = re.compile(r"node_modules/((?:@[^/]+/)?[^/]+)/")
_NUMBER = r"(\d+\.\d+\.\d+)"
_VERSION = rf"\b{{name}} v?{_NUMBER}|exports\.version\s*=\s*[\"']{_NUMBER}|\bversion: [\"']{_NUMBER}"

Sources = Mapping[str, str]


def bundled(redoc: Path) -> dict[str, Sources]:
    """Returns the sources in Redoc's script by package, each by its path below the folder of packages."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path, text in _sources(redoc):
        if names := _PACKAGE.findall(path):
            found[names[-1]][path[path.index("node_modules/") :].partition("?")[0]] = text
    return dict(found)


def _sources(redoc: Path) -> Iterator[tuple[str, str]]:
    for path in (redoc / "bundles" / "redoc.standalone.js.map", *redoc.glob("bundles/*.worker.js.map")):
        content = json.loads(path.read_text())
        yield from zip(content["sources"], content["sourcesContent"], strict=True)


def version_of(name: str, sources: Sources, root: Path) -> str | None:
    """Returns the version of a bundled package, or ``None`` if nothing states it."""
    folder = root / "node_modules" / name
    if all(_equals_installed(root, name, path, text) for path, text in sources.items()):
        version: str = json.loads((folder / "package.json").read_text())["version"]
        return version
    stated = re.compile(_VERSION.format(name=re.escape(name)), re.IGNORECASE)
    versions = {next(filter(None, match.groups())) for text in sources.values() for match in stated.finditer(text)}
    return versions.pop() if len(versions) == 1 else None


def _equals_installed(root: Path, name: str, path: str, text: str) -> bool:
    installed = root / "node_modules" / name / path.rpartition(f"node_modules/{name}/")[2]
    return installed.is_file() and installed.read_text(errors="replace").strip() == text.strip()


def redoc_bill(root: Path) -> dict[str, Any]:
    """Returns a CycloneDX document of Redoc's script."""
    redoc = root / "node_modules" / "redoc"
    version = json.loads((redoc / "package.json").read_text())["version"]
    found = {name: version_of(name, sources, root) for name, sources in sorted(bundled(redoc).items())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component("redoc", version)},
        "components": [_component(name, version) for name, version in found.items()],
    }


def _component(name: str, version: str | None) -> dict[str, str]:
    address = f"pkg:npm/{quote(name, safe='/')}"
    if version is None:
        return {"type": "library", "name": name, "purl": address, "description": "Its sources state no version."}
    return {"type": "library", "name": name, "version": version, "purl": f"{address}@{version}"}
