"""Planned: what the probe found, and the attacks that follow from it."""

import dataclasses

from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.request import Request


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """A probed model and its attacks.

    Attributes:
        probed: What the probe found out about the model.
        planner: Plans further attacks.
        plan: The planned attacks.
    """

    probed: ProbeResult
    planner: Planner
    plan: Plan

    @classmethod
    def of(
        cls, request: Request, probed: ProbeResult, distilled: DistilledSurrogate
    ) -> "Planned":
        """Plans the attacks.

        Args:
            request: The checked arguments.
            probed: What the probe found out about the model.
            distilled: A net to be taught by the model's decisions.
        """
        planner = Planner(request, probed, distilled)
        return cls(probed=probed, planner=planner, plan=planner.plan())
