"""The main job on real data (being written)."""

from infra.local.settings import LocalSettings


def run(settings: LocalSettings, *, once: bool) -> None:
    """Runs it."""
    raise SystemExit("not yet")
