from shared.handlers import load

app, handler = load(
    "functions.predictions.routes",
    before_snapshot=[
        "shared.propensity.checkpoints",
    ],
)
