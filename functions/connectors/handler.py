from shared.handlers import load

app, handler = load("functions.connectors.routes", before_snapshot=["functions.connectors.preview:prepare"])
