from shared.handlers import load

app, handler = load(
    "functions.checkpoints.routes",
    before_snapshot=[
        "shared.propensity.checkpoints",
    ],
)
