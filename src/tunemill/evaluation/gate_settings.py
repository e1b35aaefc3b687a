"""Say what a tuned model must show before it ships: the rules of the YAML section `gate`.

gate:
  rules:
    - {metric: field_accuracy, better_than: [base, few_shot], by: 0.05, at_least: 0.6}
    - {metric: json_valid, not_worse_than: [base], margin: 0.02}
    - {metric: perplexity, at_most: 3.0}
"""

from typing import Annotated, Literal, Self

import msgspec
from pydantic import Field, model_validator

from tunemill.evaluation.metrics import LOWER_IS_BETTER, Metric
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.section import Section

Opponent = Literal["base", "few_shot"]
Kind = Literal["better_than", "not_worse_than", "at_least", "at_most"]


class Condition(msgspec.Struct, frozen=True):
    """The smallest thing that can hold or not: one metric against one opponent, or against one number."""

    rule: int
    """Which rule of the YAML asks for it, from 1; 0 for the default, which stands in no YAML."""
    metric: Metric
    kind: Kind
    opponent: Opponent | None
    """None where the tuned model's own value is judged."""
    threshold: float
    """`better_than`, `not_worse_than`: what the gain must lie above (`by`, -`margin`). Else a value of the metric."""

    @property
    def name(self) -> str:
        """Name it as the YAML does."""
        words = f"{self.metric} {self.kind} {self.opponent or f'{self.threshold:g}'}"
        if self.kind == "not_worse_than":
            return f"{words}, margin {-self.threshold:g}"
        return f"{words} by {self.threshold:g}" if self.opponent and self.threshold else words


class MetricRule(Section):
    """What one metric must show; everything that the rule names must hold."""

    metric: Metric
    """A metric of `evaluate.metrics`."""
    better_than: tuple[Opponent, ...] = ()
    """Arms that the tuned model must beat: base, few_shot."""
    by: Annotated[float, Field(ge=0)] = 0.0
    """How much it must beat them by: points of the metric; for perplexity nats a token."""
    not_worse_than: tuple[Opponent, ...] = ()
    """Arms that the tuned model may trail by less than `margin`."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """The loss that would matter: points of the metric; for perplexity nats a token."""
    at_least: Annotated[float, Field(gt=0)] | None = None
    """Value that the tuned model, and every file that ships, must reach."""
    at_most: Annotated[float, Field(gt=1)] | None = None
    """Perplexity that the tuned model must stay below."""

    @model_validator(mode="after")
    def _asks_something_that_can_hold(self) -> Self:
        if fault := self._fault():
            raise ValueError(fault)
        return self

    def _fault(self) -> str | None:
        name, opponents = self.metric, (*self.better_than, *self.not_worse_than)
        lower = name in LOWER_IS_BETTER
        if not opponents and self.at_least is None and self.at_most is None:
            return f"asks nothing of {name}; say `better_than`, `not_worse_than`, `at_least` or `at_most`"
        if twice := next((arm for arm in opponents if opponents.count(arm) > 1), None):
            return f"names {twice} twice; `better_than` holds only where `not_worse_than` does, so once is enough"
        if self.by and not self.better_than:
            return "`by` says how much better, and `better_than` names nobody"
        if self.margin is not None and not self.not_worse_than:
            return "`margin` says how much worse, and `not_worse_than` names nobody"
        if self.not_worse_than and self.margin is None:
            return "`not_worse_than` needs `margin`, the loss that would matter; where none may be, say `better_than`"
        if lower and self.at_least is not None:
            return f"`at_least`: {name} is better the lower it is; say `at_most`"
        if not lower and self.at_most is not None:
            return f"`at_most`: {name} is better the higher it is; say `at_least`"
        if self.at_least is not None and self.at_least >= 1:
            return f"`at_least` is {self.at_least:g}; no number of rows can show that {name} reaches 1; say 0.99"
        if not lower and max(self.by, self.margin or 0) >= 1:
            return f"`by` and `margin` are points of {name}, which lies in 0..1; 0.05 is five points of a hundred"
        return None

    def conditions(self, number: int) -> list[Condition]:
        """Take the rule apart; it holds where all of these do."""
        found = [Condition(number, self.metric, "better_than", arm, self.by) for arm in self.better_than]
        if self.margin is not None:
            found += [
                Condition(number, self.metric, "not_worse_than", arm, -self.margin) for arm in self.not_worse_than
            ]
        if self.at_least is not None:
            found.append(Condition(number, self.metric, "at_least", None, self.at_least))
        if self.at_most is not None:
            found.append(Condition(number, self.metric, "at_most", None, self.at_most))
        return found


Rule = MetricRule
"""What a gate may ask. A second kind of rule joins here as a union; the field that only it has tells them apart."""


class GateSettings(Section):
    """Decide from the evaluation and the verification whether the model ships; each rule must hold."""

    rules: tuple[Rule, ...] | None = None
    """Left out: the evaluation's primary metric, better than base and better than few-shot."""

    @model_validator(mode="after")
    def _has_rules(self) -> Self:
        if self.rules == ():
            raise ValueError("`rules` is empty, so everything would pass; leave it out for the default, or add a rule")
        return self

    def conditions(self, evaluate: EvaluateSettings) -> list[Condition]:
        """List all that must hold, in the order of the YAML."""
        if self.rules is None:
            opponents: tuple[Opponent, ...] = ("base", "few_shot")
            return MetricRule(metric=evaluate.deciding, better_than=opponents).conditions(0)
        return [condition for number, rule in enumerate(self.rules, 1) for condition in rule.conditions(number)]


def check(gate: GateSettings, evaluate: EvaluateSettings) -> list[tuple[tuple[str | int, ...], str]]:
    """Hold the rules against what is measured; give each fault as (place in the YAML, message)."""
    return [
        (
            ("gate", "rules", index, "metric"),
            f"gate.rules.{index}.metric: {rule.metric} is not measured; add it to evaluate.metrics, or name one of "
            f"{', '.join(evaluate.metrics)}",
        )
        for index, rule in enumerate(gate.rules or ())
        if rule.metric not in evaluate.metrics
    ]
