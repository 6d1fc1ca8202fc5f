from shared.handlers import load

app, handler = load("functions.decision_runs.routes")
