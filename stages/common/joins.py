"""The fields of a backbone that is one network, or a join of several, each with layers of its own."""

from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from stages.common.limits import Location
from stages.common.yamlfile import ONE, SEVERAL


def of_backbone(value: Any) -> str:
    """Whether it names one network or a list of them."""
    return SEVERAL if isinstance(value, list) else ONE


def of_layers(value: Any) -> str:
    """Whether they are the layers of one network or a list of such lists."""
    return SEVERAL if isinstance(value, list) and any(isinstance(part, list) for part in value) else ONE


def pretrained(names: list[str]) -> list[str]:
    """The check of the names of a join."""
    if "simclr" in names:
        raise ValueError("simclr, which is trained from nothing, can't be joined; name pretrained networks alone")
    return names


Names = Annotated[list[Location], Field(min_length=2, max_length=4), AfterValidator(pretrained)]
Backbone = Annotated[Annotated[Location, Tag(ONE)] | Annotated[Names, Tag(SEVERAL)], Discriminator(of_backbone)]
Stages = Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=1, max_length=4)]
Lists = Annotated[list[Stages], Field(min_length=1, max_length=4)]
Layers = Annotated[Annotated[Stages, Tag(ONE)] | Annotated[Lists, Tag(SEVERAL)], Discriminator(of_layers)]


def check_layers(layers: list, backbone: str | list[str] | None) -> list:
    """The check of the layers of a backbone (None: it was refused itself)."""
    nested = of_layers(layers) == SEVERAL
    if isinstance(backbone, str) and nested:
        raise ValueError("one backbone takes one list, such as [2, 3]")
    if isinstance(backbone, list) and not (nested and len(layers) == len(backbone)):
        raise ValueError(f"{len(backbone)} backbones take {len(backbone)} lists, such as [[3, 5], [2, 3]]")
    return layers
