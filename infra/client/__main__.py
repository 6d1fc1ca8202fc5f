"""Builds the wheel of the client below ``build/client`` and prints its path."""

from infra.client.build import ROOT, build

if __name__ == "__main__":
    print(build(ROOT / "build" / "client").relative_to(ROOT))  # noqa: T201
