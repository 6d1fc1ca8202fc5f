from shared.http.adapter import load

app, handler = load("functions.experts.routes")
