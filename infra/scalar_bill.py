"""Writes the bill of materials of Scalar's scripts, which users' browsers run on ``/docs``.

Scalar's makers bundle packages in versions of their own, which package-lock.json does not know. The source maps of the
scripts name the path of each source: pnpm's paths contain the version of a package, and paths of their own packages do
not, but Scalar needs one exact version of each, which npm installs beside it.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

# pnpm writes a plus for the slash of a scope: @vueuse+core@15.0.0_vue@3.5.44
_PNPM = re.compile(r"/\.pnpm/((?:@[^/+]+\+)?[^/@]+)@([^/_(]+)")
_OWN = re.compile(r"^(?:\.\./)+([a-z-]+)/dist/")
SCALAR = Path("node_modules/@scalar/api-reference")

Component = tuple[str, str]


def bundled(scalar: Path) -> set[Component]:
    """Returns the names and versions of the packages in Scalar's scripts."""
    return {component for path in _sources(scalar) if (component := _component_of(path, scalar.parent))}


def _sources(scalar: Path) -> Iterator[str]:
    browser = scalar / "dist" / "browser"
    for path in (browser / "standalone.esm.js.map", *browser.glob("chunks/*.js.map")):
        yield from json.loads(path.read_text())["sources"]


def _component_of(path: str, own_packages: Path) -> Component | None:
    """Returns the package of a source. The sources of the reference itself belong to no other package."""
    if found := _PNPM.findall(path):
        name, version = found[-1]
        return name.replace("+", "/"), version
    if own := _OWN.match(path):
        return f"@scalar/{own[1]}", _version(own_packages / own[1])
    return None


@cache
def _version(package: Path) -> str:
    version: str = json.loads((package / "package.json").read_text())["version"]
    return version


def scalar_bill(root: Path) -> dict[str, Any]:
    """Returns a CycloneDX document of Scalar's scripts."""
    scalar = root / SCALAR
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _described("@scalar/api-reference", _version(scalar))},
        "components": [_described(name, stated) for name, stated in sorted(bundled(scalar))],
    }


def _described(name: str, version: str) -> dict[str, str]:
    address = f"pkg:npm/{quote(name, safe='/')}"
    return {"type": "library", "name": name, "version": version, "purl": f"{address}@{version}"}
