#!/bin/sh
# In Lambda, the web adapter starts this script instead of Python's runtime, so the search path must be set here.
export PYTHONPATH="$LAMBDA_TASK_ROOT:/opt/python"
exec python -m uvicorn functions.chats.handler:app --host 127.0.0.1 --port "$PORT" \
    --no-access-log --no-server-header --log-level warning
