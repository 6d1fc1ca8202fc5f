from shared.handlers import load

app, handler = load("functions.personas.routes", before_snapshot=["shared.llm.upstream"])
