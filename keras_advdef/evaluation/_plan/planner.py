"""Planner: decides which attacks an evaluation runs."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.square import Square
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.evaluation._plan.card_attacks import (
    AWARE,
    BPDA,
    CARD_ATTACKS,
    NO_GRADIENT,
    NO_SURROGATE,
    QUICK_APGD,
    Target,
    early_draws,
    layers_to_pass,
    named_attacks,
)
from keras_advdef.evaluation._plan.closing_attacks import (
    EIGHT_BIT,
    closing_attacks,
    closing_views,
)
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.plan import Plan, Skipped
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._plan.without_class import WithoutClass
from keras_advdef.evaluation._request.request import Request

NAIVE_STEPS = 20
MORE_STEPS = 50
# Random perturbations that the noise check tries for each image.
NOISE_DRAWS = 20
_CHECK_QUERIES = 200
# Smaller than what a float32 pixel can tell from nothing.
_NO_STEP = 1e-30
_AUTO_DRAWS = 20
_MOST_TARGETS = 9
_DECISION_STEPS = 10
# Images of the check by decisions, which cost thousands of passes each.
_DECIDED = 50


class Planner:
    """Plans the attacks for a request and a probed model.

    Args:
        request: The checked arguments.
        probed: The probe's result.
        distilled: A net taught by the model's decisions, to transfer images from where
            the user gives no other model; `None` to do without.
    """

    def __init__(
        self,
        request: Request,
        probed: ProbeResult,
        distilled: DistilledSurrogate | None = None,
    ) -> None:
        self._request = request
        self._probed = probed
        self._distilled = distilled
        self._target = Target(request, probed)
        self._named = named_attacks(probed.cards.values())
        self._gradient = self._target.settings
        # Only the attacks that the cards name use all the draws that the cards ask for.
        self._draws = min(probed.draws, _AUTO_DRAWS)
        self._skipped: list[Skipped] = []
        # Why check attacks are left out.
        self._absent: dict[str, str] = {}

    @property
    def _stepped(self) -> dict[str, Any]:
        """The arguments of attacks of many gradient steps."""
        draws = self._draws
        return {**self._gradient, "eot_samples": draws, **early_draws(draws)}

    def plan(self) -> Plan:
        """Returns the plan."""
        attack = self._target.steep(NAIVE_STEPS)
        naive = Stage(
            key="naive",
            label=f"{attack}"
            + ", without the defences" * self._probed.naive.bypass_defences,
            role="naive",
            attack=attack,
            view=self._probed.naive,
            stop_early=False,
        )
        checks = {stage.key.removeprefix("check-"): stage for stage in self._checks()}
        adaptive = tuple(filter(self._fits, self._adaptive()))
        missing = (
            name
            for name, each in self._named.items()
            if each is None or not each.ran(adaptive, self._target)
        )
        return Plan(
            naive=naive,
            checks=checks,
            absent=self._absent,
            adaptive=adaptive,
            skipped=tuple(self._skipped),
            missing=tuple(missing),
        )

    def _adaptive(self) -> list[Stage]:
        """The user's own attacks, or those of the budget, the cards and the probe."""
        if self._request.attacks is not None:
            own, norm = self._request.attacks, self._request.norm
            return self._numbered([each for each in own if each.norm == norm])
        stages = self._numbered(self._of_budget())
        stages += self._of_cards(stages)
        more = self._of_probe()
        if self._request.budget.name == "full":
            more += self._of_full(stages)
        stages += self._numbered(more, first=len(stages))
        return [*stages, *self._transferred(stages), *self._past_layers()]

    def _transferred(self, planned: Sequence[Stage]) -> list[Stage]:
        """Images from other models, unless the budget or a card asks for them."""
        done = [getattr(stage.attack, "surrogate", None) for stage in planned]
        return [
            self._stage(f"transfer-{place}", self._transfer(source))
            for place, source in enumerate(self._sources)
            if not any(source is each for each in done)
        ]

    def _transfer(self, source: Any) -> Transfer:
        return Transfer(source, self._target.steep(MORE_STEPS))

    def _numbered(self, attacks: Sequence[Attack], first: int = 0) -> list[Stage]:
        return [
            self._stage(f"{index:02d}", attack)
            for index, attack in enumerate(attacks, first)
        ]

    def _fits(self, stage: Stage) -> bool:
        passes, most = stage.passes(self._probed.classes), self._request.budget.passes
        if passes > most:
            reason = f"{passes} passes per image, but this budget allows {most}"
            self._skipped.append(Skipped(attack=stage.label, reason=reason))
        return passes <= most

    def _stage(self, key: str, attack: Attack, **more: Any) -> Stage:
        return Stage(
            **{
                "key": key,
                "label": self._label(attack, more),
                "role": "adaptive",
                "attack": attack,
                "view": self._probed.adaptive,
                # On a random model, the first success seldom holds on other draws.
                # An attack would count an image that a detector flags as broken.
                "stop_early": not (self._probed.is_random or self._probed.rejects),
                **more,
            }
        )

    def _label(self, attack: Attack, more: dict[str, Any]) -> str:
        text = str(attack)
        draws = attack.eot_samples
        early = getattr(attack, "early_eot_samples", None)
        many = f", EOT {draws}" if early is None else f", EOT {early}, then {draws}"
        text += many if draws > 1 else ""
        if self._distilled is not None and self._distilled.made(attack):
            text += " from a net taught by the model's decisions"
        is_white = not isinstance(attack, (Square, HopSkipJump, Transfer))
        loss = getattr(attack, "loss", None)
        if isinstance(loss, AWARE):
            text += f" on {type(loss).__name__}"
        view = more.get("view", self._probed.adaptive)
        text += ", each image alone" if more.get("alone") else ""
        text += ", BPDA" if view.bpda_layers and is_white else ""
        if view.temperature != 1.0 and is_white:
            text += f", logits divided by {view.temperature:.3g}"
        rank = more.get("target_rank", 0)
        return f"{text}, targeted at class {rank} by likelihood" if rank else text

    def _checks(self) -> list[Stage]:
        pgd = {**self._gradient, "eot_samples": self._draws}
        stepped = self._stepped
        # The checks must show saturation, not compensate for it.
        view = dataclasses.replace(self._probed.adaptive, temperature=1.0)
        # Random points, which steps of no length do not move.
        noise = PGD(
            steps=1,
            step_size=_NO_STEP,
            restarts=NOISE_DRAWS,
            **{**self._gradient, "precision": "float32"},
        )
        stages = [
            self._stage("fgsm", FGSM(**pgd), view=view),
            self._stage("iterative", PGD(steps=NAIVE_STEPS, **stepped), view=view),
            self._stage("more-steps", PGD(steps=MORE_STEPS, **stepped), view=view),
            self._stage(
                "temperature",
                PGD(steps=NAIVE_STEPS, **stepped),
                view=dataclasses.replace(view, temperature=self._temperature),
            ),
            self._stage(
                "noise",
                noise,
                view=view,
                label=f"{NOISE_DRAWS} random images in the ball",
            ),
        ]
        stages += [
            self._stage("black-box", square, view=view)
            for square in self._target.square(_CHECK_QUERIES)
        ]
        stages += [
            self._stage("decision", attack, view=view, images=_DECIDED)
            for attack in self._decision_check()
        ]
        if self._sources:
            attack = self._transfer(self._sources[0])
            stages.append(self._stage("transfer", attack, view=view))
        else:
            self._absent["transfer"] = "no surrogate or reference model was given"
        return [
            dataclasses.replace(stage, key=f"check-{stage.key}", role="check")
            for stage in stages
        ]

    def _decision_check(self) -> list[Attack]:
        if self._request.budget.name == "quick":
            self._absent["decision"] = "it needs the standard or the full budget"
            return []
        return self._target.decisions(_DECISION_STEPS)

    @property
    def _given(self) -> list[Any]:
        """The models of the user to transfer images from."""
        given = (self._request.surrogate, self._request.reference)
        return [each.model for each in given if each is not None]

    @property
    def _sources(self) -> list[Any]:
        """The same, or else a net to be taught; a quick budget teaches none."""
        is_quick = self._request.budget.name == "quick"
        return self._given if self._given or is_quick else self._all_sources

    @property
    def _all_sources(self) -> list[Any]:
        return [*self._given, *([self._distilled.model] if self._distilled else [])]

    @property
    def _temperature(self) -> float:
        """Scales the median gap of the logits down to one; never scales up."""
        return max(1.0, self._probed.gap)

    def _of_budget(self) -> list[Attack]:
        """The gradient attacks of the budget, AutoAttack or part of it."""
        if not self._probed.has_gradient:
            self._skipped.append(Skipped(attack="gradient attacks", reason=NO_GRADIENT))
            return []
        if self._request.budget.name == "quick":
            return [APGD(**QUICK_APGD, **self._stepped)]
        return CARD_ATTACKS["AutoAttack"].make(self._target)

    def _of_cards(self, planned: list[Stage]) -> list[Stage]:
        """The attacks that the cards name and the budget does not already include."""
        stages: list[Stage] = []
        for name, each in self._named.items():
            known = "this version of keras_advdef does not know it"
            reason = known if each is None else each.reason(self._target)
            if each is None or reason:
                self._skipped.append(Skipped(attack=name, reason=reason))
            elif name != BPDA and not each.ran([*planned, *stages], self._target):
                first = len(planned) + len(stages)
                stages += self._numbered(each.make(self._target), first=first)
        return stages

    def _past_layers(self) -> list[Stage]:
        """PGD that skips, in its backward pass, the layers whose cards name BPDA."""
        asked = CARD_ATTACKS[BPDA]
        if asked.reason(self._target):
            return []
        view = self._probed.adaptive
        layers = (*view.bpda_layers, *layers_to_pass(view.model))
        (attack,) = asked.make(self._target)
        view = dataclasses.replace(view, bpda_layers=layers)
        return [self._stage("bpda", attack, view=view)]

    def _of_probe(self) -> list[Attack]:
        """Score- and decision-based attacks where gradients cannot be trusted."""
        probed, is_full = self._probed, self._request.budget.name == "full"
        wanted: list[Attack] = []
        is_masked = bool(probed.bpda_layers) or not probed.has_gradient
        if is_masked or probed.is_random:
            wanted += self._target.square(5000 if is_full else 1000)
        # The full budget has its own.
        if is_masked and not is_full:
            wanted += self._target.decisions(_DECISION_STEPS)
        return wanted

    def _of_full(self, planned: list[Stage]) -> list[Attack]:
        """What the full budget adds to the attacks planned so far."""
        norm, draws = self._request.norm, self._probed.draws
        attacks: list[Attack] = []
        if self._probed.has_gradient:
            stepped = self._target.stepped
            attacks.append(PGD(steps=100, restarts=5, **stepped))
            attacks += self._unless_planned("CarliniWagner", planned)
            if norm != "l1":
                attacks.append(DeepFool(eot_samples=draws, **self._gradient))
        attacks += self._target.decisions(20)
        if self._request.surrogate is None and "transfer" not in self._named:
            self._skipped.append(Skipped(attack="transfer", reason=NO_SURROGATE))
        return attacks + self._unless_planned("transfer", planned)

    def _unless_planned(self, name: str, planned: list[Stage]) -> list[Attack]:
        attack = CARD_ATTACKS[name]
        is_planned = attack.ran(planned, self._target)
        return [] if is_planned else attack.make(self._target)

    def heedless(self) -> Stage:
        """Returns the naive attack, but as if the last class were not there.

        Images that it still moves to this class were caught; see `find_rejection`.
        """
        return Stage(
            key="heedless",
            label=f"{self._target.steep(NAIVE_STEPS)}, as if there were no last class",
            role="trial",
            attack=self._target.steep(NAIVE_STEPS, loss=WithoutClass()),
            view=self._probed.naive,
            stop_early=False,
        )

    def targeted(self) -> list[Stage]:
        """Returns attacks that avoid the class for "adversarial" of a model.

        They target the likeliest wrong classes, one after the other.
        """
        # The true class and the one for "adversarial" are not targets.
        count = min(_MOST_TARGETS, self._probed.classes - 2)
        attack = PGD(steps=MORE_STEPS, targeted=True, **self._stepped)
        return [
            self._stage(f"target-{rank}", attack, target_rank=rank)
            for rank in range(1, count + 1)
        ]

    def closing(self, number: int, failed: Collection[str]) -> list[Stage]:
        """Returns attacks for a model of which a check has failed.

        None of them needs those gradients of the model that are in doubt.

        Args:
            number: Number of such rounds before.
            failed: Names of the checks that have failed.
        """
        attacks = closing_attacks(
            self._target, self._all_sources, number=number, failed=failed
        )
        changes = closing_views(self._target, number=number, failed=failed)
        pgd = PGD(steps=MORE_STEPS, **self._stepped)
        named: dict[str, Attack] = dict.fromkeys(changes, pgd)
        named |= {str(place): attack for place, attack in enumerate(attacks)}
        # What answers to 8-bit images only is attacked behind a rounding by all.
        every = {"role": "closing", **changes.get(EIGHT_BIT, {})}
        return [
            self._stage(
                f"closing-{number}-{name}", attack, **{**every, **changes.get(name, {})}
            )
            for name, attack in named.items()
        ]
