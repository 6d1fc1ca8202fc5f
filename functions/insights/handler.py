from shared.handlers import load

app, handler = load(
    "functions.insights.routes",
    before_snapshot=[
        "shared.llm.upstream",
        "shared.propensity.architectures.lightgbm",
        "shared.propensity.architectures.xgboost",
        "shared.propensity.checkpoints",
    ],
)
