"""Calls the API with OpenAI's own client."""

import asyncio

from openai import AsyncOpenAI, BadRequestError, OpenAI
from shapes import CHAT, HELLO, KEY, QUESTION, TEXT, URL, VECTORS, Team, check_team

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
messages = [{"role": "user", "content": QUESTION}]
tool = {"type": "function", "function": {"name": "add_team", "parameters": Team.model_json_schema()}}

assert CHAT in [model.id for model in client.models.list()]

completion = client.chat.completions.create(model=CHAT, messages=messages, n=3)
assert [choice.message.content for choice in completion.choices] == [HELLO] * 3
assert completion.usage.total_tokens == 3 * 5

parsed = client.chat.completions.parse(model=CHAT, messages=messages, response_format=Team)
check_team(parsed.choices[0].message.parsed)

with client.chat.completions.stream(model=CHAT, messages=messages, n=2) as stream:
    for _ in stream:
        pass
    assert [choice.message.content for choice in stream.get_final_completion().choices] == [HELLO] * 2

called = client.chat.completions.create(model=CHAT, messages=messages, tools=[tool])
message = called.choices[0].message
check_team(Team.model_validate_json(message.tool_calls[0].function.arguments))
result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Added."}
after = client.chat.completions.create(model=CHAT, messages=[*messages, message, result], tools=[tool])
assert after.choices[0].message.content == HELLO

assert client.completions.create(model=TEXT, prompt="Once").choices[0].text == HELLO
assert "".join(
    each.choices[0].text for each in client.completions.create(model=TEXT, prompt="Once", stream=True)
).strip()

vectors = client.embeddings.create(model=VECTORS, input=["abba", "c"]).data
assert [each.embedding[:3] for each in vectors] == [[2, 2, 0], [0, 0, 1]]
assert client.embeddings.create(model=VECTORS, input="c", encoding_format="float").data[0].embedding[2] == 1

response = client.responses.create(model=CHAT, input=QUESTION, instructions="Be brief.")
assert (response.output_text, response.status, response.usage.total_tokens) == (HELLO, "completed", 7)
check_team(client.responses.parse(model=CHAT, input=QUESTION, text_format=Team).output_parsed)
with client.responses.stream(model=CHAT, input=QUESTION, text_format=Team) as events:
    kinds = [event.type for event in events]
    check_team(events.get_final_response().output_parsed)
assert kinds[0] == "response.created"
assert kinds[-1] == "response.completed"

flat = {"type": "function", "name": "add_team", "parameters": Team.model_json_schema(), "strict": False}
with client.responses.stream(model=CHAT, input=QUESTION, tools=[flat]) as events:
    arguments = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    final = events.get_final_response()
check_team(Team.model_validate_json(arguments[0]))
output = {"type": "function_call_output", "call_id": final.output[0].call_id, "output": "Added."}
items = [{"role": "user", "content": QUESTION}, *final.output, output]
assert client.responses.create(model=CHAT, input=items, tools=[flat]).output_text == HELLO

try:
    client.responses.create(model=CHAT, input=QUESTION, previous_response_id=response.id)
except BadRequestError as error:
    refused = error.param
assert refused == "previous_response_id"


async def at_once() -> None:
    async with AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as each:
        answers = await asyncio.gather(*(each.responses.create(model=CHAT, input=QUESTION) for _ in range(8)))
    assert {answer.output_text for answer in answers} == {HELLO}


asyncio.run(at_once())
print("ok")
