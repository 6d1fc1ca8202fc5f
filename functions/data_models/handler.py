from shared.handlers import load

app, handler = load("functions.data_models.routes")
