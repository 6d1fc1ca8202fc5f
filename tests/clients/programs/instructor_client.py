"""Calls the API with instructor."""

import instructor
from openai import OpenAI
from shapes import CHAT, KEY, QUESTION, URL, Team, check_team

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
messages = [{"role": "user", "content": QUESTION}]

for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
    patched = instructor.from_openai(client, mode=mode)
    check_team(patched.chat.completions.create(model=CHAT, messages=messages, response_model=Team))

of_responses = instructor.from_openai(client, mode=instructor.Mode.RESPONSES_TOOLS)
check_team(of_responses.responses.create(model=CHAT, input=QUESTION, response_model=Team))
print("ok")
