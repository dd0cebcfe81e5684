"""Types of the fields of params.yaml. Upper limits that mean nothing else are choices far above what a run can use."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from stages.common.textfile import printable

Of = TypeVar("Of")


def one_of(*values: Of) -> AfterValidator:
    """The check of a whole number, for which Literal would take true for 1, or of a text from a table."""

    def check(value: Of) -> Of:
        if value not in values:
            raise ValueError(f"must be {', '.join(map(str, values[:-1]))} or {values[-1]}")
        return value

    return AfterValidator(check)


Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Epochs = Annotated[int, Field(ge=0, le=10_000)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy's and scikit-learn's generators take
Weight = Annotated[float, Field(ge=0, le=1000)]
Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(printable)]
Location = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(printable)]  # PATH_MAX of Linux
NAME = r"^[a-z0-9][a-z0-9-]{0,99}$"  # of a variant, a baseline, an item of the plan: part of paths and of commands
Name = Annotated[str, Field(pattern=NAME)]
Rate = Annotated[float, Field(ge=1e-8, le=1)]
Side = Annotated[int, Field(ge=32, le=1024, multiple_of=16)]  # the trunk halves it four times
Choices = Annotated[list[Of], Field(min_length=1, max_length=16)]
