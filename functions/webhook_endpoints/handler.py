from shared.handlers import load

app, handler = load("functions.webhook_endpoints.routes")
