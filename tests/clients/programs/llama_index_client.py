"""Calls the API with LlamaIndex's packages for OpenAI."""

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI, OpenAIResponses
from shapes import CHAT, HELLO, KEY, QUESTION, TEXT, URL, VECTORS, Team, check_team

settings = {"api_base": URL, "api_key": KEY, "max_retries": 0}
chat = OpenAI(model=CHAT, **settings)
assert chat.complete(QUESTION).text == HELLO
assert [each.delta for each in chat.stream_complete(QUESTION)][-1] is not None
assert chat.chat([ChatMessage(role="user", content=QUESTION)]).message.content == HELLO
check_team(chat.as_structured_llm(Team).complete(QUESTION).raw)

# With max_tokens, it does not download a table of tokens to count them.
texts = OpenAI(model=TEXT, max_tokens=20, **settings)
assert texts.complete("Once").text == HELLO
assert "".join(each.delta for each in texts.stream_complete("Once")).strip() == HELLO

responses = OpenAIResponses(model=CHAT, **settings)
assert responses.complete(QUESTION).text == HELLO
assert "".join(each.delta or "" for each in responses.stream_complete(QUESTION)).strip() == HELLO

vectors = OpenAIEmbedding(model_name=VECTORS, **settings)
assert vectors.get_text_embedding("abba")[:3] == [2, 2, 0]
print("ok")
