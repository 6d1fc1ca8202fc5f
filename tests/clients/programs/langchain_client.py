"""Calls the API with LangChain's package for OpenAI."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from shapes import CHAT, HELLO, KEY, QUESTION, TEXT, URL, VECTORS, Team, check_team

settings = {"base_url": URL, "api_key": KEY, "max_retries": 0}

for of_responses in (False, True):
    chat = ChatOpenAI(model=CHAT, use_responses_api=of_responses, **settings)
    assert chat.invoke(QUESTION).text == HELLO
    assert "".join(chunk.text for chunk in chat.stream(QUESTION)) == HELLO
    assert [answer.text for answer in chat.batch([QUESTION] * 3)] == [HELLO] * 3
    for method in ("json_schema", "function_calling"):
        check_team(chat.with_structured_output(Team, method=method).invoke(QUESTION))
    with_tools = chat.bind_tools([Team])
    called = with_tools.invoke(QUESTION)
    check_team(Team.model_validate(called.tool_calls[0]["args"]))
    result = ToolMessage("Added.", tool_call_id=called.tool_calls[0]["id"])
    assert with_tools.invoke([HumanMessage(QUESTION), called, result]).text == HELLO

several = ChatOpenAI(model=CHAT, n=2, **settings).generate([[HumanMessage(QUESTION)]])
assert [each.text for each in several.generations[0]] == [HELLO] * 2

texts = OpenAI(model=TEXT, **settings)
assert texts.invoke("Once") == HELLO
assert texts.batch(["Once", "Twice"]) == [HELLO] * 2
assert "".join(texts.stream("Once")).strip() == HELLO

# Otherwise LangChain sends the numbers of OpenAI's own tokens, which it downloads a table for.
vectors = OpenAIEmbeddings(model=VECTORS, check_embedding_ctx_length=False, **settings)
assert vectors.embed_query("abba")[:3] == [2, 2, 0]
assert [each[:3] for each in vectors.embed_documents(["abba", "c"])] == [[2, 2, 0], [0, 0, 1]]
print("ok")
