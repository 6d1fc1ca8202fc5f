from shared.http.adapter import load

app, handler = load("functions.inference_logs.routes")
