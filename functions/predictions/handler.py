from shared.handlers import load

app, handler = load("functions.predictions.routes")
