"""Writes the entries of a mixture into a recipe's chain: a stage that decodes for each member, and one that joins.

`mixture: {ours: {…}, opus: {}}` makes of the entry `decode` the entries `decode_ours` and `decode_opus`, and a stage of
the kind `mix` under the old name, so that all stages that read `decode` read the joined lists.
"""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.recipe.errors import as_user_error
from kd.recipe.schema import DecodeConfig, GivenModelsConfig, MixtureMemberConfig, StageConfig
from kd.stages import KINDS, load_kind

_MIXED = ("decode", "decode_source")  # entries whose lists a mixture joins
_ONE = "decode_one"  # the entry that students.one_teacher switches on
_TEACHERS = "teacher"
_FIXED = {  # settings of decode that no member can have of its own, and what to set instead
    "share": "Set decode.share, which holds for all members.",
    "members": "Name its teachers in mixture.{name}.teachers.",
    "teachers": "Name its teachers in mixture.{name}.teachers.",
}


def add_mixture(config: DictConfig) -> None:
    """Write the entries of the recipe's mixture into its chain; without a mixture, do nothing.

    Raises:
        UserError: The chain has no given teachers to mix, or a member names an unknown teacher or a setting that all
            members share.
    """
    if not config.mixture:
        return
    members = {name: MixtureMemberConfig(**each) for name, each in _plain(config.mixture, resolve=True).items()}
    _check_chain(config)
    known = list(dict.fromkeys(map(str, [*config.teachers, *config.given_models.members])))
    for name, member in members.items():
        _check_member(name, member, known)
    entries = _mixed(_plain(config.chain, resolve=False), members)
    typed = OmegaConf.structured(StageConfig)
    config.chain = {name: entry and OmegaConf.merge(typed, entry) for name, entry in entries.items()}
    config.evaluate.ensembles[_TEACHERS] = False  # the members of a mixture do not translate together


def _plain(node: DictConfig, *, resolve: bool) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=resolve, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _check_chain(config: DictConfig) -> None:
    chain = config.chain
    kinds = [chain[name].kind if chain.get(name) else None for name in (_TEACHERS, _MIXED[0])]
    configs = [load_kind(kind).config if kind in KINDS else None for kind in kinds]
    if configs != [GivenModelsConfig, DecodeConfig]:
        raise UserError(
            "mixture names given teachers, but the chain does not decode with any.",
            "Set chain=given_teachers (chain=multilingual_given_teachers for one student of several pairs), or leave "
            "out mixture.",
        )


def _check_member(name: str, member: MixtureMemberConfig, known: list[str]) -> None:
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"A member of a mixture cannot be called {name!r}.", "Use letters, digits and _.")
    for teacher in member.named(name):
        if teacher not in known:
            raise unknown_name(f"teacher (named by mixture.{name})", teacher, known)
    try:
        OmegaConf.merge(OmegaConf.structured(DecodeConfig), member.decode)
    except OmegaConfBaseException as error:
        raise as_user_error(error, f"mixture.{name}.decode", DecodeConfig) from None
    for key, hint in _FIXED.items():
        if key in member.decode:
            raise UserError(f"mixture.{name}.decode cannot set {key}.", hint.format(name=name))


def _mixed(chain: dict[str, Any], members: dict[str, MixtureMemberConfig]) -> dict[str, Any]:
    """Return the entries of a chain, with those of the mixture in the place of the stages that decode."""
    mixed: dict[str, Any] = {}
    added: list[str] = []
    for name, entry in chain.items():
        if name not in _MIXED or not entry:
            mixed[name] = entry
            continue
        lists = {member: f"{name}_{member}" for member in members}
        for member, stage in lists.items():
            if stage in chain:
                raise UserError(f"The chain already has a stage {stage}.", f"Rename the member {member} of mixture.")
            chosen = dict.fromkeys(members[member].named(member), True)
            mixed[stage] = {**entry, "changes": {**entry["changes"], **members[member].decode, "teachers": chosen}}
        inputs = {**entry["inputs"], "lists": lists}
        mixed[name] = {**entry, "kind": "mix", "inputs": inputs, "settings": {}, "changes": {}}
        added += lists.values()
    for reader in ("report", "release"):
        if isinstance((mixed.get(reader) or {}).get("inputs", {}).get("others"), dict):
            mixed[reader]["inputs"]["others"] |= {stage: stage for stage in added}
    if mixed.get(_ONE):  # its lists are those of the first member, which are decoded anyway
        mixed[_ONE] |= {"enabled": False, "otherwise": f"{_MIXED[0]}_{next(iter(members))}"}
    return mixed
