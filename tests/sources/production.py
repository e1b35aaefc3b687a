"""Be a program in production: leave 9 traces with feedback in the MLflow database named by the first argument."""

import contextlib
import sys
from typing import Any

import mlflow
from mlflow.entities import AssessmentSource

JO = AssessmentSource("HUMAN", "jo")


@mlflow.trace(name="ask")
def ask(question: str) -> str:
    mlflow.update_current_trace(metadata={"mlflow.trace.session": f"s{len(question)}", "mlflow.trace.user": "u1"})
    return question.upper()


@mlflow.trace(name="chat")
def chat(messages: list[dict[str, str]], model: str = "m1") -> dict[str, Any]:
    with mlflow.start_span("inner"):
        answer = {"role": "assistant", "content": "Hello"}
    return {"model": model, "choices": [{"message": answer, "finish_reason": "stop"}]}


@mlflow.trace(name="two")
def two(title: str, body: str) -> str:
    return title + body


@mlflow.trace(name="broken")
def broken(question: str) -> str:
    raise RuntimeError("boom")


def trace() -> str:
    """Give the id of the last trace, once MLflow holds it."""
    mlflow.flush_trace_async_logging()
    return str(mlflow.get_last_active_trace_id())


def thumb(value: bool) -> Any:
    return mlflow.log_feedback(trace_id=trace(), name="thumbs_up", value=value, source=JO)


def main(address: str) -> None:
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("shop")
    ask("plain")
    ask("liked")
    thumb(True)
    ask("disliked")
    thumb(False)
    ask("mended")
    thumb(False)
    mlflow.log_expectation(trace_id=trace(), name="expected_response", value="as a person says it", source=JO)
    ask("two minds")
    thumb(True)
    thumb(False)
    ask("changed mind")
    first = thumb(False)
    mlflow.override_feedback(trace_id=trace(), assessment_id=first.assessment_id, value=True, source=JO)
    chat([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])
    two("a", "b")
    with contextlib.suppress(RuntimeError):
        broken("x")
    mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main(sys.argv[1])
