"""Systems: anything that translates and is scored, from a teacher member to an external system.

A `System` is created once, when the chain is planned, and travels with the artifact: planned tasks, manifests,
`scores.json` and the report carry it. Code reads its fields; no code parses its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kd.base.errors import UserError
from kd.base.records import plain, record
from kd.models.description import FAIRSEQ, PACKAGED
from kd.recipe.schema.running import SystemRole

if TYPE_CHECKING:
    from kd.pipeline.model import Stage

# Label of the second control, in recipes with source-only text: trained on the rest of the student's text alone.
CONTROL_SELECTED = "control-selected"
MAX_MEMBERS = 64  # of a training, where a name is compared with those that a recipe could have


class SystemKind(Enum):
    """The kind of a system in tables and figures: its role, unless it is an ensemble or an export."""

    teacher = "teacher"  # one member
    ensemble = "ensemble"  # all members together
    student = "student"
    control = "control"
    export = "export"  # in the form in which it is deployed
    external = "external"


@dataclass(frozen=True)
class System:
    """The identity of a system.

    Attributes:
        label: The training's name in the recipe, such as `student-first`.
        member: Number of the member if a training has several; None for a single model and for the ensemble.
        ensemble: Whether all members of the label translate as an ensemble.
        format: Number format or package of an export, such as int8 or argos; None for a trained model.
        checkpoint: Checkpoint that was exported; None for the averaged model.
        pair: Language pair of the model; None for a model of several pairs.
        engine: fairseq, ctranslate2, or the engine of a package (transformers, argos, marian, onnx); empty for an
            external system.
    """

    role: SystemRole
    label: str
    member: str | None = None
    ensemble: bool = False
    format: str | None = None
    checkpoint: str | None = None
    pair: str | None = None
    engine: str = FAIRSEQ

    @property
    def name(self) -> str:
        """The name in files and settings: `student-2-int8`, `teacher-ensemble`."""
        parts = [self.label, self.member, "ensemble" if self.ensemble else None, self.checkpoint, self.format]
        return "-".join(part for part in parts if part)

    @property
    def title(self) -> str:
        """The display name: `teacher ensemble`."""
        return self.name.replace("-", " ")

    @property
    def kind(self) -> SystemKind:
        """The kind shown in tables and figures."""
        if self.format:
            return SystemKind.export
        return SystemKind.ensemble if self.ensemble else SystemKind(self.role.value)

    @property
    def packaged(self) -> bool:
        """Whether the system is an export for other software: kd distributes it but does not run it."""
        return self.engine in PACKAGED

    @property
    def seed(self) -> str:
        """The member number for comparisons seed by seed; a single model counts as the first member."""
        return self.member or "1"

    @property
    def trained(self) -> System:
        """The trained model that an export was made from; for any other system, the system itself."""
        return replace(self, format=None, checkpoint=None, engine=FAIRSEQ) if self.format else self


class Described(Protocol):
    """A planned input or published artifact that carries the system it represents."""

    @property
    def label(self) -> str:
        """The label of this input in the recipe's stage."""
        ...

    @property
    def subject(self) -> Mapping[str, Any]:
        """The system's fields as plain values."""
        ...


T = TypeVar("T", bound=Described)


def trained_model(stage: Stage, member: str | None = None) -> dict[str, Any]:
    """Return the system that a stage trains or imports, as plain values for a task's subject.

    Args:
        stage: A stage with a role.
        member: Number of the model among the stage's models; None if it makes only one.
    """
    return dict(plain(System(SystemRole(str(stage.role)), stage.spec.name, member, pair=stage.axis)))


def system_of(item: Described) -> System:
    """Return the system that an input of a stage represents, as planned."""
    return record(System, item.subject, "system")


def labelled(item: Described) -> System:
    """Return the system of a model among the inputs of a stage; a trained model takes its label from these inputs."""
    system = system_of(item)
    return replace(system, label=item.label) if system.engine and not system.format else system


def systems_of(items: Iterable[T], ensembles: Mapping[str, bool], *, packaged: bool = False) -> dict[System, list[T]]:
    """Return the systems formed by the inputs of a stage, each with its models.

    Args:
        items: Trainings and exports.
        ensembles: Label -> whether its members also translate as an ensemble.
        packaged: Whether to include exports for other software, which kd does not run.

    Raises:
        UserError: Two systems would have the same name.
    """
    described = [(labelled(item), item) for item in items]
    described = [(system, item) for system, item in described if packaged or not system.packaged]
    check_names(system for system, _ in described)
    by_label: dict[str, dict[System, list[T]]] = {}
    for system, item in described:
        if not system.format:
            by_label.setdefault(system.label, {})[system] = [item]
    found: dict[System, list[T]] = {}
    for label, members in by_label.items():
        found |= members
        if len(members) > 1 and ensembles.get(label):
            together = replace(next(iter(members)), member=None, ensemble=True)
            found[together] = [item for items_of in members.values() for item in items_of]
    found |= {system: [item] for system, item in described if system.format}
    check_names(found)
    return found


def check_names(systems: Iterable[System]) -> None:
    """Raise UserError if two systems have the same name."""
    seen: dict[str, System] = {}
    for system in systems:
        other = seen.setdefault(system.title, system)
        if other is not system:
            both = f"{_described(other, system)} and {_described(system, other)}"
            raise UserError(
                f"Two systems would have the name {system.name}: {both}.",
                "Give one of them another name in the inputs of the stage, or set the axis that the stage runs over.",
            )


def _described(system: System, other: System) -> str:
    """Describe a system so that it can be told from another system of the same name."""
    what = "the ensemble of " if system.ensemble else f"member {system.member} of " if system.member else ""
    form = f" as {system.format}" if system.format else ""
    pair = f" ({system.pair})" if system.pair and system.pair != other.pair else ""
    return f"{what}{system.label}{form}{pair}"


def possible_names(label: str) -> set[str]:
    """Return every name that a training of this label can have, whatever its number of members."""
    system = System(SystemRole.student, label)
    members = (replace(system, member=str(number)) for number in range(1, MAX_MEMBERS + 1))
    return {each.name for each in (system, replace(system, ensemble=True), *members)}
