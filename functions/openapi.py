"""Writes the OpenAPI document of the whole API: ``python -m functions.openapi openapi.json``."""

import json
import sys
from pathlib import Path

from functions.api import app
from shared.http.app import describe

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Path(sys.argv[1]).write_text(json.dumps(describe(app), indent=2) + "\n")
