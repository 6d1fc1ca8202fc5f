from shared.handlers import load

app, handler = load("functions.actions.routes", before_snapshot=["cel_expr_python.cel"])
