"""`tfl engines`."""

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal

from tyro.conf import Suppress

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines, print_table
from tfl.cli.startup import start_keras
from tfl.errors import SpecError
from tfl.reports.engines import ENGINE_COLUMNS, format_heading, format_notes, tabulate_engines
from tfl.specs import ComputeDtype, FeatureSpec


@dataclass(frozen=True)
class NetworkFlags(FeatureSpec):
    """The network that every engine runs."""

    weights: str = "random"
    """Weights as `tfl precompute` takes them; the rates do not depend on them."""
    compute_dtype: Annotated[ComputeDtype, Suppress] = "float32"
    quantized_network: Annotated[str, Suppress] = ""
    feature_dtype: Annotated[Literal["float32", "float16"], Suppress] = "float32"

    def make_plain(self) -> FeatureSpec:
        """Return the same as a FeatureSpec."""
        return FeatureSpec(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Engines:
    """Measure what this machine offers: images/s and memory of every engine in every compute dtype.

    Takes about a minute for ResNet50 on two cores, and no dataset: images are generated, of the network's own size.
    All ways take turns in several rounds. Memory is the most main memory that a way took while it was compiled and
    run, beside what the process held before; an accelerator's own memory is not in it.
    """

    network: NetworkFlags = NetworkFlags()
    batch_size: int = 0
    """Images per forward pass; 0 for as many as `tfl precompute` takes."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Measure and print the table."""
        if self.batch_size < 0:
            raise SpecError(f"batch_size is at least 0, got {self.batch_size}")
        start_keras()
        from tfl.engine.survey import survey_engines

        survey = survey_engines(self.network.make_plain(), self.batch_size)
        if self.as_json:
            print_json(survey)
            return
        print_lines(*format_heading(survey), "")
        print_table(ENGINE_COLUMNS, tabulate_engines(survey))
        print_lines("", *format_notes(survey))
