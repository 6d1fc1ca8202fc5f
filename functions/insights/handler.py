from shared.http.adapter import load

app, handler = load("functions.insights.routes")
