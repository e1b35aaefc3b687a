import pytest
from pydantic import ValidationError

from tunemill.evaluation.settings import EvaluateSettings, FewShotSettings


def test_the_verdict_rests_on_field_accuracy_where_it_is_measured() -> None:
    settings = EvaluateSettings(metrics=("perplexity", "exact_match", "field_accuracy"), fields=("intent",))
    assert settings.deciding == "field_accuracy"


def test_the_verdict_rests_on_token_f1_by_default() -> None:
    assert EvaluateSettings().deciding == "token_f1"


def test_a_named_primary_metric_decides() -> None:
    assert EvaluateSettings(primary="perplexity").deciding == "perplexity"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["rouge_l"], "primary": "token_f1"}, "`primary` is token_f1, which is not in `metrics`"),
        ({"metrics": ["field_accuracy"]}, "name the fields"),
        ({"fields": ["intent"]}, "does not ask for field_accuracy"),
        ({"metrics": ["rouge_l", "rouge_l"]}, "names a metric twice"),
        ({"metrics": []}, "at least 1 item"),
        ({"metrics": ["bleu"]}, "'field_accuracy'"),
        ({"few_shot": {"k": 0}}, "greater than or equal to 1"),
        ({"batch": 4}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateSettings.model_validate(values)


def test_the_decisions_of_two_configs_differ_when_k_differs() -> None:
    one, two = EvaluateSettings(few_shot=FewShotSettings(k=2)), EvaluateSettings(few_shot=FewShotSettings(k=3))
    assert one.decisions() != two.decisions()
