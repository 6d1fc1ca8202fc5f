from shared.handlers import load

app, handler = load("functions.models.routes", before_snapshot=["shared.llm.upstream"])
