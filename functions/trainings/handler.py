from shared.handlers import load

app, handler = load("functions.trainings.routes", "functions.trainings.architecture_routes")
