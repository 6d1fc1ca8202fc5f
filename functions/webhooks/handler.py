from shared.handlers import load

app, handler = load("functions.webhooks.routes")
