from shared.handlers import load

app, handler = load("functions.inference_logs.routes")
