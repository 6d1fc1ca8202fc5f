from shared.handlers import load

app, handler = load("functions.arguments.routes", before_snapshot=["shared.llm.upstream"])
