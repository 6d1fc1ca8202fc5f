"""Runs the ``sh`` and ``python`` blocks of the README and the guides, and compares what they print.

An ``output`` block contains the output of the block before it. ``…`` matches any text. A comment above a block explains
why it cannot run here: ``<!-- not run: … -->``.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.local.settings import ROOT, LocalSettings
from tests.e2e.conftest import Stack

PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "guides").glob("*.md")))
BLOCK = re.compile(
    r"^(?P<not_run><!-- not run: .+ -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
TOOLS = ("bash", "curl", "jq", "make")
# This character separates the outputs of two blocks.
MARK = "\x1e"


def blocks(page: str) -> list[tuple[str, str]]:
    """Returns the language and text of each block that runs, and of each output block."""
    found = [match for match in BLOCK.finditer((ROOT / page).read_text()) if not match["not_run"]]
    return [(match["language"], match["text"]) for match in found if match["language"] in ("sh", "python", "output")]


def script(commands: list[tuple[str, str]]) -> str:
    """Returns one shell script of all blocks, so that the blocks share their variables."""
    parts = ["set -euo pipefail"]
    for language, text in commands:
        parts += [f"printf '{MARK}'", text if language == "sh" else f"python - <<'PYTHON'\n{text}PYTHON"]
    return "\n".join(parts)


def matches(wanted: str, printed: str) -> bool:
    """Returns whether an output matches, apart from blanks at the ends of lines and blank lines at both ends."""
    pattern = ".*?".join(re.escape(part) for part in _tidy(wanted).split("…"))
    return re.fullmatch(pattern, _tidy(printed), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def environment(settings: LocalSettings, temporary: Path) -> dict[str, str]:
    """Returns the environment variables of a developer with a running stack."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE"))}
    return {
        **own,
        "PATH": os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ["PATH"]]),
        "TMPDIR": str(temporary),
        "XDG_CONFIG_HOME": str(temporary),
        "NO_PROXY": "127.0.0.1",
        "LOCAL_DIRECTORY": str(settings.directory),
        "LOCAL_API_PORT": str(settings.api_port),
        "LOCAL_AWS_PORT": str(settings.aws_port),
        "LOCAL_SAGEMAKER_PORT": str(settings.sagemaker_port),
        "LOCAL_INFERENCE_PORT": str(settings.inference_port),
    }


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_the_output_on_the_page(stack: Stack, page: str, tmp_path: Path) -> None:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"NOT TESTED: install {', '.join(missing)}, which the pages use")
    run_page(page, stack.settings, tmp_path)


def run_page(page: str, settings: LocalSettings, temporary: Path) -> None:
    found = blocks(page)
    commands = [each for each in found if each[0] != "output"]
    text = script(commands).replace(LocalSettings().api_url, settings.api_url)
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=ROOT,
        env=environment(settings, temporary),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=540,
    )
    printed = done.stdout.replace(settings.api_url, LocalSettings().api_url).split(MARK)[1:]
    assert done.returncode == 0, f"{page}: this failed\n{commands[len(printed) - 1][1]}\n{printed[-1]}\n{done.stderr}"
    number = -1
    for language, wanted in found:
        if language != "output":
            number += 1
        elif not matches(wanted, printed[number]):
            pytest.fail(f"{page}: after\n{commands[number][1]}\nexpected\n{wanted}\nbut got\n{printed[number]}")
