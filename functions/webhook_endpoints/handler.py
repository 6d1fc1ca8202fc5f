from shared.http.adapter import load

app, handler = load("functions.webhook_endpoints.routes")
