from shared.handlers import load

app, handler = load(
    "functions.clusters.routes", before_snapshot=["functions.clusters.probes", "functions.clusters.registration"]
)
