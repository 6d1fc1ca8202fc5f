from shared.handlers import load

app, handler = load(
    "functions.insights.routes",
    before_snapshot=[
        "shared.llm.upstream",
        "shared.propensity.checkpoints",
    ],
)
