from shared.handlers import load

app, handler = load("functions.action_groups.routes", before_snapshot=["cel_expr_python.cel"])
