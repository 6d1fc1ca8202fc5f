from shared.http.adapter import load

app, handler = load("functions.data_models.routes")
