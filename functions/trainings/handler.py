from shared.handlers import load

app, handler = load("functions.trainings.routes")
