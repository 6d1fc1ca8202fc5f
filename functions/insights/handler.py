from shared.handlers import load

app, handler = load(
    "functions.insights.routes",
    before_snapshot=[
        "cel_expr_python.cel",
        "shared.llm.upstream",
        "shared.propensity.checkpoints",
    ],
)
